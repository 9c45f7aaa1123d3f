package e2e_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store/storetest"
)

func TestHeldSetThatIsOfNoUseIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var full, failing atomic.Bool
		full.Store(true)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if failing.Load() && op.Kind == "finalize" {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		m := w.manager(md.Domain{Name: "d", Names: []string{"example.com"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if full.Load() && len(w.ca.Certificates()) > 0 && op.Kind == "put" {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		n.ready(time.Minute)
		failing.Store(true)
		if err := n.m.Update(context.Background(), []md.Domain{{Name: "d", Names: []string{"example.com", "www.example.com"}}}); err != nil {
			t.Fatal(err)
		}
		full.Store(false)
		time.Sleep(2 * day)
		if got := w.ca.Requests()["newOrder"]; got > 2 {
			t.Errorf("%d orders: each attempt writes the useless Set over the order in progress, and loses its key", got)
		}
		n.stopped()
	})
}
