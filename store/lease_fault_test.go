package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// TestLeaseIsLostToWhomItSees lets a renewal fail for another reason: the
// holder looks what is there, and need not wait for its time to run out.
func TestLeaseIsLostToWhomItSees(t *testing.T) {
	for name, steal := range map[string]func(ctx context.Context, s store.Store) error{
		"another's claim": func(ctx context.Context, s store.Store) error {
			_, err := s.Put(ctx, "leases/x", []byte(`{"id":"another"}`), store.Any)
			return err
		},
		"nothing": func(ctx context.Context, s store.Store) error {
			return s.Delete(ctx, "leases/x", store.Any)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &store.Memory{}
				s := &storetest.Faulty{Store: m, Fault: func(op storetest.Op) storetest.Fault {
					if op.Kind == "put" && op.Nth > 1 {
						return storetest.FaultBefore
					}
					return storetest.FaultNone
				}}
				lease := mustTry(t, t.Context(), &store.Leaser{Store: s})
				if err := steal(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				time.Sleep(ttl / 4)
				wantLost(t, lease)
				release(t, lease)
			})
		})
	}
}

// TestLeaseIsLostInTime breaks every operation after the first renewal, sent
// at TTL/4: TTL/2 after that, the holder must have stopped.
func TestLeaseIsLostInTime(t *testing.T) {
	for _, fault := range []storetest.Fault{
		storetest.FaultBefore, storetest.FaultAfter, storetest.FaultHang, storetest.FaultHangAfter,
	} {
		t.Run("with "+fault.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var broken atomic.Bool
				s := &storetest.Faulty{Store: &store.Memory{}, Fault: func(storetest.Op) storetest.Fault {
					if broken.Load() {
						return fault
					}
					return storetest.FaultNone
				}}
				lease := mustTry(t, t.Context(), &store.Leaser{Store: s})
				time.Sleep(ttl/4 + 1)
				broken.Store(true)
				time.Sleep(ttl/2 - 2)
				wantActive(t, lease)
				time.Sleep(time.Nanosecond)
				wantLost(t, lease)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := lease.Release(ctx); err == nil {
					t.Error("Release in a broken store succeeded")
				}
				broken.Store(false)
				release(t, lease)
				release(t, mustTry(t, t.Context(), &store.Leaser{Store: s}))
			})
		})
	}
}

// TestLeaseSurvivesEachFault breaks one operation in each way, one after the
// other, and wants the lease to be held for minutes, and released.
func TestLeaseSurvivesEachFault(t *testing.T) {
	scenario := func(t *testing.T, fault func(storetest.Op) storetest.Fault) int {
		m := &store.Memory{}
		s := &storetest.Faulty{Store: m, Fault: fault}
		a := &store.Leaser{Store: s}
		ctx := t.Context()
		lease, err := try(ctx, a)
		for range 20 { // a claim in doubt is not waited for by the one who made it
			if err == nil {
				break
			}
			time.Sleep(ttl / 100)
			lease, err = try(ctx, a)
		}
		if err != nil {
			t.Fatalf("Try in a store with one fault: %v", err)
		}
		time.Sleep(2 * time.Minute)
		wantActive(t, lease)
		for range 2 {
			relCtx, cancel := context.WithTimeout(ctx, time.Second)
			err = lease.Release(relCtx)
			cancel()
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("a second Release: %v", err)
		}
		if _, _, err := m.Get(ctx, "leases/x"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Release, Get = error %v, want fs.ErrNotExist", err)
		}
		return s.Count()
	}
	var count int
	synctest.Test(t, func(t *testing.T) {
		count = scenario(t, nil)
	})
	if count < 10 {
		t.Fatalf("the scenario has %d operations, want more", count)
	}
	for n := 1; n <= count; n++ {
		for fault := storetest.FaultBefore; fault <= storetest.FaultHangAfter; fault++ {
			t.Run(fmt.Sprintf("operation %d with %v", n, fault), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					scenario(t, func(op storetest.Op) storetest.Fault {
						if op.N == n {
							return fault
						}
						return storetest.FaultNone
					})
				})
			})
		}
	}
}

// try tries within a second, so that an operation that hangs has an end; the
// lease itself goes on after that.
func try(ctx context.Context, l *store.Leaser) (*store.Lease, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(time.Second, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	return l.Try(ctx, "leases/x")
}

func TestSlowStoreGivesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := true
		s := &storetest.Faulty{Store: &store.Memory{}, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "put" && slow {
				time.Sleep(ttl / 2)
			}
			return storetest.FaultNone
		}}
		l := &store.Leaser{Store: s}
		if lease, err := l.Try(t.Context(), "leases/x"); !errors.Is(err, store.ErrLeaseLost) {
			t.Fatalf("Try with a Put of TTL/2 = %v, error %v, want ErrLeaseLost", lease, err)
		}
		slow = false
		wantHeld(t, &store.Leaser{Store: s})
		release(t, mustTry(t, t.Context(), l)) // its own claim, under which nobody acts
	})
}

// TestLeaseTimeBeginsWhenRenewalIsSent has a renewal take its time: what
// counts is when others may first have seen it.
func TestLeaseTimeBeginsWhenRenewalIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &storetest.Faulty{Store: &store.Memory{}, Fault: func(op storetest.Op) storetest.Fault {
			switch {
			case op.Kind == "put" && op.Nth == 2:
				time.Sleep(ttl / 10)
			case op.Kind == "put" && op.Nth > 2:
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		lease := mustTry(t, t.Context(), &store.Leaser{Store: s})
		time.Sleep(ttl/4 + ttl/2 - 1) // it is sent at TTL/4
		wantActive(t, lease)
		time.Sleep(time.Nanosecond)
		wantLost(t, lease)
		release(t, lease)
	})
}

// endingStore ends a context with the first Put.
type endingStore struct {
	store.Store
	end context.CancelFunc
}

func (s *endingStore) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	version, err := s.Store.Put(ctx, key, value, old)
	s.end()
	return version, err
}

func TestAcquireReturnsWhatItGotAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		first := mustTry(t, t.Context(), &store.Leaser{Store: s})
		time.AfterFunc(time.Minute, func() { first.Release(context.Background()) })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lease, err := (&store.Leaser{Store: &endingStore{s, cancel}}).Acquire(ctx, "leases/x")
		if err != nil {
			t.Fatalf("Acquire of a lease that it got = error %v, want it returned to be released", err)
		}
		release(t, lease)
	})
}
