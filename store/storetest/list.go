package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/manageddomains/md/store"
)

// orderedKeys is where sorting file by file, or without regard to slashes,
// goes wrong: '-' and '.' come before '/', digits and letters after it.
var orderedKeys = []string{
	"a!", "a-b", "a.b", "a.c/d", "a/b", "a/b-c", "a/bb", "a0", "aa", "A", "B/a", "b", "_", "a%2fb", "a b", "Z", "é", "zz/a/b/c", "zz/a/b-c",
	strings.Repeat("l", 60) + "a", strings.Repeat("l", 200), strings.Repeat("l", 100) + "m", strings.Repeat("l", 60) + strings.Repeat("z", 140), strings.Repeat("l", 61),
	strings.Repeat("L", 61) + "/x", strings.Repeat("L", 61) + "-",
}

func listsInOrder(ctx context.Context, s store.Store, v Values) error {
	if err := expectList(ctx, s, "", nil); err != nil {
		return err
	}
	keys := v.keys()
	if v.Keys == nil {
		keys = orderedKeys
	}
	if err := putAll(ctx, s, v, keys); err != nil {
		return err
	}
	return expectList(ctx, s, "", keys)
}

func listsBelowPrefix(ctx context.Context, s store.Store, v Values) error {
	keys := v.keys()
	if v.Keys == nil {
		keys = append(slices.Clone(keys), orderedKeys...)
	}
	prefixes := map[string][]string{"": keys}
	for _, key := range keys {
		for i, c := range key {
			if c == '/' {
				prefixes[key[:i+1]] = nil
			}
		}
		prefixes[key+"/"] = nil // below a value is nothing
	}
	for prefix := range prefixes {
		prefixes[prefix] = slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
			return !strings.HasPrefix(key, prefix)
		})
	}
	if err := putAll(ctx, s, v, keys); err != nil {
		return err
	}
	for prefix, want := range prefixes {
		if err := expectList(ctx, s, prefix, want); err != nil {
			return err
		}
	}
	// A reader may stop when it likes.
	for item, err := range s.List(ctx, "") {
		if err != nil {
			return err
		}
		if want := slices.Min(keys); item.Key != want {
			return fmt.Errorf("List(\"\") begins with %q, want %q", item.Key, want)
		}
		break
	}
	return nil
}

// listsWhileChanged writes and deletes between the steps of a List: what is
// there throughout must be seen once, and each key after the one before.
func listsWhileChanged(ctx context.Context, s store.Store, v Values) error {
	keys := slices.Sorted(slices.Values(v.keys()))
	if err := putAll(ctx, s, v, keys); err != nil {
		return err
	}
	stay, comeAndGo := []string{}, []string{}
	for i, key := range keys {
		if i%2 == 0 {
			stay = append(stay, key)
		} else {
			comeAndGo = append(comeAndGo, key)
		}
	}
	seen := []string{}
	for item, err := range s.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("List while the Store was changed: %w", err)
		}
		if n := len(seen); n > 0 && seen[n-1] >= item.Key {
			return fmt.Errorf("List yielded %q after %q", item.Key, seen[n-1])
		}
		seen = append(seen, item.Key)
		for _, key := range stay {
			if _, err := put(ctx, s, key, v.value(key, len(seen)), store.Any); err != nil {
				return err
			}
		}
		for _, key := range comeAndGo {
			if len(seen)%2 == 0 {
				_, err = put(ctx, s, key, v.value(key, 0), store.Any)
			} else {
				err = s.Delete(ctx, key, store.Any)
			}
			if err != nil {
				return err
			}
		}
	}
	seen = slices.DeleteFunc(seen, func(key string) bool { return !slices.Contains(stay, key) })
	if !slices.Equal(seen, stay) {
		return fmt.Errorf("List while other keys came and went = %q, want %q", seen, stay)
	}
	return nil
}

func scansWhatItLists(ctx context.Context, s store.Store, v Values) error {
	keys := v.keys()
	if err := putAll(ctx, s, v, keys); err != nil {
		return err
	}
	prefix := ""
	if i := strings.IndexByte(keys[0], '/'); i >= 0 {
		prefix = keys[0][:i+1]
	}
	for _, prefix := range []string{"", prefix} {
		items, err := list(ctx, s, prefix)
		if err != nil {
			return err
		}
		scanned := []store.Item{}
		for e, err := range s.(store.Scanner).Scan(ctx, prefix) {
			if err != nil {
				return fmt.Errorf("Scan(%q): %w", prefix, err)
			}
			if want := v.value(e.Key, 0); !bytes.Equal(e.Value, want) {
				return fmt.Errorf("Scan(%q) has value %.60q of %q, want %.60q", prefix, e.Value, e.Key, want)
			}
			clear(e.Value) // it is the caller's
			scanned = append(scanned, store.Item{Key: e.Key, Version: e.Version})
		}
		if !slices.Equal(scanned, items) {
			return fmt.Errorf("Scan(%q) = %v, want what List has: %v", prefix, scanned, items)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for e, err := range s.(store.Scanner).Scan(ended, "") {
		if err == nil {
			return fmt.Errorf("a Scan with an ended context yielded %q, want an error", e.Key)
		}
		return nil
	}
	return fmt.Errorf("a Scan with an ended context yielded nothing, want an error")
}
