package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// fill puts n values, and returns their keys.
func fill(t *testing.T, s store.Store, prefix string, n int) []string {
	t.Helper()
	var keys []string
	for i := range n {
		key := fmt.Sprintf("%s%02d", prefix, i)
		if _, err := s.Put(t.Context(), key, []byte("value of "+key), store.None); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// wantFilled checks that the values of fill can be read.
func wantFilled(t *testing.T, s store.Store, keys []string) {
	t.Helper()
	for _, key := range keys {
		got, _, err := s.Get(t.Context(), key)
		if want := "value of " + key; err != nil || string(got) != want {
			t.Errorf("Get(%q) = %q, error %v; want %q", key, got, err, want)
		}
	}
}

// countSealed counts the values of inner that are sealed with k.
func countSealed(t *testing.T, inner store.Scanner, k store.SealKey) int {
	t.Helper()
	n := 0
	for e, err := range inner.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(e.Value, []byte("md sealed 1 "+k.ID()+"\n")) {
			n++
		}
	}
	return n
}

func TestKeysChangeWhileRunning(t *testing.T) {
	inner, former, next := new(store.Memory), sealKey(t, 1), sealKey(t, 2)
	keys := keyring(t, former)
	s := store.Encrypted(inner, keys)
	before := fill(t, s, "before/", 5)

	if err := keys.Replace(next, former); err != nil {
		t.Fatal(err)
	}
	after := fill(t, s, "after/", 3)
	wantFilled(t, s, append(before, after...))
	if a, b := countSealed(t, inner, former), countSealed(t, inner, next); a != 5 || b != 3 {
		t.Errorf("%d values are sealed with the former key and %d with the next, want 5 and 3", a, b)
	}

	for round, want := range []int{5, 0} {
		if n, err := store.Reseal(t.Context(), s); n != want || err != nil {
			t.Errorf("Reseal number %d = %d, %v, want %d", round+1, n, err, want)
		}
	}
	if err := keys.Replace(next); err != nil {
		t.Fatal(err)
	}
	wantFilled(t, s, append(before, after...))
}

func TestResealLeavesWhatItCannotOpen(t *testing.T) {
	inner, former, next := new(store.Memory), sealKey(t, 1), sealKey(t, 2)
	good := fill(t, store.Encrypted(inner, keyring(t, former)), "good/", 3)
	fill(t, store.Encrypted(inner, keyring(t, sealKey(t, 9))), "lost/", 20)
	fill(t, inner, "plain/", 2)

	s := store.Encrypted(inner, keyring(t, next, former))
	n, err := store.Reseal(t.Context(), s)
	if n != len(good) {
		t.Errorf("Reseal did %d values, want %d", n, len(good))
	}
	if !errors.Is(err, store.ErrNoSealKey) || !strings.Contains(err.Error(), `"lost/09"`) || strings.Contains(err.Error(), `"lost/10"`) ||
		!strings.Contains(err.Error(), "12 more") {
		t.Errorf("Reseal = error %v, want one that names ten values and counts twelve", err)
	}
	wantFilled(t, s, good)
	wantSealError(t, s, "plain/00", store.ErrNotSealed)
	wantSealError(t, s, "lost/00", store.ErrNoSealKey)
}

func TestSealPlain(t *testing.T) {
	inner, former, next := new(store.Memory), sealKey(t, 1), sealKey(t, 2)
	before := fill(t, store.Encrypted(inner, keyring(t, former)), "sealed/", 2)
	plain := fill(t, inner, "plain/", 3)
	if _, err := inner.Put(t.Context(), "other", []byte("md sealed 2 by a later version"), store.None); err != nil {
		t.Fatal(err)
	}
	s := store.Encrypted(inner, keyring(t, next, former))
	for round, want := range []int{len(plain), 0} {
		if n, err := store.SealPlain(t.Context(), s); n != want || err != nil {
			t.Errorf("SealPlain number %d = %d, %v, want %d", round+1, n, err, want)
		}
	}
	wantFilled(t, s, append(before, plain...))
	wantSealError(t, s, "other", store.ErrNotSealed)
}

func TestSealPlainTellsWhatIsTooLong(t *testing.T) {
	inner := new(store.Memory)
	if _, err := inner.Put(t.Context(), "a", make([]byte, store.MaxValue), store.None); err != nil {
		t.Fatal(err)
	}
	if n, err := store.SealPlain(t.Context(), sealed(t, inner)); n != 0 || !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("SealPlain = %d, error %v; want ErrTooLarge", n, err)
	}
}

func TestResealWantsAnEncryptedStore(t *testing.T) {
	if _, err := store.Reseal(t.Context(), new(store.Memory)); err == nil {
		t.Error("Reseal of a Memory succeeded")
	}
}

