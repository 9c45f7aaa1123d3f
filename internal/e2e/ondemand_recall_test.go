package e2e_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md/store/storetest"
)

// The Store is away at the start, and so is whoever knows the customers.
func TestTheStoreIsAwayWhenNamesAreRecalled(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := newCustomers("shop.test")
		m := w.manager()
		m.OnDemand = c.allow
		n := w.start(m)
		before := w.served("shop.test")
		n.stopped()

		c.fails = errors.New("the database is away")
		var down atomic.Bool
		down.Store(true)
		m = w.manager()
		m.OnDemand = c.allow
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(storetest.Op) storetest.Fault {
			if down.Load() {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		n = w.start(m)
		defer func() { n.stopped() }()
		time.Sleep(30 * time.Second)
		down.Store(false)
		time.Sleep(5 * time.Minute)
		if after, err := w.serial("shop.test"); err != nil || after != before {
			t.Errorf("serial %s, %v; want %s", after, err, before)
		}
	})
}
