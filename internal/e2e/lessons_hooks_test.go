package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// idle is a Challenger for http-01 that does nothing.
type idle struct{}

func (idle) Types() []string                                    { return []string{challenge.TypeHTTP01} }
func (idle) Present(context.Context, challenge.Challenge) error { return nil }
func (idle) CleanUp(context.Context, challenge.Challenge) error { return nil }

// curious is a Challenger that looks at the status.
type curious struct {
	idle
	m **md.Manager
}

func (c *curious) Types() []string {
	if *c.m != nil {
		for range (*c.m).Status() {
		}
	}
	return c.idle.Types()
}

// stuck is a Challenger that does not come back from cleaning up.
type stuck struct{ idle }

func (stuck) CleanUp(context.Context, challenge.Challenge) error {
	time.Sleep(day)
	return nil
}

// TestUserCodeUnderLock would never end if a Challenger were asked for its
// types under a lock that Status takes.
func TestUserCodeUnderLock(t *testing.T) {
	var known *md.Manager // to the Challenger, from its first answer on
	c := &curious{m: &known}
	m := &md.Manager{Store: new(store.Memory), Domains: []md.Domain{{Names: []string{"example.com"}, Challengers: []md.Challenger{c}}}}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	for range m.Status() {
	}
	known = m
	if err := m.Load(context.Background()); err != nil {
		t.Error(err)
	}
	if err := m.Update(context.Background(), m.Domains); err != nil {
		t.Error(err)
	}
}

func TestShutdownWaitsForHooksOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Faults.SlowValidation = 1
		w.ca.RetryAfter = 50 * time.Second
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("d%d.example.com", i))
		}
		n := w.start(w.manager(md.Domain{Names: names, Challengers: []md.Challenger{&stuck{}}}))
		time.Sleep(2 * time.Second)
		began := time.Now()
		n.stop()
		err := <-n.done
		if took := time.Since(began); took > 45*time.Second {
			t.Errorf("shutting down took %v: %v", took, err)
		}
		time.Sleep(25 * time.Hour) // until the hooks have come back
	})
}

func TestHangingNotifierLeaks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var calls atomic.Int64
		end := make(chan bool)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = md.NotifierFunc(func(context.Context, md.Event) error {
			calls.Add(1)
			<-end
			return errors.New("it was about to end")
		})
		w.ca.SetDown(true)
		n := w.start(m)
		time.Sleep(20 * day)
		if got := calls.Load(); got > 4 {
			t.Errorf("%d calls hang at once", got)
		}
		n.stop()
		if err := <-n.done; err == nil {
			t.Error("Serve returned nil, want an error that names the hook that hangs")
		}
		close(end)
	})
}

func TestHeldCertificatesExpireWithAWarning(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := new(diary)
		m := w.manager(md.Domain{Names: []string{"example.com"}, HoldActivation: md.On, ARI: md.Off})
		m.Notifier = d
		n := w.start(m)
		time.Sleep(time.Minute)
		if err := n.m.Activate(context.Background(), "example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(89 * day)
		if d.count(status.Expiring) == 0 {
			t.Errorf("a day before the end of the certificate in use nobody has been warned: %s", d.kinds())
		}
		n.stopped()
	})
}
