package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md"
)

// traceLog is what has happened, and what of it should not have. Without
// -sim.trace it is the last of it, and nothing is made into text before it is
// to be read: few seeds fail.
type traceLog struct {
	mu       sync.Mutex // guards what follows
	lines    []traceLine
	dropped  bool
	violated []string
}

// traceLine is a line of the trace. What args point to does not change.
type traceLine struct {
	at     time.Time
	format string
	args   []any
}

func (l traceLine) String() string {
	return l.at.UTC().Format("2006-01-02 15:04:05.000 ") + strings.TrimSpace(fmt.Sprintf(l.format, l.args...))
}

// keptLines is how much of the trace is kept, give or take as much again.
const keptLines = 1000

// trace notes what happens.
func (s *sim) trace(format string, args ...any) {
	line := traceLine{time.Now(), format, args}
	if s.verbose { // the text of an error may yet change
		line.format, line.args = "%s", []any{strings.TrimSpace(fmt.Sprintf(format, args...))}
	}
	l := &s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) >= 2*keptLines && !s.verbose {
		n := copy(l.lines, l.lines[len(l.lines)-keptLines:])
		clear(l.lines[n:])
		l.lines, l.dropped = l.lines[:n], true
	}
	l.lines = append(l.lines, line)
}

func (s *sim) traceConfig(what string, domains []md.Domain) {
	for _, d := range domains {
		what += fmt.Sprintf("; %s %v %v delay %v", d.Name, d.Names, d.KeyTypes, d.ActivationDelay)
	}
	s.trace("%s", what)
}

// violate notes that an invariant does not hold.
func (s *sim) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.trace("VIOLATION: %s", text)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.violated = append(s.log.violated, text)
}

func (s *sim) failed() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return len(s.log.violated) > 0
}

// text is the trace as text.
func (l *traceLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	if l.dropped {
		b.WriteString("(the beginning is left out)\n")
	}
	for _, line := range l.lines {
		b.WriteString(line.String() + "\n")
	}
	return b.String()
}

// report prints what is wrong, and how to see it again.
func (s *sim) report() {
	for _, text := range s.log.violated {
		s.t.Error(text)
	}
	if !s.failed() && !*simTrace {
		return
	}
	if path := os.Getenv("SIM_TRACE"); path != "" {
		if err := os.WriteFile(path, []byte(s.log.text()), 0o600); err != nil {
			s.t.Error(err)
		}
		return
	}
	s.t.Logf("what happened:\n%s", s.log.text())
	s.t.Logf("to see it again, with all that the nodes log: GOMAXPROCS=1 go test ./internal/e2e -run '^TestSimulation$' -sim.from=%d -sim.seeds=1 -sim.years=%v -sim.trace", s.seed, *simYears)
}
