package live

import (
	"hash/maphash"
	"sync/atomic"
)

// index maps names to Sites. It is a hash table whose readers need no lock:
// they see each change as one pointer that is replaced. Those who change it
// must hold a lock of the owner's. The zero value is empty.
type index struct {
	buckets atomic.Pointer[buckets]
	len     int // guarded by the owner's lock
}

// buckets are the lists of the entries that hash alike. There are as many
// buckets as a power of two, so that mask cuts a hash to an index.
type buckets struct {
	seed  maphash.Seed // random, so that nobody can choose names that collide
	mask  uint64
	heads []atomic.Pointer[entry]
}

// entry is one name. Only site changes while readers may see the entry: what
// comes and goes is done by making lists anew from the front.
type entry struct {
	name string
	site atomic.Pointer[Site]
	next *entry
}

// minBuckets is how many buckets an index has at least.
const minBuckets = 8

func newBuckets(n int) *buckets {
	return &buckets{
		seed:  maphash.MakeSeed(),
		mask:  uint64(n - 1),
		heads: make([]atomic.Pointer[entry], n),
	}
}

// bucketOf returns the bucket of name. It is the same for a string and for
// its bytes.
func bucketOf[N string | []byte](b *buckets, name N) *atomic.Pointer[entry] {
	var hash uint64
	switch name := any(name).(type) {
	case string:
		hash = maphash.String(b.seed, name)
	case []byte:
		hash = maphash.Bytes(b.seed, name)
	}
	return &b.heads[hash&b.mask]
}

// find returns the Site of name, or nil. It may be called at any time. With
// bytes, it makes no string of them.
func find[N string | []byte](ix *index, name N) *Site {
	b := ix.buckets.Load()
	if b == nil {
		return nil
	}
	for e := bucketOf(b, name).Load(); e != nil; e = e.next {
		if e.name == string(name) {
			return e.site.Load()
		}
	}
	return nil
}

// put makes s the Site of name.
func (ix *index) put(name string, s *Site) {
	b := ix.buckets.Load()
	if b == nil {
		b = ix.resize(minBuckets)
	}
	for e := bucketOf(b, name).Load(); e != nil; e = e.next {
		if e.name == name {
			e.site.Store(s)
			return
		}
	}
	if ix.len == len(b.heads) {
		b = ix.resize(2 * len(b.heads))
	}
	ix.len++
	b.push(name, s)
}

// remove makes name unknown.
func (ix *index) remove(name string) {
	b := ix.buckets.Load()
	if b == nil {
		return
	}
	head := bucketOf(b, name)
	kept, found := without(head.Load(), name)
	if !found {
		return
	}
	head.Store(kept)
	ix.len--
	if n := len(b.heads); n > minBuckets && ix.len < n/8 {
		ix.resize(n / 4)
	}
}

// without returns the list e without name, and whether name was there. What
// stood before it is copied, since readers may be on their way through it.
func without(e *entry, name string) (*entry, bool) {
	if e == nil {
		return nil, false
	}
	if e.name == name {
		return e.next, true
	}
	rest, found := without(e.next, name)
	if !found {
		return e, false
	}
	kept := &entry{name: e.name, next: rest}
	kept.site.Store(e.site.Load())
	return kept, true
}

// resize spreads the entries over n buckets. The entries are copied: readers
// may still walk the lists that were.
func (ix *index) resize(n int) *buckets {
	b := newBuckets(n)
	if old := ix.buckets.Load(); old != nil {
		for i := range old.heads {
			for e := old.heads[i].Load(); e != nil; e = e.next {
				b.push(e.name, e.site.Load())
			}
		}
	}
	ix.buckets.Store(b)
	return b
}

// push adds an entry at the front of its list.
func (b *buckets) push(name string, s *Site) {
	head := bucketOf(b, name)
	e := &entry{name: name, next: head.Load()}
	e.site.Store(s)
	head.Store(e)
}
