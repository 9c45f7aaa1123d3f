package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return &store.Memory{} }, storetest.Values{})
}

func TestMemoryDoesNotPrintValues(t *testing.T) {
	s := &store.Memory{}
	if _, err := s.Put(t.Context(), "accounts/x", []byte("PRIVATE"), store.None); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%s", "%#v"} {
		got := fmt.Sprintf(format, s)
		if strings.Contains(got, "PRIVATE") || strings.Contains(got, fmt.Sprint([]byte("PRIVATE"))) || strings.Contains(got, "0x50") {
			t.Errorf("%s prints %q", format, got)
		}
	}
}

func TestMemoryWatchTellsEachKeyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		ctx, cancel := context.WithCancel(t.Context())
		seq := s.Watch(ctx, "a/")
		for i := range 100 {
			for _, key := range []string{"a/2", "a/1", "b"} {
				if _, err := s.Put(ctx, key, fmt.Append(nil, i), store.Any); err != nil {
					t.Fatal(err)
				}
			}
		}
		var got []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for key, err := range seq {
				if err != nil {
					t.Error(err)
				}
				got = append(got, key)
			}
		}()
		synctest.Wait()
		cancel()
		<-done
		if want := []string{"a/1", "a/2"}; !slices.Equal(got, want) {
			t.Errorf("a watcher that comes late is told of %q, want %q", got, want)
		}
	})
}

func TestMemoryWatchRefusesBadPrefix(t *testing.T) {
	s := &store.Memory{}
	n := 0
	for _, err := range s.Watch(t.Context(), "a") {
		n++
		if !errors.Is(err, store.ErrKey) {
			t.Errorf("Watch of a bad prefix = error %v, want ErrKey", err)
		}
	}
	if n != 1 {
		t.Errorf("Watch of a bad prefix yields %d times, want once", n)
	}
}

func TestMemoryForgetsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store.Memory{}
		ctx, cancel := context.WithCancel(t.Context())
		s.Watch(ctx, "") // nobody looks
		seq := s.Watch(ctx, "")
		stopped := s.Watch(ctx, "")
		if _, err := s.Put(ctx, "a", nil, store.Any); err != nil {
			t.Fatal(err)
		}
		for range stopped {
			break
		}
		if got := s.Watchers(); got != 2 {
			t.Errorf("there are %d watchers after one has stopped looking, want 2", got)
		}
		cancel()
		synctest.Wait()
		for range seq {
			t.Error("a watch went on after its context ended")
		}
		if got := s.Watchers(); got != 0 {
			t.Errorf("there are %d watchers after their context ended, want 0", got)
		}
	})
}

func TestMemoryScanMayEnd(t *testing.T) {
	s := &store.Memory{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, key := range []string{"a", "b", "c"} {
		if _, err := s.Put(ctx, key, nil, store.Any); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	var last error
	for item, err := range s.List(ctx, "") {
		got = append(got, item.Key)
		last = err
		cancel()
	}
	if want := []string{"a", ""}; !slices.Equal(got, want) || !errors.Is(last, context.Canceled) {
		t.Errorf("List yields %q and %v, want %q and %v", got, last, want, context.Canceled)
	}
}
