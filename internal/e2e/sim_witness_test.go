package e2e_test

import (
	"context"
	"crypto/sha256"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// witness is the Store below all nodes. It sees what really happens to the
// Sets, and checks that nothing is lost.
type witness struct {
	*store.Memory
	s *sim

	mu   sync.Mutex             // guards what follows, and is held over changes of Sets
	sets map[string]*record.Set // by key, of domains/, staging/ and archive/
	here []store.Item           // below domains/, ascending
	seen map[[32]byte]time.Time // by leaf: since when it has stood in one of them
	kept map[string]bool        // URLs of orders that went to the archive with their key
}

func newWitness(s *sim) *witness {
	return &witness{Memory: new(store.Memory), s: s, sets: make(map[string]*record.Set), seen: make(map[[32]byte]time.Time), kept: make(map[string]bool)}
}

func setKey(key string) bool {
	return strings.HasPrefix(key, "domains/") || strings.HasPrefix(key, "staging/") || strings.HasPrefix(key, "archive/")
}

// Put implements store.Store.
func (w *witness) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	if !setKey(key) {
		return w.Memory.Put(ctx, key, value, old)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.Memory.Put(ctx, key, value, old)
	if err != nil {
		return v, err
	}
	set, decodeErr := record.DecodeSet(value)
	if decodeErr != nil {
		if !strings.Contains(key, "/broken-") {
			w.s.violate("what was written to %s does not decode: %v", key, decodeErr)
		}
		return v, nil
	}
	former := w.sets[key]
	w.sets[key] = set
	w.list(key, v)
	for i := range set.Credentials {
		if chain := set.Credentials[i].Chain; len(chain) > 0 {
			if hash := sha256.Sum256(chain[0]); w.seen[hash].IsZero() {
				w.seen[hash] = time.Now()
			}
		} else if strings.HasPrefix(key, "archive/") {
			w.kept[set.Credentials[i].Order] = true
		}
	}
	w.s.trace("store: %s becomes %v", key, described{set})
	if old == store.Any {
		w.s.violate("%s was written at any version", key)
	}
	w.checkKept(key, former)
	return v, nil
}

// Delete implements store.Store.
func (w *witness) Delete(ctx context.Context, key string, old store.Version) error {
	if !setKey(key) {
		return w.Memory.Delete(ctx, key, old)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.Memory.Delete(ctx, key, old)
	if err != nil {
		return err
	}
	former := w.sets[key]
	delete(w.sets, key)
	w.s.trace("store: %s is removed", key)
	switch {
	case strings.HasPrefix(key, "domains/"):
		w.s.violate("%s was removed", key)
	case strings.HasPrefix(key, "archive/"):
		w.checkPruned(key, former)
	default:
		w.checkKept(key, former)
	}
	return nil
}

// List implements store.Store. The Sets in use, which each node lists every
// hour, are ready to be listed.
func (w *witness) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	if prefix != record.ActivePrefix {
		return w.Memory.List(ctx, prefix)
	}
	return func(yield func(store.Item, error) bool) {
		w.mu.Lock()
		items := w.here
		w.mu.Unlock()
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(store.Item{}, context.Cause(ctx))
		}
	}
}

// list notes the version of a Set in use. w.mu is held.
func (w *witness) list(key string, v store.Version) {
	if !strings.HasPrefix(key, record.ActivePrefix) {
		return
	}
	here := slices.Clone(w.here) // the former may be being listed
	i, found := slices.BinarySearchFunc(here, key, func(item store.Item, key string) int { return strings.Compare(item.Key, key) })
	if !found {
		here = slices.Insert(here, i, store.Item{Key: key})
	}
	here[i].Version = v
	w.here = here
}

// checkKept checks that every certificate of a Set that is not at key any more
// still stands somewhere. w.mu is held.
func (w *witness) checkKept(key string, former *record.Set) {
	if former == nil {
		return
	}
	_, name, _ := strings.Cut(key, "/")
	for i := range former.Credentials {
		c := &former.Credentials[i]
		if c.Complete() && !w.has(name, c.Chain[0]) {
			w.s.violate("a certificate of %s stood at %s and is lost", name, key)
		}
	}
}

// has reports whether a leaf stands at one of the keys of a Domain. w.mu is
// held.
func (w *witness) has(name string, leaf []byte) bool {
	for key, set := range w.sets {
		_, rest, _ := strings.Cut(key, "/")
		if rest != name && !strings.HasPrefix(rest, name+"/") {
			continue
		}
		for i := range set.Credentials {
			if chain := set.Credentials[i].Chain; len(chain) > 0 && string(chain[0]) == string(leaf) {
				return true
			}
		}
	}
	return false
}

// checkPruned checks that only what is old or too much goes from the archive.
func (w *witness) checkPruned(key string, former *record.Set) {
	prefix := key[:strings.LastIndexByte(key, '/')+1]
	newer := 0
	for other := range w.sets {
		if strings.HasPrefix(other, prefix) && other > key {
			newer++
		}
	}
	if former != nil && newer < 10 && time.Since(former.When()) < 300*day {
		w.s.violate("%s was pruned, though only %d in the archive are newer", key, newer)
	}
}

// saw reports whether a certificate has ever been in a Set in the Store, or
// its order in the archive.
func (w *witness) saw(c acmetest.Certificate) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.seen[sha256.Sum256(c.DER)].IsZero() || w.kept[c.Order]
}

// stoodBefore reports whether a certificate has been in a Set in the Store
// before a moment.
func (w *witness) stoodBefore(c acmetest.Certificate, at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	since := w.seen[sha256.Sum256(c.DER)]
	return !since.IsZero() && since.Before(at)
}

// described is a Set as text. Sets in the witness do not change.
type described struct{ set *record.Set }

func (d described) String() string {
	var b strings.Builder
	for i := range d.set.Credentials {
		c := &d.set.Credentials[i]
		b.WriteString(c.KeyType)
		if leaf, err := c.Leaf(); err == nil {
			b.WriteString(" " + serial(leaf) + " until " + leaf.NotAfter.Format(time.DateTime) + "; ")
		} else {
			b.WriteString(" order " + c.Order + "; ")
		}
	}
	return b.String()
}
