package live

import "sync/atomic"

// index maps names to what serves them. It is a hash table whose readers need
// no lock: they see each change as one pointer that is replaced. Those who
// change it must hold a lock of the owner's. The zero value is empty.
type index struct {
	buckets atomic.Pointer[buckets]
	len     int // guarded by the owner's lock
}

// buckets are the lists of the entries that hash alike. There are as many
// lists as a power of two, at least twice as many as entries: most are empty
// or have one entry, so that a name costs little to find or to miss.
type buckets struct {
	seed  seed
	heads []atomic.Pointer[entry]
}

// entry is one name. It is immutable: what comes, goes and changes is done by
// making lists anew from the front. It has the size of a cache line, so that
// all that a handshake needs is there, but for the letters of the name and the
// choices after the first.
type entry struct {
	hash uint64 // by the seed of its buckets
	name string // in lower case
	next *entry
	served
}

// served is what serves a name.
type served struct {
	site  *Site
	first choice // of the credentials of site
}

// minBuckets is how many buckets an index has at least.
const minBuckets = 8

func newBuckets(n int) *buckets {
	return &buckets{seed: newSeed(), heads: make([]atomic.Pointer[entry], n)}
}

// head returns the list that names with the hash given stand in.
func (b *buckets) head(hash uint64) *atomic.Pointer[entry] {
	return &b.heads[hash&uint64(len(b.heads)-1)]
}

// find returns what serves name, in whatever case, or nil. It may be called
// at any time.
func (ix *index) find(name []byte) *served {
	b := ix.buckets.Load()
	if b == nil {
		return nil
	}
	hash := b.seed.hash(name)
	for e := b.head(hash).Load(); e != nil; e = e.next {
		if e.hash == hash && isSpelling(name, e.name) {
			return &e.served
		}
	}
	return nil
}

// put makes s what serves name, which is in lower case.
func (ix *index) put(name string, s served) {
	b := ix.buckets.Load()
	if b == nil {
		b = ix.resize(minBuckets)
	} else if n := len(b.heads); ix.len >= n/2 {
		b = ix.resize(2 * n)
	}
	if b.set(name, s) {
		ix.len++
	}
}

// remove makes name, which is in lower case, unknown.
func (ix *index) remove(name string) {
	b := ix.buckets.Load()
	if b == nil {
		return
	}
	head := b.head(b.seed.hash([]byte(name)))
	kept, found := without(head.Load(), name)
	if !found {
		return
	}
	head.Store(kept)
	ix.len--
	if n := len(b.heads); n > minBuckets && ix.len < n/16 {
		ix.resize(max(n/4, minBuckets))
	}
}

// set makes s what serves name, and reports whether the name is one more.
func (b *buckets) set(name string, s served) (added bool) {
	hash := b.seed.hash([]byte(name))
	head := b.head(hash)
	others, found := without(head.Load(), name)
	head.Store(&entry{hash: hash, name: name, next: others, served: s})
	return !found
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
	kept := *e
	kept.next = rest
	return &kept, true
}

// resize spreads the entries over n buckets. The entries are copied: readers
// may still walk the lists that were.
func (ix *index) resize(n int) *buckets {
	b := newBuckets(n)
	if old := ix.buckets.Load(); old != nil {
		for i := range old.heads {
			for e := old.heads[i].Load(); e != nil; e = e.next {
				b.set(e.name, e.served)
			}
		}
	}
	ix.buckets.Store(b)
	return b
}
