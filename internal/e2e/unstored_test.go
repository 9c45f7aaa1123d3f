package e2e_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store/storetest"
)

// A node serves from memory what it could not store, and is cut off from the
// Store until that has expired. Others have renewed meanwhile: it serves theirs
// when it is back, although what it had is of no use any more.
func TestWhatCouldNotBeStoredGivesWayToWhatOthersHaveRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 90 * day
		var full, cutOff atomic.Bool
		full.Store(true)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if cutOff.Load() || full.Load() && op.Kind == "put" && strings.HasPrefix(op.Key, "domains/") {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		n := w.startIn(hourly(), m)
		defer n.stopped()
		time.Sleep(10 * time.Minute)
		first := leafOf(t, n.m, "example.com")
		cutOff.Store(true)
		other := w.startIn(hourly(), w.manager(md.Domain{Names: []string{"example.com"}}))
		defer other.stopped()
		time.Sleep(100 * day)
		renewed := leafOf(t, other.m, "example.com")
		if renewed.Equal(first) || !leafOf(t, n.m, "example.com").Equal(first) {
			t.Fatal("it has not come to what is to be tested")
		}
		cutOff.Store(false)
		full.Store(false)
		time.Sleep(day)
		if leaf := leafOf(t, n.m, "example.com"); !leaf.Equal(renewed) {
			t.Errorf("what is served a day later expired at %v; others serve one until %v", leaf.NotAfter, renewed.NotAfter)
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates, want 2", got)
		}
	})
}