// TestResealUnderFaults breaks each operation in turn, before and after its
// effect; one more call finishes the work.
func TestResealUnderFaults(t *testing.T) {
	former, next := sealKey(t, 1), sealKey(t, 2)
	for broken, reached := 1, true; reached; broken++ {
		for _, fault := range []storetest.Fault{storetest.FaultBefore, storetest.FaultAfter} {
			inner := new(store.Memory)
			keys := fill(t, store.Encrypted(inner, keyring(t, former)), "a/", 3)
			reached = false
			faulty := &storetest.Faulty{Store: inner, Fault: func(op storetest.Op) storetest.Fault {
				if op.N != broken {
					return storetest.FaultNone
				}
				reached = true
				return fault
			}}
			ring := keyring(t, next, former)
			_, err := store.Reseal(t.Context(), store.Encrypted(faulty, ring))
			if reached != errors.Is(err, storetest.ErrInjected) {
				t.Errorf("with operation %d broken by %v, Reseal = error %v", broken, fault, err)
			}
			s := store.Encrypted(inner, ring)
			wantFilled(t, s, keys)
			if _, err := store.Reseal(t.Context(), s); err != nil {
				t.Errorf("Reseal again: %v", err)
			}
			if got := countSealed(t, inner, next); got != len(keys) {
				t.Errorf("with operation %d broken by %v, %d values are sealed anew in the end, want %d", broken, fault, got, len(keys))
			}
			wantFilled(t, s, keys)
		}
	}
}

func TestResealEndsWithItsContext(t *testing.T) {
	inner, former := new(store.Memory), sealKey(t, 1)
	fill(t, store.Encrypted(inner, keyring(t, former)), "a/", 5)
	ctx, cancel := context.WithCancel(t.Context())
	faulty := &storetest.Faulty{Store: inner, Fault: func(op storetest.Op) storetest.Fault {
		if op.Kind == "put" {
			cancel()
		}
		return storetest.FaultNone
	}}
	_, err := store.Reseal(ctx, store.Encrypted(faulty, keyring(t, sealKey(t, 2), former)))
	if !errors.Is(err, context.Canceled) || faulty.Count() > 4 {
		t.Errorf("Reseal = error %v after %d operations, want %v at once", err, faulty.Count(), context.Canceled)
	}
}

// TestResealLosesNoUpdate counts values up while they are sealed anew again and
// again.
func TestResealLosesNoUpdate(t *testing.T) {
	const writers, each = 4, 25
	inner, ring := new(store.Memory), keyring(t, sealKey(t, 1))
	s := store.Encrypted(inner, ring)
	if _, err := s.Put(t.Context(), "count", nil, store.None); err != nil {
		t.Fatal(err)
	}
	var counting, resealing sync.WaitGroup
	var done atomic.Bool
	resealing.Go(func() {
		newest, older := sealKey(t, 2), sealKey(t, 1)
		for !done.Load() {
			if err := ring.Replace(newest, older); err != nil {
				t.Error(err)
				return
			}
			// A value that changes too often is left to the next round.
			if _, err := store.Reseal(t.Context(), s); err != nil && !errors.Is(err, store.ErrConflict) {
				t.Errorf("Reseal: %v", err)
				return
			}
			newest, older = older, newest
		}
	})
	for range writers {
		counting.Go(func() {
			for done := 0; done < each; {
				value, version, err := s.Get(t.Context(), "count")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.Put(t.Context(), "count", append(value, '.'), version)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	counting.Wait()
	done.Store(true)
	resealing.Wait()
	raw, _, err := s.Get(t.Context(), "count")
	if err != nil || len(raw) != writers*each {
		t.Errorf("the count is %d (error %v), want %d", len(raw), err, writers*each)
	}
}

// TestLeasesAreSealed lets two take turns over one sealed Store that fails
// at times: never both at once.
func TestLeasesAreSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := new(store.Memory)
		var holders, turns atomic.Int32
		var nodes sync.WaitGroup
		for n := range 2 {
			name := fmt.Sprintf("node %d", n)
			faulty := &storetest.Faulty{Store: inner, Fault: storetest.BySeed(uint64(n), name, 0.1)}
			leaser := &store.Leaser{Store: sealed(t, faulty), Holder: name, TTL: ttl}
			nodes.Go(func() {
				for range 50 {
					if holdOnce(t, leaser, &holders) {
						turns.Add(1)
					}
					time.Sleep(ttl / 10)
				}
			})
		}
		nodes.Wait()
		if got := turns.Load(); got < 10 {
			t.Errorf("the lease was held %d times, want it to go on", got)
		}
		for e, err := range inner.Scan(t.Context(), "") {
			if err != nil || bytes.Contains(e.Value, []byte("holder")) {
				t.Errorf("the inner Store has a lease as it is: %q, %v", e.Value, err)
			}
		}
	})
}

// holdOnce holds the lease for a while, if it is to be had from a Store that
// may also hang.
func holdOnce(t *testing.T, leaser *store.Leaser, holders *atomic.Int32) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*ttl)
	defer cancel()
	lease, err := leaser.Try(ctx, "leases/x")
	if err != nil {
		return false
	}
	if holders.Add(1) > 1 {
		t.Error("two hold the lease")
	}
	select {
	case <-lease.Context().Done():
	case <-time.After(ttl / 3):
	}
	holders.Add(-1)
	_ = lease.Release(ctx) // it may fail: the lease runs out
	return true
}
