package storetest

import (
	"context"
	"fmt"
	"strings"

	"github.com/manageddomains/md/store"
)

// watchesChanges makes a change after each key that the watcher is told of,
// and waits for the next, for as long as the test may take.
func watchesChanges(ctx context.Context, s store.Store, v Values) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := v.keys()[0]
	prefix := ""
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		prefix = key[:i+1]
	}
	for _, other := range v.keys() {
		if strings.HasPrefix(other, prefix) {
			continue
		}
		if _, err := put(ctx, s, other, v.value(other, 0), store.None); err != nil {
			return err
		}
	}

	seq := s.(store.Watcher).Watch(ctx, prefix)
	// This comes after the call, but before anyone looks.
	version, err := put(ctx, s, key, v.value(key, 0), store.None)
	if err != nil {
		return err
	}
	changes := []func() error{
		func() (err error) { version, err = put(ctx, s, key, v.value(key, 1), version); return err },
		func() error { return s.Delete(ctx, key, version) },
		func() (err error) { version, err = put(ctx, s, key, v.value(key, 2), store.None); return err },
	}
	done := 0
	for changed, err := range seq {
		if err != nil {
			return fmt.Errorf("Watch(%q): %w", prefix, err)
		}
		if !strings.HasPrefix(changed, prefix) {
			return fmt.Errorf("Watch(%q) yielded %q", prefix, changed)
		}
		if changed != key {
			continue // without reason, as it may
		}
		if done == len(changes) {
			return nil
		}
		if err := changes[done](); err != nil {
			return err
		}
		done++
	}
	return fmt.Errorf("Watch(%q) ended after %d changes, want it to tell of %d", prefix, done, len(changes)+1)
}

func endsWatch(ctx context.Context, s store.Store, v Values) error {
	key := v.keys()[0]
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	seq := s.(store.Watcher).Watch(watching, "")
	if _, err := put(ctx, s, key, v.value(key, 0), store.None); err != nil {
		return err
	}
	for range seq {
		cancel() // the sequence must end, whatever else happens
	}
	if ctx.Err() != nil {
		return fmt.Errorf("a Watch went on after its context ended")
	}
	return nil
}
