package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
)

// diary is a Notifier that writes down what it is told.
type diary struct {
	mu     sync.Mutex
	events []md.Event
	answer func(e md.Event) error
}

func (d *diary) Notify(_ context.Context, e md.Event) error {
	d.mu.Lock()
	d.events = append(d.events, e)
	answer := d.answer
	d.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(e)
}

// kinds returns the events in short.
func (d *diary) kinds() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var kinds []string
	for _, e := range d.events {
		kinds = append(kinds, string(e.Kind))
	}
	return strings.Join(kinds, " ")
}

func (d *diary) count(kind status.Kind) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, e := range d.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestEventsOfAFirstOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var d diary
		m := w.manager(md.Domain{Names: []string{"example.com", "www.example.com"}})
		m.Notifier = &d
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(day)
		n.stopped()
		want := "renewing challenge-setup challenge-setup renewed installed"
		if got := d.kinds(); got != want {
			t.Errorf("the events are %q, want %q", got, want)
		}
		for _, e := range d.events {
			if e.Domain != "example.com" || len(e.Names) != 2 || e.CA != w.ca.DirectoryURL() || e.Time.IsZero() {
				t.Errorf("%s lacks something: %+v", e.Kind, e)
			}
		}
		if got := d.events[3].Certificates; len(got) != 1 || got[0].Serial == "" || got[0].CA == "" || got[0].URL == "" {
			t.Errorf("renewed tells of the certificates %+v", got)
		}
		// A restart installs nothing new, and has nothing to tell.
		d.events = nil
		m = w.manager(md.Domain{Names: []string{"example.com", "www.example.com"}})
		m.Notifier = &d
		n = w.start(m)
		time.Sleep(day)
		n.stopped()
		if got := d.kinds(); got != "" {
			t.Errorf("after a restart the events are %q, want none", got)
		}
	})
}

func TestRenewedIsRepeatedUntilItIsAccepted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var refuse atomic.Bool
		refuse.Store(true)
		d := &diary{answer: func(e md.Event) error {
			if e.Kind == status.Renewed && refuse.Load() {
				return errors.New("the mail server is down")
			}
			return nil
		}}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(6 * time.Hour)
		n.stopped()
		first := d.count(status.Renewed)
		if first < 5 || first > 15 {
			t.Errorf("renewed was raised %d times in 6 hours, want between 5 and 15: with growing delay", first)
		}
		refuse.Store(false)
		m = w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n = w.start(m) // also across a restart
		time.Sleep(2 * day)
		n.stopped()
		if got := d.count(status.Renewed); got != first+1 {
			t.Errorf("renewed was raised %d times in all, want %d: once more, and accepted", got, first+1)
		}
		if got := len(w.ca.Certificates()); got != 1 {
			t.Errorf("%d certificates, want 1: what the Notifier says undoes nothing", got)
		}
	})
}

func TestOnlyErrVetoVetoes(t *testing.T) {
	for _, kind := range []status.Kind{status.Renewing, status.ChallengeSetup} {
		t.Run(string(kind), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				var answer atomic.Value
				answer.Store(fmt.Errorf("just %w", errors.New("an error")))
				d := &diary{answer: func(e md.Event) error {
					if e.Kind == kind {
						return answer.Load().(error)
					}
					return nil
				}}
				m := w.manager(md.Domain{Names: []string{"example.com"}})
				m.Notifier = d
				n := w.start(m)
				n.ready(time.Minute)
				time.Sleep(day)
				answer.Store(fmt.Errorf("not on a Sunday: %w", md.ErrVeto))
				if err := n.m.Renew(context.Background(), "example.com"); !errors.Is(err, md.ErrVeto) {
					t.Errorf("Renew with a veto: got %v, want ErrVeto", err)
				}
				n.stopped()
				if got := len(w.ca.Certificates()); got != 1 {
					t.Errorf("%d certificates were issued, want 1: before the veto", got)
				}
			})
		})
	}
}

func TestAVetoedRenewalIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := &diary{answer: func(md.Event) error { return md.ErrVeto }}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		time.Sleep(5 * day)
		r := n.report("example.com")
		n.stopped()
		if r.Renewal == nil || r.Renewal.Attempts != 0 {
			t.Errorf("after vetoes the status counts failures: %+v", r.Renewal)
		}
		if got := w.ca.Requests()["newOrder"]; got != 0 {
			t.Errorf("%d orders in spite of vetoes", got)
		}
		if got := d.count(status.Renewing); got < 5 || got > 25 {
			t.Errorf("renewing was raised %d times in 5 days, want about ten: at the regular looks", got)
		}
	})
}

func TestErroredTellsTheCAsWords(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Policy = func(string) error { return errors.New("the CA's own words") }
		var d diary
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = &d
		n := w.start(m)
		err := n.m.Ready(context.Background(), "example.com")
		if !errors.Is(err, md.ErrNotReady) || !strings.Contains(err.Error(), "the CA's own words") {
			t.Errorf("Ready: got %v, want ErrNotReady with the CA's words: trying again is no use", err)
		}
		time.Sleep(20 * time.Hour)
		n.stopped()
		if got := d.kinds(); got != "renewing errored" {
			t.Fatalf("the events are %q, want one attempt: a permanent problem waits a day", got)
		}
		e := d.events[1]
		var p *md.Problem
		if !errors.As(e.Err, &p) || p.Kind() != "rejectedIdentifier" || e.Attempts != 1 || e.NextAttempt.IsZero() {
			t.Errorf("errored lacks something: %+v", e)
		}
	})
}

func TestAPanicCostsOneAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var panics atomic.Int64
		panics.Store(1)
		d := &diary{answer: func(e md.Event) error {
			if e.Kind == status.Renewing && panics.Add(-1) >= 0 {
				panic("oh no")
			}
			return nil
		}}
		m := w.manager(md.Domain{Names: []string{"example.com"}}, md.Domain{Names: []string{"other.example"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Hour)
		n.stopped()
		if !w.logged("oh no") {
			t.Errorf("the panic is not in the log")
		}
	})
}
