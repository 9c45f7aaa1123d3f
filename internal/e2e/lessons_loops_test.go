package e2e_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
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

// Certificates that the Store has lost, or that somebody has spoiled there, are
// served on. While the CA does not let them be replaced, nothing about them
// makes the node look without end: not what the CA might say of when to renew
// them, nor what is still to be revoked.
func TestLostCertificatesDoNotMakeItSpin(t *testing.T) {
	for what, lose := range map[string]func(ctx context.Context, w *world) error{
		"lost": func(ctx context.Context, w *world) error {
			return w.store.Delete(ctx, "domains/example.com", store.Any)
		},
		"spoiled": func(ctx context.Context, w *world) error {
			_, err := w.store.Put(ctx, "domains/example.com", []byte("spoiled"), store.Any)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.ca.Fault = faultOn("revoke", acmetest.FaultBefore, nil)
				var l leases
				m := w.manager(md.Domain{Names: []string{"example.com"}})
				l.count(m)
				n := w.start(m)
				n.ready(time.Minute)
				time.Sleep(time.Hour)
				if err := n.m.Revoke(t.Context(), "example.com", md.KeyCompromise); err == nil {
					t.Error("nobody says that the certificate is not revoked")
				}
				w.ca.SetDown(true)
				if err := lose(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * day)
				before := l.n.Load()
				time.Sleep(5 * day)
				if got := l.n.Load() - before; got > 5*20 {
					t.Errorf("the Domain was looked at %d times in five days", got)
				}
				w.served("example.com")
				n.stopped()
			})
		})
	}
}
