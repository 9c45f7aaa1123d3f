package live

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// Names are hashed and compared eight bytes at a time, as they are spelt:
// "Example.com" is found at once under "example.com". Where a name is no
// multiple of eight bytes long, its last eight overlap those before.

// caseBits are what tells 'a' from 'A' in each of eight bytes.
const caseBits = 0x2020202020202020

// seed makes hashes of names. It is random, so that nobody can choose names
// whose hashes collide.
type seed struct{ start, factor uint64 }

func newSeed() seed {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return seed{
		start:  binary.LittleEndian.Uint64(random[:]),
		factor: binary.LittleEndian.Uint64(random[8:]) | 1,
	}
}

// hash returns a hash of name that is the same for all its spellings. It
// takes a few pairs of other characters, such as '@' and '`', for one letter
// in two cases: names are still told apart by isSpelling.
func (s *seed) hash(name []byte) uint64 {
	h := s.start ^ uint64(len(name))
	if len(name) < 8 {
		return s.mix(h, shortWord(name))
	}
	last := binary.LittleEndian.Uint64(name[len(name)-8:])
	for len(name) > 8 {
		h = s.mix(h, binary.LittleEndian.Uint64(name))
		name = name[8:]
	}
	return s.mix(h, last)
}

// mix adds eight bytes to a hash by what Go's own maps use where there is no
// AES in hardware: the two halves of a product, of which one factor is secret
// and so is what the other starts from.
func (s *seed) mix(h, word uint64) uint64 {
	high, low := bits.Mul64(h^(word|caseBits), s.factor)
	return high ^ low
}

// isSpelling reports whether name, in whatever case, is lower, which is in
// lower case. Only the case of ASCII letters may differ (RFC 4343 §3).
func isSpelling(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	if len(name) < 8 {
		return lowerWord(shortWord(name)) == shortWord([]byte(lower))
	}
	if !wordIsSpelling(name[len(name)-8:], lower[len(lower)-8:]) {
		return false
	}
	for len(name) > 8 && len(lower) > 8 {
		if !wordIsSpelling(name, lower) {
			return false
		}
		name, lower = name[8:], lower[8:]
	}
	return true
}

// wordIsSpelling is isSpelling for the first eight bytes of both.
func wordIsSpelling(name []byte, lower string) bool {
	got, want := binary.LittleEndian.Uint64(name), binary.LittleEndian.Uint64([]byte(lower[:8]))
	return got == want || lowerWord(got) == want
}

// shortWord returns a name of less than eight bytes as a number.
func shortWord(name []byte) (word uint64) {
	for _, c := range name {
		word = word<<8 | uint64(c)
	}
	return word
}

// lowerWord makes the upper-case letters among eight bytes lower. Adding to
// seven bits of each byte carries into the eighth where it is at least 'A', or
// more than 'Z'; where only the first is so, it is a letter to change.
func lowerWord(w uint64) uint64 {
	const ones = 0x0101010101010101
	low := w & (0x7f * ones)
	fromA := low + (0x80-'A')*ones
	pastZ := low + (0x7f-'Z')*ones
	upper := (fromA ^ pastZ) &^ w & (0x80 * ones)
	return w | upper>>2 // 0x80>>2 is what tells 'a' from 'A'
}
