package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/manageddomains/md/store"
)

func returnsWhatWasPut(ctx context.Context, s store.Store, v Values) error {
	for n := range 3 {
		for _, key := range v.keys() {
			version, err := put(ctx, s, key, v.value(key, n), store.Any)
			if err != nil {
				return err
			}
			if err := expect(ctx, s, key, v.value(key, n), version); err != nil {
				return err
			}
		}
	}
	return nil
}

func hasNoValue(ctx context.Context, s store.Store, v Values) error {
	if err := expectNone(ctx, s, v.keys()[0]); err != nil {
		return err
	}
	if err := putAll(ctx, s, v, v.keys()[1:]); err != nil {
		return err
	}
	return expectNone(ctx, s, v.keys()[0])
}

func putsWithNone(ctx context.Context, s store.Store, v Values) error {
	key := v.keys()[0]
	version, err := put(ctx, s, key, v.value(key, 0), store.None)
	if err != nil {
		return err
	}
	for n := range 2 { // also what is there already
		_, err = s.Put(ctx, key, v.value(key, n), store.None)
		if err := expectErr("Put with None over a value", err, store.ErrConflict); err != nil {
			return err
		}
	}
	return expect(ctx, s, key, v.value(key, 0), version)
}

func putsOverVersion(ctx context.Context, s store.Store, v Values) error {
	key, other := v.keys()[0], v.keys()[1]
	first, err := put(ctx, s, key, v.value(key, 0), store.None)
	if err != nil {
		return err
	}
	second, err := put(ctx, s, key, v.value(key, 1), first)
	if err != nil {
		return err
	}
	if err := expect(ctx, s, key, v.value(key, 1), second); err != nil {
		return err
	}
	_, err = s.Put(ctx, key, v.value(key, 2), first)
	if err := expectErr("Put with a former Version", err, store.ErrConflict); err != nil {
		return err
	}
	if err := expect(ctx, s, key, v.value(key, 1), second); err != nil {
		return err
	}
	_, err = s.Put(ctx, other, v.value(other, 0), second)
	if err := expectErr("Put with a Version where nothing is", err, store.ErrConflict); err != nil {
		return err
	}
	return expectNone(ctx, s, other)
}

func putsWithAny(ctx context.Context, s store.Store, v Values) error {
	key := v.keys()[0]
	for n := range 3 {
		version, err := put(ctx, s, key, v.value(key, n), store.Any)
		if err != nil {
			return err
		}
		if err := expect(ctx, s, key, v.value(key, n), version); err != nil {
			return err
		}
	}
	return nil
}

func versionsTellContent(ctx context.Context, s store.Store, v Values) error {
	key := v.keys()[0]
	content := make(map[store.Version]int)
	for _, n := range []int{0, 1, 0, 2, 1, 0, 3} {
		version, err := put(ctx, s, key, v.value(key, n), store.Any)
		if err != nil {
			return err
		}
		if was, ok := content[version]; ok && was != n {
			return fmt.Errorf("values %d and %d of %q both have Version %q, want different ones", was, n, key, version)
		}
		content[version] = n
	}
	return nil
}

func deletesAtVersion(ctx context.Context, s store.Store, v Values) error {
	key, other := v.keys()[0], v.keys()[1]
	first, err := put(ctx, s, key, v.value(key, 0), store.None)
	if err != nil {
		return err
	}
	second, err := put(ctx, s, key, v.value(key, 1), first)
	if err != nil {
		return err
	}
	for _, old := range []store.Version{first, store.None} {
		err := expectErr(fmt.Sprintf("Delete with Version %q of a value that has another", old), s.Delete(ctx, key, old), store.ErrConflict)
		if err != nil {
			return err
		}
	}
	if err := expect(ctx, s, key, v.value(key, 1), second); err != nil {
		return err
	}
	if err := s.Delete(ctx, key, second); err != nil {
		return fmt.Errorf("Delete with the Version that is there: %w", err)
	}
	for _, old := range []store.Version{second, store.None, store.Any} {
		if err := s.Delete(ctx, key, old); err != nil {
			return fmt.Errorf("Delete(%q, %q) of a missing key: %w", key, old, err)
		}
	}
	if err := expectNone(ctx, s, key); err != nil {
		return err
	}
	// The key is as if it had never been.
	if _, err := put(ctx, s, key, v.value(key, 0), store.None); err != nil {
		return err
	}
	if _, err := put(ctx, s, other, v.value(other, 0), store.None); err != nil {
		return err
	}
	if err := s.Delete(ctx, key, store.Any); err != nil {
		return fmt.Errorf("Delete with Any: %w", err)
	}
	if err := expectNone(ctx, s, key); err != nil {
		return err
	}
	return expectList(ctx, s, "", []string{other})
}

