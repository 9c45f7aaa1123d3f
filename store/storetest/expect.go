package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/manageddomains/md/store"
)

// put puts where nothing else is to happen, and returns the Version.
func put(ctx context.Context, s store.Store, key string, value []byte, old store.Version) (store.Version, error) {
	version, err := s.Put(ctx, key, value, old)
	switch {
	case err != nil:
		return store.None, fmt.Errorf("Put(%q, %d bytes, %q): %w", key, len(value), old, err)
	case version == store.None || version == store.Any:
		return store.None, fmt.Errorf("Put(%q) returned Version %q, want one of its own", key, version)
	}
	return version, nil
}

// putAll puts the first value of each key.
func putAll(ctx context.Context, s store.Store, v Values, keys []string) error {
	for _, key := range keys {
		if _, err := put(ctx, s, key, v.value(key, 0), store.None); err != nil {
			return err
		}
	}
	return nil
}

// expect returns an error unless key has that value at that Version.
func expect(ctx context.Context, s store.Store, key string, value []byte, version store.Version) error {
	got, gotVersion, err := s.Get(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("Get(%q): %w", key, err)
	case !bytes.Equal(got, value):
		return fmt.Errorf("Get(%q) = %.60q (%d bytes), want %.60q (%d bytes)", key, got, len(got), value, len(value))
	case gotVersion != version:
		return fmt.Errorf("Get(%q) has Version %q, want %q, as Put returned", key, gotVersion, version)
	}
	return nil
}

// expectNone returns an error unless key has no value.
func expectNone(ctx context.Context, s store.Store, key string) error {
	value, version, err := s.Get(ctx, key)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("Get(%q) of a key without value = error %v, want fs.ErrNotExist", key, err)
	case len(value) != 0 || version != store.None:
		return fmt.Errorf("Get(%q) of a key without value = %.60q, Version %q, want nothing and None", key, value, version)
	}
	return nil
}

// expectErr returns an error unless err is want.
func expectErr(what string, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s = error %v, want %v", what, err, want)
	}
	return nil
}

// list returns what s lists.
func list(ctx context.Context, s store.Store, prefix string) ([]store.Item, error) {
	var all []store.Item
	for item, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("List(%q): %w", prefix, err)
		}
		all = append(all, item)
	}
	return all, nil
}

// expectList returns an error unless s lists those keys, with the Versions
// that Get returns.
func expectList(ctx context.Context, s store.Store, prefix string, want []string) error {
	items, err := list(ctx, s, prefix)
	if err != nil {
		return err
	}
	got := []string{}
	for _, item := range items {
		got = append(got, item.Key)
		_, version, err := s.Get(ctx, item.Key)
		if err != nil {
			return fmt.Errorf("Get(%q), which was listed: %w", item.Key, err)
		}
		if item.Version != version {
			return fmt.Errorf("List(%q) has %q at Version %q, want %q, as Get has it", prefix, item.Key, item.Version, version)
		}
	}
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		return fmt.Errorf("List(%q) = %q, want %q", prefix, got, want)
	}
	return nil
}
