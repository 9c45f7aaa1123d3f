package status_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manageddomains/md/status"
)

// helperVariable makes this test's own binary the program of a Command: its
// first argument says what it does.
const helperVariable = "MD_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		os.Exit(helper(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// helper is the program. It returns its exit status.
func helper(what string, args []string) int {
	switch what {
	case "echo":
		fmt.Printf("%q\n", args)
		input, err := io.ReadAll(os.Stdin)
		fmt.Printf("input %q %v\n", input, err)
	case "fail":
		fmt.Println("on standard output")
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprint(os.Stderr, "last \x1b[2Jline")
		return 3
	case "flood":
		for range 1000 {
			fmt.Println(strings.Repeat("x", 1500))
			fmt.Fprintln(os.Stderr)
		}
		fmt.Print(strings.Repeat("y", 1<<20))
	case "killed":
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		fmt.Println(err)
		hang()
	case "hang":
		hang()
	case "parent", "parent that hangs":
		child := exec.Command(os.Args[0], "child", args[0])
		child.Stdout, child.Stderr = os.Stdout, os.Stderr // it keeps the pipes open
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		if what == "parent that hangs" {
			hang()
		}
		fmt.Println("done")
	case "child":
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Fprintln(conn, "up")
		_, _ = io.Copy(io.Discard, conn) // until the test lets go of it
	}
	return 0
}

// hang does not return: nobody sends what it waits for.
func hang() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, os.Interrupt)
	<-never
}

// lines is a slog.Handler that keeps the lines of output.
type lines struct {
	slog.Handler
	mu   sync.Mutex
	said []string // level and line
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "line" {
			l.said = append(l.said, r.Level.String()+" "+a.Value.String())
		}
		return true
	})
	return nil
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// command returns a Command that runs this binary, and what it says.
func command(t *testing.T, args ...string) (*status.Command, *lines) {
	t.Helper()
	t.Setenv(helperVariable, "1")
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector would let each program wait for a second
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said := &lines{}
	return &status.Command{Args: append([]string{self}, args...), Logger: slog.New(said)}, said
}

var challengeSetup = status.Event{Kind: status.ChallengeSetup, Domain: "example.com", ChallengeType: "dns-01", ChallengeName: "www.example.com"}

func TestCommandGetsItsArguments(t *testing.T) {
	for _, test := range []struct {
		name  string
		style status.CommandStyle
		event status.Event
		want  string // its arguments; empty: it does not run
	}{
		{"a message", status.MessageStyle, status.Event{Kind: status.Renewed, Domain: "example.com"}, `["a b" "renewed" "example.com"]`},
		{"a message of a challenge", status.MessageStyle, challengeSetup, `["a b" "challenge-setup:dns-01:www.example.com" "example.com"]`},
		{"a message of a wildcard", status.MessageStyle, status.Event{Kind: status.Expiring, Domain: "*.example.com; $(x)"}, `["a b" "expiring" "*.example.com; $(x)"]`},
		{"a notification", status.NotifyStyle, status.Event{Kind: status.Renewed, Domain: "example.com"}, `["a b" "example.com"]`},
		{"no notification of another event", status.NotifyStyle, challengeSetup, ""},
		{"no notification of a failure", status.NotifyStyle, status.Event{Kind: status.Errored, Domain: "example.com"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, said := command(t, "echo", "a b")
			c.Style = test.style
			if err := c.Notify(t.Context(), test.event); err != nil {
				t.Fatal(err)
			}
			var want []string
			if test.want != "" {
				want = []string{"INFO " + test.want, `INFO input "" <nil>`}
			}
			if got := said.all(); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestCommandThatFails(t *testing.T) {
	for _, test := range []struct {
		event status.Event
		veto  bool
	}{
		{status.Event{Kind: status.Renewing, Domain: "example.com"}, true},
		{challengeSetup, true},
		{status.Event{Kind: status.Renewed, Domain: "example.com"}, false},
		{status.Event{Kind: status.Installed, Domain: "example.com"}, false},
		{status.Event{Kind: status.Expiring, Domain: "example.com"}, false},
		{status.Event{Kind: status.Errored, Domain: "example.com"}, false},
	} {
		t.Run(string(test.event.Kind), func(t *testing.T) {
			c, said := command(t, "fail", "--password=secret")
			err := c.Notify(t.Context(), test.event)
			if got := errors.Is(err, status.ErrVeto); got != test.veto {
				t.Errorf("got error %v, want a veto: %v", err, test.veto)
			}
			wantError(t, err, "exit status 3 and said \"last \ufffd[2Jline\"")
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a password: %v", err)
			}
			got := said.all()
			slices.Sort(got) // the two streams come side by side
			if want := []string{"INFO on standard output", "WARN first line", "WARN last \ufffd[2Jline"}; !slices.Equal(got, want) {
				t.Errorf("got output %q, want %q", got, want)
			}
		})
	}
}

func TestCommandThatCannotBeRunDoesNotVeto(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no program", nil, "has no program"},
		{"an empty program", []string{"", "x"}, "has no program"},
		{"a missing program", []string{filepath.Join(t.TempDir(), "nothing")}, "cannot be run"},
		{"a missing program in PATH", []string{"md-there-is-no-such-program"}, "cannot be run"},
		{"a file that is no program", []string{notExecutable}, "cannot be run"},
		{"an argument that cannot be", []string{os.Args[0], "a\x00b"}, "cannot be run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &status.Command{Args: test.args}
			err := c.Notify(t.Context(), challengeSetup)
			wantError(t, err, test.want)
			if errors.Is(err, status.ErrVeto) {
				t.Errorf("got a veto: %v", err)
			}
		})
	}
}

func TestCommandThatIsKilledDoesNotVeto(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has no signals: a killed process looks as if it had failed")
	}
	c, _ := command(t, "killed")
	err := c.Notify(t.Context(), challengeSetup)
	wantError(t, err, "signal: killed")
	if errors.Is(err, status.ErrVeto) {
		t.Errorf("got a veto: %v", err)
	}
}

