package challenge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
)

const testPrefix = "challenges/test/"

// slowStore is a Store whose reads take a while, are counted, and may hang or
// panic.
type slowStore struct {
	store.Store
	delay    time.Duration
	hang     atomic.Bool
	panics   atomic.Bool
	gets     atomic.Int64
	lists    atomic.Int64
	parallel atomic.Int64 // how many read now
	most     atomic.Int64 // the most that ever did
}

func newSlowStore(delay time.Duration) *slowStore {
	return &slowStore{Store: new(store.Memory), delay: delay}
}

func (s *slowStore) enter(ctx context.Context) (leave func(), err error) {
	n := s.parallel.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	leave = func() { s.parallel.Add(-1) }
	if s.panics.Load() {
		leave()
		panic("the Store is broken")
	}
	if s.hang.Load() {
		<-ctx.Done()
		return leave, ctx.Err()
	}
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
	}
	return leave, ctx.Err()
}

func (s *slowStore) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	s.gets.Add(1)
	// What is there is settled when the read begins: the worst case.
	value, version, err := s.Store.Get(ctx, key)
	leave, slowErr := s.enter(ctx)
	defer leave()
	if slowErr != nil {
		return nil, "", slowErr
	}
	return value, version, err
}

func (s *slowStore) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		s.lists.Add(1)
		leave, err := s.enter(ctx)
		defer leave()
		if err != nil {
			yield(store.Item{}, err)
			return
		}
		s.Store.List(ctx, prefix)(yield)
	}
}

func (s *slowStore) set(t *testing.T, name string) {
	t.Helper()
	if _, err := s.Put(t.Context(), testPrefix+name, []byte("value of "+name), store.Any); err != nil {
		t.Fatal(err)
	}
}

// checkGet asks and reports how long it took.
func checkGet(t *testing.T, l *lookup, s store.Store, name string, wantThere bool) time.Duration {
	t.Helper()
	start := time.Now()
	value, err := l.get(t.Context(), s, testPrefix, name, slog.New(slog.DiscardHandler))
	switch {
	case wantThere && (err != nil || string(value) != "value of "+name):
		t.Errorf("get of %s = %q, %v; want its value", name, value, err)
	case !wantThere && !errors.Is(err, fs.ErrNotExist):
		t.Errorf("get of %s = %q, %v; want fs.ErrNotExist", name, value, err)
	}
	return time.Since(start)
}

func TestLookupSharesReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(50 * time.Millisecond)
		s.set(t, "a")
		var l lookup
		var askers sync.WaitGroup
		for range 500 {
			askers.Go(func() { checkGet(t, &l, s, "a", true) })
		}
		askers.Wait()
		if got := s.gets.Load(); got > 2 {
			t.Errorf("500 askers at once made %d reads, want 1 or 2", got)
		}
	})
}

func TestLookupReadsManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(10 * time.Millisecond)
		var l lookup
		var askers sync.WaitGroup
		for i := range 200 {
			there := i%4 == 0
			name := fmt.Sprint("n", i)
			if there {
				s.set(t, name)
			}
			askers.Go(func() { checkGet(t, &l, s, name, there) })
		}
		askers.Wait()
		if got, want := s.gets.Load(), int64(50+directReads); got > want {
			t.Errorf("%d reads for 50 names that are there among 200, want at most %d", got, want)
		}
		if got := s.most.Load(); got > parallelReads {
			t.Errorf("%d reads at once, want at most %d", got, parallelReads)
		}
	})
}

func TestLookupDoesFewReadsInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(time.Millisecond)
		var l lookup
		var askers sync.WaitGroup
		const seconds = 20
		for i := range seconds * 1000 {
			askers.Go(func() { checkGet(t, &l, s, fmt.Sprint("unknown", i), false) })
			time.Sleep(time.Millisecond)
		}
		// In its midst, an answer is found soon after it was put.
		s.set(t, "a")
		if got, want := checkGet(t, &l, s, "a", true), roundPace+10*time.Millisecond; got > want {
			t.Errorf("an answer was found after %v, want at most %v", got, want)
		}
		askers.Wait()
		// A round of many keys is one List, one of few at most directReads.
		perSecond := int64(time.Second / roundPace)
		want := directReads*roundBurst + (seconds+1)*perSecond + 2
		if got := s.gets.Load() + s.lists.Load(); got > want {
			t.Errorf("%d reads for %d askers, want at most %d", got, seconds*1000, want)
		}
		if l.gathering != nil {
			t.Errorf("after the flood a round with %d keys is left", len(l.gathering.wanted))
		}
	})
}

// Nobody can hide an answer by asking for it before it is there.
func TestLookupSeesWhatWasPutBeforeItWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(100 * time.Millisecond)
		var l lookup
		ctx, cancel := context.WithCancel(t.Context())
		var attacker sync.WaitGroup
		for range 10 {
			attacker.Go(func() {
				for ctx.Err() == nil {
					l.get(ctx, s, testPrefix, "a", slog.New(slog.DiscardHandler))
				}
			})
		}
		for range 20 {
			time.Sleep(time.Second + 37*time.Millisecond)
			s.set(t, "a")
			checkGet(t, &l, s, "a", true)
			if err := s.Delete(t.Context(), testPrefix+"a", store.Any); err != nil {
				t.Fatal(err)
			}
			checkGet(t, &l, s, "a", false)
		}
		cancel()
		attacker.Wait()
	})
}

func TestLookupOutlivesItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(time.Second)
		s.set(t, "a")
		var l lookup
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var askers sync.WaitGroup
		// The first reads; the second leads the round that the third joins.
		askers.Go(func() { checkGet(t, &l, s, "a", true) })
		time.Sleep(100 * time.Millisecond)
		askers.Go(func() { l.get(ctx, s, testPrefix, "a", slog.Default()) })
		time.Sleep(100 * time.Millisecond)
		askers.Go(func() { checkGet(t, &l, s, "a", true) })
		time.Sleep(100 * time.Millisecond)
		cancel()
		askers.Wait()
	})
}

func TestLookupForgetsThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(2 * time.Second)
		s.set(t, "a")
		var l lookup
		var askers sync.WaitGroup
		askers.Go(func() { checkGet(t, &l, s, "a", true) })
		time.Sleep(100 * time.Millisecond)
		askers.Go(func() { checkGet(t, &l, s, "a", true) }) // leads the next round
		time.Sleep(100 * time.Millisecond)
		for i := range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			askers.Go(func() {
				defer cancel()
				if _, err := l.get(ctx, s, testPrefix, fmt.Sprint("x", i), slog.Default()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("an asker who left got %v, want context.DeadlineExceeded", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		l.mu.Lock()
		if got := len(l.gathering.wanted); got != 1 {
			t.Errorf("%d keys are wanted when one asker is left, want 1", got)
		}
		l.mu.Unlock()
		askers.Wait()
	})
}

func TestLookupEndsWhenTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(time.Millisecond)
		s.set(t, "a")
		s.hang.Store(true)
		var l lookup
		var askers sync.WaitGroup
		for range 100 {
			askers.Go(func() {
				start := time.Now()
				_, err := l.get(t.Context(), s, testPrefix, "a", slog.New(slog.DiscardHandler))
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a Store that hangs: error is %v, want context.DeadlineExceeded", err)
				}
				if got, want := time.Since(start), lookupLimit+roundPace; got > want {
					t.Errorf("a Store that hangs: asker waits %v, want at most %v", got, want)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		askers.Wait()
		s.hang.Store(false)
		checkGet(t, &l, s, "a", true)
	})
}

// stuckStore does not even obey its context, against the Store's promise.
type stuckStore struct {
	store.Memory
	release chan struct{}
}

func (s *stuckStore) Get(context.Context, string) ([]byte, store.Version, error) {
	<-s.release
	return nil, "", fs.ErrNotExist
}

func TestLookupEndsWhenTheStoreIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuckStore{release: make(chan struct{})}
		var l lookup
		var stuck, askers sync.WaitGroup
		stuck.Go(func() { checkGet(t, &l, s, "a", false) })
		time.Sleep(time.Second)
		for range 10 {
			askers.Go(func() {
				start := time.Now()
				if _, err := l.get(t.Context(), s, testPrefix, "a", slog.New(slog.DiscardHandler)); !errors.Is(err, errUnread) {
					t.Errorf("a Store that is stuck: error is %v, want errUnread", err)
				}
				if got := time.Since(start); got > lookupLimit {
					t.Errorf("a Store that is stuck: asker waits %v, want at most %v", got, lookupLimit)
				}
			})
		}
		askers.Wait()
		close(s.release)
		stuck.Wait()
		checkGet(t, &l, s, "a", false)
	})
}

func TestLookupSurvivesAPanicOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(time.Millisecond)
		s.set(t, "a")
		s.panics.Store(true)
		var l lookup
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the Store's panic did not arrive")
				}
			}()
			l.get(t.Context(), s, testPrefix, "a", slog.Default())
		}()
		s.panics.Store(false)
		checkGet(t, &l, s, "a", true)
	})
}

func TestLookupLogsOncePerRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(time.Millisecond)
		s.hang.Store(true)
		var records countingHandler
		var l lookup
		var askers sync.WaitGroup
		for range 100 {
			askers.Go(func() { l.get(t.Context(), s, testPrefix, "a", slog.New(&records)) })
		}
		askers.Wait()
		if got := records.n.Load(); got < 1 || got > 2 {
			t.Errorf("%d log records for 100 askers of two rounds, want 1 or 2", got)
		}
	})
}

type countingHandler struct{ n atomic.Int64 }

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *countingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *countingHandler) WithGroup(string) slog.Handler            { return h }
func (h *countingHandler) Handle(context.Context, slog.Record) error {
	h.n.Add(1)
	return nil
}

func BenchmarkLookup(b *testing.B) {
	s := new(store.Memory)
	s.Put(b.Context(), testPrefix+"a", []byte("value"), store.None)
	log := slog.New(slog.DiscardHandler)
	for b.Loop() {
		l := lookup{} // its first rounds are not paced
		if _, err := l.get(b.Context(), s, testPrefix, "a", log); err != nil {
			b.Fatal(err)
		}
	}
}
