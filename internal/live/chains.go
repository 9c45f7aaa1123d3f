package live

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"weak"
)

// Chains makes credentials, and lets them share what they have in common, so
// that a million of them need the certificates of their few issuers once. It
// forgets issuers that no credential needs any more. The zero value is ready;
// its methods may be called concurrently.
type Chains struct {
	mu      sync.Mutex                                  // guards the fields below
	issuers map[[sha256.Size]byte]weak.Pointer[issuers] // by digest
	sweepAt int                                         // how many issuers call for a sweep
	needs   map[kind]*needs
}

// issuers are the certificates of a chain above its leaf.
type issuers struct{ der [][]byte }

// below returns the chain of leaf and the issuers above it, with a leaf of
// its own.
func (s *issuers) below(leaf []byte) [][]byte {
	chain := make([][]byte, 0, 1+len(s.der))
	return append(append(chain, bytes.Clone(leaf)), s.der...)
}

// minSweep is the number of issuers below which dead ones are left alone.
const minSweep = 32

// intern returns the issuers that hold the certificates given: those there
// are, or a copy.
func (ch *Chains) intern(der [][]byte) *issuers {
	digest := digestOf(der)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if s := ch.issuers[digest].Value(); s != nil {
		return s
	}
	if len(ch.issuers) >= max(ch.sweepAt, minSweep) {
		ch.sweep()
	}
	s := &issuers{der: make([][]byte, len(der))}
	for i := range der {
		s.der[i] = bytes.Clone(der[i])
	}
	if ch.issuers == nil {
		ch.issuers = make(map[[sha256.Size]byte]weak.Pointer[issuers])
	}
	ch.issuers[digest] = weak.Make(s)
	return s
}

// sweep forgets dead issuers. The next sweep is due when their number has
// doubled, so that interning stays cheap however many there are.
func (ch *Chains) sweep() {
	for digest, s := range ch.issuers {
		if s.Value() == nil {
			delete(ch.issuers, digest)
		}
	}
	ch.sweepAt = 2 * len(ch.issuers)
}

// digestOf returns a digest of certificates and of where each ends.
func digestOf(der [][]byte) (digest [sha256.Size]byte) {
	h := sha256.New()
	for _, d := range der {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(d)))
		h.Write(size[:])
		h.Write(d)
	}
	h.Sum(digest[:0])
	return digest
}