func TestCommandThatHangsIsKilled(t *testing.T) {
	c, _ := command(t, "hang")
	c.Timeout = time.Millisecond
	err := c.Notify(t.Context(), challengeSetup)
	wantError(t, err, "longer than 1ms")
	if errors.Is(err, status.ErrVeto) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got a veto or an error of the context: %v", err)
	}
}

func TestCommandObeysItsContext(t *testing.T) {
	c, said := command(t, "echo")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.Notify(ctx, challengeSetup)
	wantError(t, err, "was stopped")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if got := said.all(); got != nil {
		t.Errorf("it ran: %q", got)
	}
}

// grandchild waits until a program's child is up. The connection ends with it.
func grandchild(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	return conn
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestCommandIsKilledWithAllThatItStarted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has no process groups")
	}
	l := loopback(t)
	c, _ := command(t, "parent that hangs", l.Addr().String())
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Notify(ctx, challengeSetup) }()
	conn := grandchild(t, l)
	defer conn.Close()
	stopping := errors.New("the server stops")
	cancel(stopping)
	if err := <-ended; !errors.Is(err, stopping) || errors.Is(err, status.ErrVeto) {
		t.Errorf("got error %v, want the context's cause", err)
	}
	_, _ = io.Copy(io.Discard, conn) // ends with the grandchild, in whatever way, and else never
}

func TestCommandDoesNotWaitForWhatItLeftRunning(t *testing.T) {
	l := loopback(t)
	c, said := command(t, "parent", l.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- c.Notify(t.Context(), challengeSetup) }()
	conn := grandchild(t, l)
	defer conn.Close() // ends the grandchild
	if err := <-ended; err != nil {
		t.Errorf("got error %v", err)
	}
	if got, want := said.all(), []string{"INFO done"}; !slices.Equal(got, want) {
		t.Errorf("got output %q, want %q", got, want)
	}
}

func TestCommandOutputIsBounded(t *testing.T) {
	c, said := command(t, "flood")
	if err := c.Notify(t.Context(), challengeSetup); err != nil {
		t.Fatal(err)
	}
	total, more := 0, 0
	for _, line := range said.all() {
		_, text, _ := strings.Cut(line, " ")
		if text == "(there was more output)" {
			more++
			continue
		}
		if total += len(text); len(text) > 1<<10 {
			t.Errorf("got a line of %d bytes", len(text))
		}
	}
	if total > 17<<10 || total < 8<<10 {
		t.Errorf("got %d bytes, want about 16 KiB", total)
	}
	if more != 1 {
		t.Errorf("got told %d times that there was more, want once", more)
	}
}

func TestCommandMayBeSilent(t *testing.T) {
	c, _ := command(t, "fail")
	c.Logger = nil
	if err := c.Notify(t.Context(), challengeSetup); !errors.Is(err, status.ErrVeto) {
		t.Errorf("got error %v, want a veto", err)
	}
}

func TestCommandLogsWhatItIsAbout(t *testing.T) {
	c, _ := command(t, "echo")
	var out bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&out, nil))
	if err := c.Notify(t.Context(), challengeSetup); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`msg="output of a command"`, "event=challenge-setup", "domain=example.com"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got log\n%swant %s", out.String(), want)
		}
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

// A script that Apache's mod_md ran for MDMessageCmd works as it is.
func ExampleCommand() {
	args, err := status.ParseCommand(`echo "my server:"`)
	if err != nil {
		fmt.Println(err)
		return
	}
	var notifier status.Notifier = &status.Command{Args: args, Logger: slog.Default()}
	_ = notifier // give it to a Manager
	fmt.Printf("%q\n", args)
	// Output: ["echo" "my server:"]
}
