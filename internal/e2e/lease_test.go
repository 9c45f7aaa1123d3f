package e2e_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// TestALeaseThatIsNeverRenewedEnds begins to fail before the first renewal:
// the right to act must end by itself all the same.
func TestALeaseThatIsNeverRenewedEnds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const ttl = 20 * time.Second
		var broken atomic.Bool
		leaser := &store.Leaser{Store: breaking(w.store, func(storetest.Op) bool { return broken.Load() }), TTL: ttl}
		lease, err := leaser.Try(t.Context(), "leases/example.com")
		if err != nil {
			t.Fatal(err)
		}
		broken.Store(true)
		time.Sleep(ttl/2 - time.Nanosecond)
		synctest.Wait()
		if err := lease.Context().Err(); err != nil {
			t.Errorf("the lease has ended before TTL/2: %v", err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if cause := context.Cause(lease.Context()); !errors.Is(cause, store.ErrLeaseLost) {
			t.Errorf("at TTL/2 the cause is %v, want ErrLeaseLost", cause)
		}
		broken.Store(false)
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
