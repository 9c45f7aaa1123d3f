package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
)

// TestMain lets the test's own binary be the program that Notifiers run.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "hook" {
		os.Exit(runHook(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// runHook is a program such as operators write: it notes with which arguments
// it was run, and refuses what begins with what the file "refuse" says.
func runHook(dir string, args []string) int {
	f, err := os.OpenFile(filepath.Join(dir, "told"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer f.Close()
	line := strings.Join(args, " ")
	fmt.Fprintln(f, line)
	if refuse, err := os.ReadFile(filepath.Join(dir, "refuse")); err == nil && strings.HasPrefix(line, string(refuse)) {
		fmt.Fprintln(os.Stderr, "not on a Friday")
		return 1
	}
	fmt.Println("done with", line)
	return 0
}

// program is that program with its directory.
type program struct {
	t   *testing.T
	dir string
}

func newProgram(t *testing.T) *program { return &program{t: t, dir: t.TempDir()} }

// command returns the Notifier that runs the program.
func (p *program) command(m *md.Manager, style status.CommandStyle) *status.Command {
	p.t.Helper()
	binary, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	return &status.Command{Args: []string{binary, "hook", p.dir}, Style: style, Logger: m.Logger}
}

// told returns the arguments with which it was run, a line each.
func (p *program) told() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "told"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(text)
}

func (p *program) refuses(what string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "refuse"), []byte(what), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) takesAll() {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.dir, "refuse")); err != nil {
		p.t.Fatal(err)
	}
}

func TestAProgramIsToldWhatHappens(t *testing.T) {
	tests := []struct {
		style status.CommandStyle
		name  string
		want  string
	}{
		{status.MessageStyle, "as MDMessageCmd", `renewing example.com
challenge-setup:tls-alpn-01:example.com example.com
challenge-setup:tls-alpn-01:www.example.com example.com
renewed example.com
installed example.com
`},
		{status.NotifyStyle, "as MDNotifyCmd", "example.com\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newProgram(t)
			bubble(t, func(t *testing.T, w *world) {
				m := w.manager(md.Domain{Names: []string{"example.com", "www.example.com"}})
				m.Notifier = p.command(m, test.style)
				n := w.start(m)
				n.ready(time.Minute)
				time.Sleep(day)
				n.stopped()
				if got := p.told(); got != test.want {
					t.Errorf("the program was run with\n%swant\n%s", got, test.want)
				}
				if !w.logged("done with ") {
					t.Errorf("what it has written is not in the log")
				}
			})
		})
	}
}

func TestAProgramVetoesByItsExitStatus(t *testing.T) {
	tests := []struct {
		refuses string
		orders  int
	}{
		{refuses: "renewing"},
		{refuses: "challenge-setup", orders: 1},
	}
	for _, test := range tests {
		t.Run(test.refuses, func(t *testing.T) {
			p := newProgram(t)
			bubble(t, func(t *testing.T, w *world) {
				p.refuses(test.refuses)
				m := w.manager(md.Domain{Names: []string{"example.com"}, Challengers: []md.Challenger{&md.HTTP01{}}})
				m.Notifier = p.command(m, status.MessageStyle)
				n := w.start(m)
				time.Sleep(2 * day)
				if got := len(w.ca.Orders()); got != test.orders {
					t.Errorf("%d orders in spite of the veto, want %d", got, test.orders)
				}
				if got := len(w.ca.Validations()); got != 0 {
					t.Errorf("the CA was told to look %d times in spite of the veto", got)
				}
				if r := n.report("example.com").Renewal; r.Attempts != 0 {
					t.Errorf("the veto counts as %d failures", r.Attempts)
				}
				err := n.m.Renew(context.Background(), "example.com")
				if !errors.Is(err, md.ErrVeto) || !strings.Contains(err.Error(), "not on a Friday") {
					t.Errorf("Renew: got %v, want ErrVeto with what the program has said", err)
				}
				p.takesAll()
				n.ready(day)
				w.served("example.com")
				n.stopped()
			})
		})
	}
}

func TestAProgramThatFailsUndoesNothing(t *testing.T) {
	tests := []struct {
		style   status.CommandStyle
		refuses string
		again   string // the line that is to come again
	}{
		{status.MessageStyle, "renewed", "renewed example.com\n"},
		{status.NotifyStyle, "example.com", "example.com\n"},
	}
	for _, test := range tests {
		t.Run(test.refuses, func(t *testing.T) {
			p := newProgram(t)
			bubble(t, func(t *testing.T, w *world) {
				p.refuses(test.refuses)
				m := w.manager(md.Domain{Names: []string{"example.com"}})
				m.Notifier = p.command(m, test.style)
				n := w.start(m)
				n.ready(time.Minute)
				serial := w.served("example.com")
				time.Sleep(3 * time.Hour)
				before := strings.Count(p.told(), test.again)
				if before < 3 || before > 12 {
					t.Errorf("it was run %d times in three hours, want 3 to 12: with growing delay", before)
				}
				p.takesAll()
				time.Sleep(2 * day)
				if got := strings.Count(p.told(), test.again); got != before+1 {
					t.Errorf("it was run %d times more, want once", got-before)
				}
				if got := w.served("example.com"); got != serial {
					t.Errorf("%s is served, want %s: what it says undoes nothing", got, serial)
				}
				n.stopped()
			})
		})
	}
}

func TestAProgramThatCannotBeRunVetoesNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = &status.Command{Args: []string{missing}, Logger: m.Logger}
		n := w.start(m)
		n.ready(time.Minute)
		if !w.logged("cannot be run") {
			t.Errorf("the log does not say that the program cannot be run")
		}
		n.stopped()
	})
}
