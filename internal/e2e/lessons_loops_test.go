package e2e_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store/storetest"
)

// leases counts how often leases were written, and lets a node that turns in
// circles find time: a loop without a pause would never end in a bubble.
type leases struct{ n, hot atomic.Int64 }

// count has the leases of m counted.
func (l *leases) count(m *md.Manager) {
	const rush = 200
	m.Store = &storetest.Faulty{Store: m.Store, Fault: func(op storetest.Op) storetest.Fault {
		if op.Kind == "put" && strings.HasPrefix(op.Key, "leases/") && l.n.Add(1)%rush == 0 {
			l.hot.Add(1)
			time.Sleep(time.Hour)
		}
		return storetest.FaultNone
	}}
}

// wantCool fails if there were too many leases.
func (l *leases) wantCool(t *testing.T) {
	t.Helper()
	if l.hot.Load() > 0 {
		t.Errorf("a node works without a pause: over %d leases", l.n.Load())
	}
}

func TestHoldDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var l leases
		m := w.manager(md.Domain{Names: []string{"example.com"}, HoldActivation: md.On})
		l.count(m)
		n := w.start(m)
		time.Sleep(2 * time.Hour)
		n.stopped()
		l.wantCool(t)
	})
}

func TestExpiredWithARIDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RenewalInfo = true
		w.ca.Lifetime = 20 * day
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Hour)
		time.Sleep(10 * day)
		w.ca.SetDown(true)
		time.Sleep(13 * day)
		n.stopped()

		var l leases
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		l.count(m)
		n = w.start(m)
		time.Sleep(12 * time.Hour)
		n.stopped()
		l.wantCool(t)
	})
}

func TestUnannouncedDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := &diary{answer: func(e md.Event) error {
			if e.Kind == status.Renewed {
				return errors.New("down")
			}
			return nil
		}}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Hour)
		time.Sleep(59 * day)
		w.ca.SetDown(true)
		time.Sleep(5 * day)
		n.stopped()

		var l leases
		m = w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		l.count(m)
		n = w.start(m)
		time.Sleep(40 * time.Hour)
		n.stopped()
		l.wantCool(t)
	})
}
