package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// CommandStyle is how a Command tells its program what happened. Both styles
// are those of Apache's mod_md, so that its users' scripts work as they are.
type CommandStyle int

const (
	// MessageStyle appends the event and the Domain's name, for every event,
	// as MDMessageCmd does: "renewed example.com". The event is the Kind; for
	// ChallengeSetup "challenge-setup:", the challenge type, ":" and the DNS
	// name.
	MessageStyle CommandStyle = iota

	// NotifyStyle appends the Domain's name alone, and runs the program for
	// Renewed only, as MDNotifyCmd does.
	NotifyStyle
)

// Limits of a Command.
const (
	commandTimeout = time.Minute
	commandGrace   = time.Second // for output, once the program has ended
	maxOutput      = 16 << 10    // bytes, of each stream
	maxLine        = 1 << 10     // bytes
)

// Command is a Notifier that runs a program for each event. Its fields must
// not change once it is in use; Notify may be called concurrently.
//
// The program is started directly, without a shell, in a process group of its
// own. It has the environment and directory of this process and an empty
// standard input. What it writes is logged: lines of standard output on the
// info level, of standard error as warnings, each cut off after 1 KiB, and
// about 16 KiB of each stream.
//
// An exit status other than zero vetoes what can be vetoed; see ErrVeto. A
// program that cannot be started, takes too long or is killed by a signal
// does not: a hook that is broken must not let certificates expire. For other
// events, all of these are errors, and Renewed comes again.
type Command struct {
	// Args are the program and its first arguments, as ParseCommand returns
	// them. A program without a slash is looked up in PATH.
	Args []string

	// Style is how the program is told. The zero Style is MessageStyle.
	Style CommandStyle

	// Timeout is how long the program may take. Then its process group is
	// killed (on Windows, the process). Zero is a minute, which is as long as
	// a Manager waits for a Notifier.
	Timeout time.Duration

	// Logger hears what the program writes. Nil is silent.
	Logger *slog.Logger
}

// Notify runs the program, and waits for it.
func (c *Command) Notify(ctx context.Context, e Event) error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("the command to run has no program")
	}
	args := c.arguments(e)
	if args == nil {
		return nil
	}
	if err := c.run(ctx, e, args); err != nil {
		// Without the other arguments, in which there may be a password.
		return fmt.Errorf("the command %q, run for %s of %q, %w", args[0], e.Kind, e.Domain, err)
	}
	return nil
}

// arguments returns the program and all of its arguments, or nil if it is not
// to be run for e.
func (c *Command) arguments(e Event) []string {
	args := append([]string(nil), c.Args...)
	switch {
	case c.Style == MessageStyle && e.Kind == ChallengeSetup:
		return append(args, string(e.Kind)+":"+e.ChallengeType+":"+e.ChallengeName, e.Domain)
	case c.Style == MessageStyle:
		return append(args, string(e.Kind), e.Domain)
	case e.Kind == Renewed:
		return append(args, e.Domain)
	}
	return nil
}

// run returns an error that is the rest of a sentence about the command.
func (c *Command) run(ctx context.Context, e Event, args []string) error {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = commandTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, args[0], args[1:]...)
	ownGroup(cmd)
	// A grandchild may keep the pipes open when the program has ended.
	cmd.WaitDelay = commandGrace
	stdout := &lineLog{print: c.print(ctx, slog.LevelInfo, args[0], e), left: maxOutput}
	stderr := &lineLog{print: c.print(ctx, slog.LevelWarn, args[0], e), left: maxOutput}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	stdout.end()
	last := stderr.end()

	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it has ended well; what it left running is its own affair
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("was stopped: %w", context.Cause(ctx))
	case limited.Err() != nil:
		return fmt.Errorf("was killed because it took longer than %v", timeout)
	case !errors.As(err, &exit):
		return fmt.Errorf("cannot be run: %w", err)
	}
	said := ""
	if last != "" {
		said = fmt.Sprintf(" and said %q", last)
	}
	if exit.ExitCode() > 0 && (e.Kind == Renewing || e.Kind == ChallengeSetup) {
		return fmt.Errorf("%w it: it ended with %v%s", ErrVeto, exit, said)
	}
	return fmt.Errorf("ended with %w%s", exit, said)
}

// print returns what a line of output is handed to.
func (c *Command) print(ctx context.Context, level slog.Level, program string, e Event) func(line string) {
	return func(line string) {
		if c.Logger != nil {
			c.Logger.Log(ctx, level, "output of a command", "line", line, "command", program, "event", string(e.Kind), "domain", e.Domain)
		}
	}
}

// lineLog prints what is written to it line by line, up to a limit. What is
// beyond is read all the same: a program that cannot write would hang.
type lineLog struct {
	print func(line string)

	mu    sync.Mutex // guards what follows: exec may still write when its Wait has given up
	line  []byte     // that is not complete yet
	last  string     // that was printed
	left  int        // bytes to print
	ended bool
}

// Write never fails.
func (l *lineLog) Write(p []byte) (int, error) {
	for _, line := range l.take(p) {
		l.print(line)
	}
	return len(p), nil
}

// take returns the lines that p completes.
func (l *lineLog) take(p []byte) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 && !l.ended {
		part, rest, complete := bytes.Cut(p, []byte("\n"))
		part = part[:min(len(part), maxLine-len(l.line))]
		l.line = append(l.line, part...)
		l.left -= len(part) + 1 // one for the line's end, so that empty lines are bounded, too
		p = rest
		if complete {
			lines = append(lines, l.complete()...)
		}
		if l.left <= 0 {
			lines = append(lines, l.complete()...)
			lines = append(lines, "(there was more output)")
			l.ended = true
		}
	}
	return lines
}

// complete returns the line that is complete, if it says anything.
func (l *lineLog) complete() []string {
	line := clean(strings.TrimSpace(string(l.line)))
	l.line = l.line[:0]
	if line == "" {
		return nil
	}
	l.last = line
	return []string{line}
}

// end prints what is left, and returns the last line that was printed.
func (l *lineLog) end() string {
	l.mu.Lock()
	lines := l.complete()
	l.ended = true
	last := l.last
	l.mu.Unlock()
	for _, line := range lines {
		l.print(line)
	}
	return last
}
