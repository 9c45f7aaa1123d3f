package e2e_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store/storetest"
)

// A backup with certificates that have expired, put back while better ones are
// served, does not make a node look without end.
func TestAnOldBackupDoesNotMakeItLookWithoutEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RenewalInfo = true
		var looks atomic.Int64
		m := w.manager(md.Domain{Names: []string{"example.com"}, HoldActivation: md.On})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "get" && strings.HasPrefix(op.Key, "leases/") {
				looks.Add(1)
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(time.Minute)
		if err := n.m.Activate(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		old, _, err := w.store.Get(t.Context(), "domains/example.com")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(70 * day)
		if err := n.m.Activate(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * day)
		_, v, err := w.store.Get(t.Context(), "domains/example.com")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Put(t.Context(), "domains/example.com", old, v); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		before := looks.Load()
		time.Sleep(10 * time.Hour)
		if got := looks.Load() - before; got > 20 {
			t.Errorf("%d looks in ten hours, want one from time to time", got)
		}
		n.stopped()
	})
}
