package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
)

func TestRunOnStoreOfAnything(t *testing.T) {
	Run(t, func(*testing.T) store.Store { return &store.Memory{} }, Values{})
}

func TestRunOnStoreOfCertainThings(t *testing.T) {
	v := Values{
		Keys: []string{"domains/a", "domains/b", "jobs/a", "jobs/b"},
		Make: func(key string, n int) []byte { return fmt.Appendf(nil, "%s=%d", key, n) },
	}
	Run(t, func(*testing.T) store.Store {
		s := &broken{Store: &store.Memory{}}
		s.put = func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
			ours := slices.Contains(v.Keys, key) && strings.HasPrefix(string(value), key+"=")
			if store.CheckKey(key) == nil && len(value) <= store.MaxValue && !ours {
				return store.None, fmt.Errorf("this store takes no %q of %.20q", key, value)
			}
			return s.Store.Put(ctx, key, value, old)
		}
		return s
	}, v)
}

func TestRunOnFaultyWithoutFaults(t *testing.T) {
	Run(t, func(*testing.T) store.Store { return &Faulty{Store: &store.Memory{}} }, Values{})
}

// broken is a Memory of which single methods are replaced.
type broken struct {
	store.Store
	get    func(ctx context.Context, key string) ([]byte, store.Version, error)
	put    func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error)
	delete func(ctx context.Context, key string, old store.Version) error
	list   func(ctx context.Context, prefix string) iter.Seq2[store.Item, error]
}

func (b *broken) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	if b.get != nil {
		return b.get(ctx, key)
	}
	return b.Store.Get(ctx, key)
}

func (b *broken) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	if b.put != nil {
		return b.put(ctx, key, value, old)
	}
	return b.Store.Put(ctx, key, value, old)
}

func (b *broken) Delete(ctx context.Context, key string, old store.Version) error {
	if b.delete != nil {
		return b.delete(ctx, key, old)
	}
	return b.Store.Delete(ctx, key, old)
}

func (b *broken) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	if b.list != nil {
		return b.list(ctx, prefix)
	}
	return b.Store.List(ctx, prefix)
}

// watching is a broken that is also a Watcher and a Scanner.
type watching struct {
	broken
	watch func(ctx context.Context, prefix string) iter.Seq2[string, error]
	scan  func(ctx context.Context, prefix string) iter.Seq2[store.Entry, error]
}

func (w *watching) Watch(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return w.watch(ctx, prefix)
}

func (w *watching) Scan(ctx context.Context, prefix string) iter.Seq2[store.Entry, error] {
	return w.scan(ctx, prefix)
}

func (w *watching) Locate(string) string { return "somewhere" }

