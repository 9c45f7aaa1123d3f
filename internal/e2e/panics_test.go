package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store/storetest"
)

// Whichever operation of a first order a Store panics in, also one that renews
// a lease in a goroutine of its own, the process goes on, and the order is made.
func TestAStoreThatPanicsOnce(t *testing.T) {
	order := func(t *testing.T, nth int) (operations int) {
		bubble(t, func(t *testing.T, w *world) {
			w.ca.Faults.SlowValidation = 1
			w.ca.RetryAfter = 12 * time.Second // the lease is renewed meanwhile
			m := w.manager(md.Domain{Names: []string{"example.com"}})
			faulty := &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
				if op.N == nth {
					panic("a bug in the Store")
				}
				return storetest.FaultNone
			}}
			m.Store = faulty
			n := w.start(m)
			n.ready(time.Hour)
			n.stopped()
			operations = faulty.Count()
			if got := len(w.ca.Certificates()); got != 1 {
				t.Errorf("operation %d panics: %d certificates, want 1", nth, got)
			}
		})
		return operations
	}
	for nth := range order(t, 0) {
		order(t, nth+1)
	}
}

// A Store that panics whenever the Job is written makes no CA be asked at each
// tick.
func TestAStoreThatPanicsWithTheJob(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "put" && strings.HasPrefix(op.Key, "jobs/") {
				panic("a bug in the Store")
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(day)
		if got := w.ca.Requests()["newOrder"]; got > 60 {
			t.Errorf("%d orders were asked for in a day, want them with growing delay", got)
		}
		n.stopped()
	})
}
