package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// lateStore lets some Puts and Deletes happen after their caller has given
// up, as a network does.
type lateStore struct {
	store.Store
	seed uint64
	node string
	n    atomic.Int64
}

// delay is how long the nth operation is on its way: mostly not at all.
func (s *lateStore) delay() time.Duration {
	h := storetest.Hash(s.seed, "late "+s.node, storetest.Op{Nth: int(s.n.Add(1))})
	if h%4 > 0 {
		return 0
	}
	return time.Duration(h>>8) % (15 * time.Second)
}

// late does op on its way, and returns when it is done or ctx ends.
func (s *lateStore) late(ctx context.Context, op func(ctx context.Context) error) error {
	delay := s.delay()
	if delay == 0 {
		return op(ctx)
	}
	done := make(chan error, 1)
	go func() {
		time.Sleep(delay)
		done <- op(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *lateStore) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	var mu sync.Mutex // guards version: what is late may come while we return
	var version store.Version
	err := s.late(ctx, func(ctx context.Context) error {
		v, err := s.Store.Put(ctx, key, value, old)
		mu.Lock()
		defer mu.Unlock()
		version = v
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	return version, err
}

func (s *lateStore) Delete(ctx context.Context, key string, old store.Version) error {
	return s.late(ctx, func(ctx context.Context) error { return s.Store.Delete(ctx, key, old) })
}

// TestOneHolderActsAtATime lets three nodes take turns for virtual hours, in
// a store that fails, hangs, and does things late. Some holders die.
func TestOneHolderActsAtATime(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 5
	}
	for seed := range uint64(seeds) {
		t.Run("seed "+strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { takeTurns(t, seed) })
		})
	}
}

func takeTurns(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
	defer cancel()
	shared := &store.Memory{}
	var acting, turns, lost atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 {
		node := fmt.Sprintf("node %d", i)
		l := &store.Leaser{Holder: node, Store: &storetest.Faulty{
			Store: &lateStore{Store: shared, seed: seed, node: node},
			Fault: storetest.BySeed(seed, node, float64(seed%5)/20),
		}}
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				chance := storetest.Hash(seed, node, storetest.Op{Kind: "turn", Nth: n})
				ended := turn(t, ctx, l, chance, &acting)
				if errors.Is(ended, store.ErrLeaseLost) {
					lost.Add(1)
				} else if ended == nil {
					turns.Add(1)
				}
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Minute) // what is late has come
	// It is safe to give no leases at all, and of no use.
	if got := turns.Load() + lost.Load(); got < 30 {
		t.Errorf("there were %d turns in four hours, want more", got)
	}
	t.Logf("%d whole turns, %d lost", turns.Load(), lost.Load())
}

// turn acquires the lease, acts while it may, and releases it or dies. It
// returns why it stopped acting before it had finished.
func turn(t *testing.T, ctx context.Context, l *store.Leaser, chance uint64, acting *atomic.Int64) error {
	wait, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	lease, err := l.Acquire(wait, "leases/x")
	if err != nil {
		sleep(ctx, time.Duration(chance%10)*time.Second)
		return err
	}
	if n := acting.Add(1); n != 1 {
		t.Errorf("%d holders act at once at %v", n, time.Now())
	}
	work := time.Duration(chance>>8) % (2 * time.Minute)
	sleep(lease.Context(), work)
	ended := context.Cause(lease.Context())
	acting.Add(-1)
	if chance%4 == 0 {
		return ended // it dies: cancel ends the lease, and nobody releases it
	}
	end, cancelEnd := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancelEnd()
	_ = lease.Release(end) // may fail here
	return ended
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
