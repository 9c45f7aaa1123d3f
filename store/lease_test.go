package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
)

const ttl = 20 * time.Second // what a Leaser has by itself

// mustTry returns a lease that nobody else can have.
func mustTry(t *testing.T, ctx context.Context, l *store.Leaser) *store.Lease {
	t.Helper()
	lease, err := l.Try(ctx, "leases/x")
	if err != nil {
		t.Fatalf("Try: %v", err)
	}
	return lease
}

func wantHeld(t *testing.T, l *store.Leaser) {
	t.Helper()
	lease, err := l.Try(t.Context(), "leases/x")
	if !errors.Is(err, store.ErrHeld) {
		t.Fatalf("Try at %v = %v, error %v, want ErrHeld", time.Now(), lease, err)
	}
}

func wantActive(t *testing.T, lease *store.Lease) {
	t.Helper()
	synctest.Wait()
	if lease.Context().Err() != nil {
		t.Fatalf("the lease has ended: %v; want it held", context.Cause(lease.Context()))
	}
}

func wantLost(t *testing.T, lease *store.Lease) {
	t.Helper()
	synctest.Wait()
	if err := context.Cause(lease.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Fatalf("cause of the lease's end = %v, want ErrLeaseLost", err)
	}
}

func release(t *testing.T, lease *store.Lease) {
	t.Helper()
	if err := lease.Release(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("Release: %v", err)
	}
	if lease.Context().Err() == nil {
		t.Error("the Context of a released lease goes on")
	}
}

func TestLeaseIsHeldByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		a, b := &store.Leaser{Store: s, Holder: "a.example"}, &store.Leaser{Store: s}
		lease := mustTry(t, t.Context(), a)
		if got := lease.Key(); got != "leases/x" {
			t.Errorf("Key() = %q, want leases/x", got)
		}
		_, err := b.Try(t.Context(), "leases/x")
		if !errors.Is(err, store.ErrHeld) || !strings.Contains(err.Error(), "a.example") {
			t.Errorf("Try of another = error %v, want ErrHeld by a.example", err)
		}
		wantHeld(t, a) // the holder itself is no exception
		other, err := b.Try(t.Context(), "leases/y")
		if err != nil {
			t.Fatalf("Try of another key: %v", err)
		}
		release(t, other)
		release(t, lease)
		release(t, mustTry(t, t.Context(), b))
		if _, _, err := s.Get(t.Context(), "leases/x"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Release, Get = error %v, want fs.ErrNotExist", err)
		}
	})
}

func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		a, b := &store.Leaser{Store: s}, &store.Leaser{Store: s}
		lease := mustTry(t, t.Context(), a)
		for range 2000 {
			time.Sleep(7 * time.Second)
			wantHeld(t, b)
		}
		wantActive(t, lease)
		release(t, lease)
		release(t, lease) // once more is no error
	})
}

func TestDeadHolderIsFollowedAfterTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		a, b := &store.Leaser{Store: s}, &store.Leaser{Store: s}
		ctx, die := context.WithCancel(t.Context())
		lease := mustTry(t, ctx, a)
		time.Sleep(3 * ttl)
		die()
		synctest.Wait()
		if lease.Context().Err() == nil {
			t.Error("the lease goes on after the context it was acquired with")
		}
		wantHeld(t, b) // b's clock starts here
		time.Sleep(ttl - 1)
		wantHeld(t, b)
		time.Sleep(time.Nanosecond)
		next := mustTry(t, t.Context(), b)
		release(t, lease) // the dead one's clean-up comes late
		time.Sleep(ttl)
		wantActive(t, next)
		release(t, next)
	})
}

func TestAcquireTakesOverWhenItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		a, b := &store.Leaser{Store: s}, &store.Leaser{Store: s}
		ctx, die := context.WithCancel(t.Context())
		mustTry(t, ctx, a)
		die()
		start := time.Now()
		lease, err := b.Acquire(t.Context(), "leases/x")
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != ttl {
			t.Errorf("Acquire took over after %v, want %v", got, ttl)
		}
		release(t, lease)
	})
}

func TestAcquireComesSoonAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		a, b := &store.Leaser{Store: s}, &store.Leaser{Store: s}
		lease := mustTry(t, t.Context(), a)
		var released time.Time
		time.AfterFunc(time.Minute, func() {
			released = time.Now()
			lease.Release(context.Background())
		})
		next, err := b.Acquire(t.Context(), "leases/x")
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(released); released.IsZero() || got > ttl/8 {
			t.Errorf("Acquire came %v after the release, want at most %v", got, ttl/8)
		}
		release(t, next)
	})
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		a, b := &store.Leaser{Store: s, Holder: "a"}, &store.Leaser{Store: s}
		lease := mustTry(t, t.Context(), a)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := b.Acquire(ctx, "leases/x")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, store.ErrHeld) {
			t.Errorf("Acquire = error %v, want both its context's and ErrHeld", err)
		}
		release(t, lease)
		if _, err := b.Acquire(ctx, "leases/x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire with an ended context = error %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestLeaseIsLostAtConflict(t *testing.T) {
	for name, steal := range map[string]func(ctx context.Context, s store.Store) error{
		"overwritten": func(ctx context.Context, s store.Store) error {
			_, err := s.Put(ctx, "leases/x", []byte(`{"id":"another"}`), store.Any)
			return err
		},
		"removed": func(ctx context.Context, s store.Store) error {
			return s.Delete(ctx, "leases/x", store.Any)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store.Memory{}
				lease := mustTry(t, t.Context(), &store.Leaser{Store: s})
				if err := steal(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				wantActive(t, lease)
				time.Sleep(ttl / 4) // the next renewal
				wantLost(t, lease)
				release(t, lease)
				if _, _, err := s.Get(t.Context(), "leases/x"); (err == nil) != (name == "overwritten") {
					t.Errorf("after the Release of a lost lease, Get = error %v", err)
				}
			})
		})
	}
}

func TestGarbageIsTakenOverAfterTTL(t *testing.T) {
	for _, value := range []string{"", "x", "{}", "null", "[]", `{"id":7}`, `{"id":""}`, `{"count":-1,"id":"a"}`,
		`{"id":"a","ttl-ms":-1}`, `{"id":"a","ttl-ms":9000000000000000000}`, `{"id":"a","holder":"` + strings.Repeat("\U0001f512", 1000) + `"}`,
	} {
		t.Run(fmt.Sprintf("%.40s", value), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store.Memory{}
				if _, err := s.Put(t.Context(), "leases/x", []byte(value), store.None); err != nil {
					t.Fatal(err)
				}
				l := &store.Leaser{Store: s}
				_, err := l.Try(t.Context(), "leases/x")
				if !errors.Is(err, store.ErrHeld) || len(err.Error()) > 1500 {
					t.Errorf("Try = error %.60v, want a short ErrHeld", err)
				}
				time.Sleep(ttl - 1)
				wantHeld(t, l)
				time.Sleep(time.Nanosecond)
				release(t, mustTry(t, t.Context(), l))
			})
		})
	}
}

func TestLongerTTLHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		long, short := &store.Leaser{Store: s, TTL: time.Minute}, &store.Leaser{Store: s, TTL: time.Second}
		ctx, die := context.WithCancel(t.Context())
		mustTry(t, ctx, long)
		die()
		wantHeld(t, short)
		time.Sleep(time.Minute - 1)
		wantHeld(t, short)
		time.Sleep(time.Nanosecond)
		release(t, mustTry(t, t.Context(), short))
	})
}

func TestLeaserRefusesWhatCannotWork(t *testing.T) {
	for name, l := range map[string]*store.Leaser{
		"a negative TTL": {Store: &store.Memory{}, TTL: -1},
		"a tiny TTL":     {Store: &store.Memory{}, TTL: time.Microsecond},
		"a huge TTL":     {Store: &store.Memory{}, TTL: 2 * time.Hour},
		"no Store":       {},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := l.Try(t.Context(), "leases/x"); err == nil || errors.Is(err, store.ErrHeld) {
				t.Errorf("Try = error %v, want one that says what is wrong", err)
			}
		})
	}
	l := &store.Leaser{Store: &store.Memory{}}
	if _, err := l.Acquire(t.Context(), "leases//x"); !errors.Is(err, store.ErrKey) {
		t.Errorf("Acquire of a bad key = error %v, want ErrKey", err)
	}
}

func TestLeaseVersionsNeverComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		l := &store.Leaser{Store: s, Holder: "the same"}
		seen := make(map[store.Version]bool)
		for range 20 {
			lease := mustTry(t, t.Context(), l)
			for range 5 {
				_, version, err := s.Get(t.Context(), "leases/x")
				if err != nil {
					t.Fatal(err)
				}
				if seen[version] {
					t.Fatalf("Version %q came back", version)
				}
				seen[version] = true
				time.Sleep(ttl/4 + 1)
				synctest.Wait()
			}
			release(t, lease)
		}
	})
}
