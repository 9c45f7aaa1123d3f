package store

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Memory keeps values in the process: what it holds is gone with it. It is
// for tests, and for those who accept that a restart orders everything anew,
// which CAs allow only a few times a week. The zero value is ready to use and
// must not be copied after first use. It is also a [Watcher] and a [Scanner].
type Memory struct {
	mu       sync.Mutex // guards what follows
	values   map[string]memoryValue
	watchers map[*memoryWatcher]struct{}
}

type memoryValue struct {
	value   []byte
	version Version
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key string) ([]byte, Version, error) {
	if err := checkCall(ctx, key); err != nil {
		return nil, None, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	if !ok {
		return nil, None, notExist(key)
	}
	return slices.Clone(v.value), v.version, nil
}

// Put implements [Store].
func (m *Memory) Put(ctx context.Context, key string, value []byte, old Version) (Version, error) {
	if err := checkCall(ctx, key); err != nil {
		return None, err
	}
	if len(value) > MaxValue {
		return None, tooLarge(key)
	}
	v := memoryValue{slices.Clone(value), contentVersion(value)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old != Any && m.values[key].version != old {
		return None, conflict(key)
	}
	if m.values == nil {
		m.values = make(map[string]memoryValue)
	}
	m.values[key] = v
	m.changed(key)
	return v.version, nil
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, key string, old Version) error {
	if err := checkCall(ctx, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	if !ok {
		return nil
	}
	if old != Any && v.version != old {
		return conflict(key)
	}
	delete(m.values, key)
	m.changed(key)
	return nil
}

// List implements [Store]. It yields the keys that were there when the
// iteration began.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return items(m.Scan(ctx, prefix))
}

// Scan implements [Scanner].
func (m *Memory) Scan(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Entry{}, err)
			return
		}
		for _, e := range m.snapshot(prefix) {
			if ctx.Err() != nil {
				break
			}
			// Values are never changed in place, so that the snapshot shares
			// them; what is yielded is the caller's.
			e.Value = slices.Clone(e.Value)
			if !yield(e, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Entry{}, context.Cause(ctx))
		}
	}
}

func (m *Memory) snapshot(prefix string) []Entry {
	m.mu.Lock()
	var all []Entry
	for key, v := range m.values {
		if strings.HasPrefix(key, prefix) {
			all = append(all, Entry{Key: key, Version: v.version, Value: v.value})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// memoryWatcher collects the keys that changed and were not yet yielded. A
// key that changes often is remembered once, so that a slow reader costs no
// more than one entry for each key.
type memoryWatcher struct {
	prefix string
	wake   chan struct{}       // holds a token while pending is not empty
	keys   map[string]struct{} // guarded by Memory.mu
}

// changed is called with m.mu held.
func (m *Memory) changed(key string) {
	for w := range m.watchers {
		if !strings.HasPrefix(key, w.prefix) {
			continue
		}
		w.keys[key] = struct{}{}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Watch implements [Watcher]. The sequence may be ranged over once.
func (m *Memory) Watch(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if err := CheckPrefix(prefix); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	w := &memoryWatcher{
		prefix: prefix,
		wake:   make(chan struct{}, 1),
		keys:   make(map[string]struct{}),
	}
	m.mu.Lock()
	if m.watchers == nil {
		m.watchers = make(map[*memoryWatcher]struct{})
	}
	m.watchers[w] = struct{}{}
	m.mu.Unlock()
	// The caller may never range over the sequence.
	stop := context.AfterFunc(ctx, func() { m.unwatch(w) })

	return func(yield func(string, error) bool) {
		defer m.unwatch(w)
		defer stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
			}
			for _, key := range m.take(w) {
				if ctx.Err() != nil || !yield(key, nil) {
					return
				}
			}
		}
	}
}

func (m *Memory) unwatch(w *memoryWatcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers, w)
}

func (m *Memory) take(w *memoryWatcher) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := make([]string, 0, len(w.keys))
	for key := range w.keys {
		keys = append(keys, key)
	}
	clear(w.keys)
	slices.Sort(keys)
	return keys
}

// String says what m is, and never what it holds.
func (m *Memory) String() string { return fmt.Sprintf("store.Memory(%p)", m) }

// GoString does as String does.
func (m *Memory) GoString() string { return m.String() }