// oneWriterWins lets many write over the same Version, again and again, the
// first time over None.
func oneWriterWins(ctx context.Context, s store.Store, v Values) error {
	const writers, rounds = 8, 4
	key := v.keys()[0]
	old := store.None
	for round := range rounds {
		var versions [writers]store.Version
		var errs [writers]error
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				versions[i], errs[i] = s.Put(ctx, key, v.value(key, 1+round*writers+i), old)
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				return fmt.Errorf("of many Puts over Version %q, two succeeded", old)
			case err == nil:
				winner = i
			case !errors.Is(err, store.ErrConflict):
				return fmt.Errorf("one of many Puts over Version %q = error %w, want ErrConflict", old, err)
			}
		}
		if winner < 0 {
			return fmt.Errorf("of many Puts over Version %q, none succeeded", old)
		}
		old = versions[winner]
		if err := expect(ctx, s, key, v.value(key, 1+round*writers+winner), old); err != nil {
			return err
		}
	}
	return nil
}

// losesNoUpdate lets many count a key up by compare-and-swap. The count is in
// which of the values the key has.
func losesNoUpdate(ctx context.Context, s store.Store, v Values) error {
	const writers, each = 4, 5
	key := v.keys()[0]
	count := make(map[string]int)
	for n := range writers*each + 1 {
		count[string(v.value(key, n))] = n
	}
	if len(count) != writers*each+1 {
		return errors.New("Values.Make returns one value for two numbers")
	}
	if _, err := put(ctx, s, key, v.value(key, 0), store.None); err != nil {
		return err
	}
	var errs [writers]error
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range each {
				errs[i] = errors.Join(errs[i], countUp(ctx, s, v, key, count))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	value, _, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if got := count[string(value)]; got != writers*each {
		return fmt.Errorf("after %d updates by compare-and-swap, the value counts %d", writers*each, got)
	}
	return nil
}

func countUp(ctx context.Context, s store.Store, v Values, key string, count map[string]int) error {
	for {
		value, version, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		n, ok := count[string(value)]
		if !ok {
			return fmt.Errorf("Get(%q) = %.60q, which was never put", key, value)
		}
		_, err = s.Put(ctx, key, v.value(key, n+1), version)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func keepsKeysApart(ctx context.Context, s store.Store, v Values) error {
	keys := v.keys()
	versions := make([]store.Version, len(keys))
	for i, key := range keys {
		var err error
		if versions[i], err = put(ctx, s, key, v.value(key, i), store.None); err != nil {
			return err
		}
	}
	for i, key := range keys {
		if err := expect(ctx, s, key, v.value(key, i), versions[i]); err != nil {
			return err
		}
	}
	if err := s.Delete(ctx, keys[0], versions[0]); err != nil {
		return err
	}
	return expectList(ctx, s, "", keys[1:])
}

func keepsNoReference(ctx context.Context, s store.Store, v Values) error {
	key := v.keys()[0]
	want := v.value(key, 0)
	given := slices.Clone(want)
	version, err := put(ctx, s, key, given, store.None)
	if err != nil {
		return err
	}
	clear(given)
	if err := expect(ctx, s, key, want, version); err != nil {
		return fmt.Errorf("after the caller wrote to what it gave to Put: %w", err)
	}
	got, _, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	clear(got)
	_ = append(got, "more"...)
	if err := expect(ctx, s, key, want, version); err != nil {
		return fmt.Errorf("after the caller wrote to what Get returned: %w", err)
	}
	return nil
}

func obeysContext(ctx context.Context, s store.Store, v Values) error {
	keys := v.keys()
	if err := putAll(ctx, s, v, keys[:1]); err != nil {
		return err
	}
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("enough"))
	if _, _, err := s.Get(ended, keys[0]); err == nil {
		return errors.New("Get with an ended context succeeded")
	}
	if _, err := s.Put(ended, keys[1], v.value(keys[1], 0), store.None); err == nil {
		return errors.New("Put with an ended context succeeded")
	}
	if err := s.Delete(ended, keys[0], store.Any); err == nil {
		return errors.New("Delete with an ended context succeeded")
	}
	errs := ""
	for item, err := range s.List(ended, "") {
		if err == nil {
			return fmt.Errorf("List with an ended context yielded %q, want an error", item.Key)
		}
		errs += strconv.Quote(err.Error())
		if len(errs) > 1000 {
			break // a sequence that goes on after its error may go on for ever
		}
	}
	if errs == "" {
		return errors.New("List with an ended context yielded nothing, want an error")
	}
	return expectList(ctx, s, "", keys[:1])
}
