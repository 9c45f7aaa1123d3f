package storetest

import (
	"context"
	"errors"
	"hash/fnv"
	"iter"
	"strconv"
	"sync"

	"github.com/manageddomains/md/store"
)

// ErrInjected is what an operation fails with that a Faulty broke. It says
// nothing of whether the operation took effect.
var ErrInjected = errors.New("storetest: injected fault")

// Op is one call of a Store's method.
type Op struct {
	N    int    // counts all calls, from 1
	Kind string // "get", "put", "delete" or "list"
	Key  string // the prefix, for a list
	Nth  int    // counts the calls of this Kind with this Key, from 1
}

// Fault says how an operation is broken.
type Fault int

const (
	// FaultNone leaves the operation as it is.
	FaultNone Fault = iota
	// FaultBefore fails it without effect.
	FaultBefore
	// FaultAfter fails it after it took effect. One that would have failed
	// anyway does so in its own way.
	FaultAfter
	// FaultHang waits until the context ends, and fails without effect.
	FaultHang
	// FaultHangAfter takes effect, and then waits until the context ends.
	FaultHangAfter
)

// String returns the constant's name.
func (f Fault) String() string {
	names := [...]string{"FaultNone", "FaultBefore", "FaultAfter", "FaultHang", "FaultHangAfter"}
	if f < 0 || int(f) >= len(names) {
		return "Fault(" + strconv.Itoa(int(f)) + ")"
	}
	return names[f]
}

// Faulty is a Store that breaks operations of another. It hides the optional
// interfaces of the other, all but store.Locator. A scenario is run once to
// count its operations, and again with each of them broken, before and after
// its effect.
type Faulty struct {
	// Store does the work.
	Store store.Store

	// Fault says how to break an operation. It is called concurrently, with
	// no lock held, so that it may also wait, to be slow. Nil breaks nothing.
	Fault func(op Op) Fault

	mu    sync.Mutex // guards what follows
	count int
	nth   map[Op]int // by Kind and Key alone
}

// Count returns how many operations there have been.
func (f *Faulty) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// begin numbers an operation and says how to break it.
func (f *Faulty) begin(kind, key string) Fault {
	f.mu.Lock()
	if f.nth == nil {
		f.nth = make(map[Op]int)
	}
	op := Op{Kind: kind, Key: key}
	f.nth[op]++
	f.count++
	op.Nth, op.N = f.nth[op], f.count
	f.mu.Unlock()
	if f.Fault == nil {
		return FaultNone
	}
	return f.Fault(op)
}

// do runs an operation with its fault.
func (f *Faulty) do(ctx context.Context, kind, key string, op func() error) error {
	fault := f.begin(kind, key)
	switch fault {
	case FaultBefore:
		return ErrInjected
	case FaultHang:
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := op(); err != nil {
		return err
	}
	switch fault {
	case FaultAfter:
		return ErrInjected
	case FaultHangAfter:
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// Get implements store.Store.
func (f *Faulty) Get(ctx context.Context, key string) (value []byte, version store.Version, err error) {
	err = f.do(ctx, "get", key, func() (err error) {
		value, version, err = f.Store.Get(ctx, key)
		return err
	})
	if err != nil {
		return nil, store.None, err
	}
	return value, version, nil
}

// Put implements store.Store.
func (f *Faulty) Put(ctx context.Context, key string, value []byte, old store.Version) (version store.Version, err error) {
	err = f.do(ctx, "put", key, func() (err error) {
		version, err = f.Store.Put(ctx, key, value, old)
		return err
	})
	if err != nil {
		return store.None, err
	}
	return version, nil
}

// Delete implements store.Store.
func (f *Faulty) Delete(ctx context.Context, key string, old store.Version) error {
	return f.do(ctx, "delete", key, func() error { return f.Store.Delete(ctx, key, old) })
}

// List implements store.Store. A list is an operation when it is ranged over;
// broken after its effect, it yields all, and then the error.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		stopped := false
		err := f.do(ctx, "list", prefix, func() error {
			for item, err := range f.Store.List(ctx, prefix) {
				if err != nil {
					return err
				}
				if !yield(item, nil) {
					stopped = true
					return errStopped
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(store.Item{}, err)
		}
	}
}

var errStopped = errors.New("the reader has seen enough")

// Locate implements store.Locator as the other Store does.
func (f *Faulty) Locate(key string) string { return store.Locate(f.Store, key) }

// BySeed returns a Faulty.Fault that breaks share of the operations, from 0
// to 1, evenly in all ways. Whether and how depends on a hash of seed, node
// and the operation's Kind, Key and Nth, and on nothing else: not on what
// other goroutines or nodes do meanwhile.
func BySeed(seed uint64, node string, share float64) func(Op) Fault {
	return func(op Op) Fault {
		h := Hash(seed, node, op)
		// The upper bits decide whether, the lower ones how.
		if float64(h>>11)/(1<<53) >= share {
			return FaultNone
		}
		return FaultBefore + Fault(h%4)
	}
}

// Hash returns a number that depends on seed, node, and op's Kind, Key and Nth
// alone: a source of chance for a Faulty.Fault.
func Hash(seed uint64, node string, op Op) uint64 {
	h := fnv.New64a()
	for _, s := range []string{
		strconv.FormatUint(seed, 10), node, op.Kind, op.Key, strconv.Itoa(op.Nth),
	} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	// FNV changes its upper bits little for what comes last: mix them, as
	// SplitMix64 does.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
