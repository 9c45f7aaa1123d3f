package e2e_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store/storetest"
)

// leaveStaged starts a node for d, activates what it gets, and stops it before
// that is taken out of staging.
func (w *world) leaveStaged(d md.Domain) {
	w.t.Helper()
	var dead atomic.Bool
	m := w.manager(d)
	m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
		if op.Kind == "delete" && strings.HasPrefix(op.Key, "staging/") {
			dead.Store(true)
		}
		if dead.Load() {
			return storetest.FaultBefore
		}
		return storetest.FaultNone
	}}
	n := w.start(m)
	time.Sleep(10 * time.Second)
	if d.HoldActivation == md.On {
		if err := n.m.Activate(w.t.Context(), d.Names[0]); err != nil {
			w.t.Fatal(err)
		}
	}
	n.stopped()
	if keys := w.keys("staging/"); len(keys) != 1 {
		w.t.Fatalf("in staging are %v", keys)
	}
}

// What is active, but could not be taken out of staging, does not wait for
// anybody to activate it.
func TestWhatIsActiveDoesNotWaitForActivation(t *testing.T) {
	for name, d := range map[string]md.Domain{
		"held":    {HoldActivation: md.On},
		"delayed": {ActivationDelay: 5 * day},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				d.Names = []string{"example.com"}
				w.leaveStaged(d)
				n := w.start(w.manager(d))
				defer n.stopped()
				time.Sleep(time.Hour)
				if r := n.report("example.com"); len(r.Staged) > 0 {
					t.Errorf("the status says that %d certificates wait", len(r.Staged))
				}
				if keys := w.keys("staging/"); len(keys) > 0 {
					t.Errorf("in staging are still %v", keys)
				}
			})
		})
	}
}

// Renew does not take for new what a crash has left in staging.
func TestRenewOrdersAlthoughWhatIsActiveIsStillStaged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := md.Domain{Names: []string{"example.com"}}
		w.leaveStaged(d)
		time.Sleep(10 * day)
		n := w.start(w.manager(d))
		defer n.stopped()
		n.ready(time.Minute)
		if err := n.m.Renew(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates after Renew, want 2", got)
		}
	})
}