// TestPromisesFail breaks each promise, and wants its check to say so.
func TestPromisesFail(t *testing.T) {
	bg := context.Background()
	unbroken := slices.Clone(promises)
	for _, test := range []struct {
		name    string // what the store does
		promise string
		open    func(m *store.Memory) store.Store
	}{
		{"forgets the last byte", "returns what was put", func(m *store.Memory) store.Store {
			return &broken{Store: m, get: func(ctx context.Context, key string) ([]byte, store.Version, error) {
				value, version, err := m.Get(ctx, key)
				return value[:max(0, len(value)-1)], version, err
			}}
		}},
		{"has an error of its own for a missing key", "has no value for a key never put", func(m *store.Memory) store.Store {
			return &broken{Store: m, get: func(ctx context.Context, key string) ([]byte, store.Version, error) {
				value, version, err := m.Get(ctx, key)
				if err != nil {
					err = errors.New("no such row")
				}
				return value, version, err
			}}
		}},
		{"takes None for Any", "puts with None only where nothing is", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				if old == store.None {
					old = store.Any
				}
				return m.Put(ctx, key, value, old)
			}}
		}},
		{"does not compare", "puts with a Version only over it", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				if old != store.None {
					old = store.Any
				}
				return m.Put(ctx, key, value, old)
			}}
		}},
		{"takes Any for a Version", "puts with Any whatever is there", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				if _, _, err := m.Get(ctx, key); err != nil && old == store.Any {
					return store.None, store.ErrConflict
				}
				return m.Put(ctx, key, value, old)
			}}
		}},
		{"has the length for a Version", "gives equal Versions to equal content only", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				_, err := m.Put(ctx, key, value, old)
				return store.Version(fmt.Sprint(len(value))), err
			}}
		}},
		{"deletes whatever is there", "deletes only at the Version", func(m *store.Memory) store.Store {
			return &broken{Store: m, delete: func(ctx context.Context, key string, _ store.Version) error {
				return m.Delete(ctx, key, store.Any)
			}}
		}},
		{"cannot delete what is not there", "deletes only at the Version", func(m *store.Memory) store.Store {
			return &broken{Store: m, delete: func(ctx context.Context, key string, old store.Version) error {
				if _, _, err := m.Get(ctx, key); err != nil {
					return err
				}
				return m.Delete(ctx, key, old)
			}}
		}},
		{"compares a moment before it swaps", "lets one of many writers win", newRacy},
		{"compares a moment before it swaps, too", "loses no update of many writers", newRacy},
		{"is blind to what follows the last slash", "keeps keys apart", func(m *store.Memory) store.Store {
			cut := func(key string) string { return key[:strings.LastIndexByte(key, '/')+1] + "x" }
			return &broken{Store: m,
				get: func(ctx context.Context, key string) ([]byte, store.Version, error) { return m.Get(ctx, cut(key)) },
				put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
					return m.Put(ctx, cut(key), value, store.Any)
				},
			}
		}},
		{"keeps what it was given", "does not keep the value it was given", func(m *store.Memory) store.Store {
			var last []byte
			return &broken{Store: m,
				put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
					last = value
					return m.Put(ctx, key, value, old)
				},
				get: func(ctx context.Context, key string) ([]byte, store.Version, error) {
					_, version, err := m.Get(ctx, key)
					return last, version, err
				},
			}
		}},
		{"does not look at its context", "does nothing after its context ended", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(_ context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				return m.Put(bg, key, value, old)
			}}
		}},
		{"ends a list without a word", "does nothing after its context ended", func(m *store.Memory) store.Store {
			return &broken{Store: m, list: func(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
				return func(yield func(store.Item, error) bool) {
					for item, err := range m.List(ctx, prefix) {
						if err != nil || !yield(item, nil) {
							return
						}
					}
				}
			}}
		}},
		{"sorts component by component", "lists in ascending order", func(m *store.Memory) store.Store {
			return &broken{Store: m, list: func(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
				items := collect(ctx, m, prefix)
				slices.SortFunc(items, func(a, b store.Item) int {
					return slices.Compare(strings.Split(a.Key, "/"), strings.Split(b.Key, "/"))
				})
				return items.all
			}}
		}},
		{"lists versions of its own", "lists in ascending order", func(m *store.Memory) store.Store {
			return &broken{Store: m, list: func(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
				items := collect(ctx, m, prefix)
				for i := range items {
					items[i].Version = "1"
				}
				return items.all
			}}
		}},
		{"lists everything always", "lists what is below a prefix", func(m *store.Memory) store.Store {
			return &broken{Store: m, list: func(ctx context.Context, _ string) iter.Seq2[store.Item, error] {
				return m.List(ctx, "")
			}}
		}},
		{"lists by position", "lists while it is changed", func(m *store.Memory) store.Store {
			return &broken{Store: m, list: func(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
				return func(yield func(store.Item, error) bool) {
					for i := 0; ; i++ {
						items := collect(ctx, m, prefix)
						if i >= len(items) || !yield(items[i], nil) {
							return
						}
					}
				}
			}}
		}},
		{"is blind to case", "takes any key", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				return m.Put(ctx, strings.ToLower(key), value, old)
			}}
		}},
		{"has no rule for keys", "refuses what is no key", func(m *store.Memory) store.Store {
			return &broken{Store: m, get: func(ctx context.Context, key string) ([]byte, store.Version, error) {
				return nil, store.None, fs.ErrNotExist
			}}
		}},
		{"leaves directories behind", "takes a key where a longer one was", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				if key == "a" {
					return store.None, errors.New("is a directory")
				}
				return m.Put(ctx, key, value, old)
			}}
		}},
		{"takes empty for missing", "takes any value", func(m *store.Memory) store.Store {
			return &broken{Store: m, get: func(ctx context.Context, key string) ([]byte, store.Version, error) {
				value, version, err := m.Get(ctx, key)
				if err == nil && len(value) == 0 {
					return nil, store.None, fs.ErrNotExist
				}
				return value, version, err
			}}
		}},
		{"cuts what is too large", "refuses a value that is too large", func(m *store.Memory) store.Store {
			return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
				return m.Put(ctx, key, value[:min(len(value), store.MaxValue)], old)
			}}
		}},
		{"scans without values", "scans what it lists", func(m *store.Memory) store.Store {
			return &watching{broken: broken{Store: m}, scan: func(ctx context.Context, prefix string) iter.Seq2[store.Entry, error] {
				return func(yield func(store.Entry, error) bool) {
					for item, err := range m.List(ctx, prefix) {
						if !yield(store.Entry{Key: item.Key, Version: item.Version}, err) {
							return
						}
					}
				}
			}}
		}},
		{"gives up watching", "tells a watcher of every change", func(m *store.Memory) store.Store {
			return &watching{broken: broken{Store: m}, watch: func(context.Context, string) iter.Seq2[string, error] {
				return func(func(string, error) bool) {}
			}}
		}},
		{"watches everything", "tells a watcher of every change", func(m *store.Memory) store.Store {
			return &watching{broken: broken{Store: m}, watch: func(context.Context, string) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) { yield("jobs/other", nil) }
			}}
		}},
		{"watches for ever", "ends a watch with its context", func(m *store.Memory) store.Store {
			return &watching{broken: broken{Store: m}, watch: func(context.Context, string) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) {
					for end := time.Now().Add(2 * time.Hour); time.Now().Before(end) && yield("a", nil); {
						time.Sleep(time.Second)
					}
				}
			}}
		}},
		{"keeps all keys in one place", "says where a key is kept", func(m *store.Memory) store.Store {
			return &watching{broken: broken{Store: m}}
		}},
	} {
		unbroken = slices.DeleteFunc(unbroken, func(p promise) bool { return p.name == test.promise })
		t.Run("a store that "+test.name, func(t *testing.T) {
			i := slices.IndexFunc(promises, func(p promise) bool { return p.name == test.promise })
			if i < 0 {
				t.Fatalf("there is no promise %q", test.promise)
			}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := promises[i].check(ctx, test.open(&store.Memory{}), Values{})
				if err == nil {
					t.Errorf("breaks no promise, want it to break %q", test.promise)
				}
				t.Log(err)
			})
		})
	}
	for _, p := range unbroken {
		t.Errorf("no store here breaks the promise %q", p.name)
	}
}

// itemList is what a List yielded.
type itemList []store.Item

func (l itemList) all(yield func(store.Item, error) bool) {
	for _, item := range l {
		if !yield(item, nil) {
			return
		}
	}
}

func collect(ctx context.Context, s store.Store, prefix string) itemList {
	var all itemList
	for item, err := range s.List(ctx, prefix) {
		if err == nil {
			all = append(all, item)
		}
	}
	return all
}

// newRacy returns a Store that compares, lets all others compare, and swaps.
func newRacy(m *store.Memory) store.Store {
	return &broken{Store: m, put: func(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
		_, version, _ := m.Get(ctx, key)
		if old != store.Any && version != old {
			return store.None, store.ErrConflict
		}
		time.Sleep(time.Second) // in a bubble: all who compare have done so
		return m.Put(ctx, key, value, store.Any)
	}}
}
