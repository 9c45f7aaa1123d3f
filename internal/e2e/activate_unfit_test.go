package e2e_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// Activate does not say that all is well when what waited could not be used. What
// is ordered in its place waits for another call.
func TestActivateSaysThatWhatWaitedCannotBeUsed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := md.Domain{Name: "shop", Names: []string{"example.com"}, HoldActivation: md.On}
		n := w.start(w.manager(d))
		time.Sleep(time.Hour)
		n.stopped()
		d.Names = []string{"example.com", "www.example.com"}
		if err := w.manager(d).Activate(t.Context(), "shop"); err == nil {
			t.Error("Activate returned nil, and nothing is active")
		}
		n = w.start(w.manager(d))
		defer n.stopped()
		time.Sleep(time.Hour)
		if r := n.report("shop"); len(r.Staged) != 1 || r.Renewal.Attempts != 0 {
			t.Errorf("%d certificates wait after %d failures, want one after none", len(r.Staged), r.Renewal.Attempts)
		}
		if err := n.m.Activate(t.Context(), "shop"); err != nil {
			t.Error(err)
		}
		n.ready(time.Second)
	})
}
