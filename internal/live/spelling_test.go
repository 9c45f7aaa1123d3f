package live

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// Every byte, at every place of a word, is made lower as ASCII has it, and
// changes none of its neighbours.
func TestLowerWord(t *testing.T) {
	for place := range 8 {
		for c := range 256 {
			word := []byte("aZ-9\xc1{@[")
			want := []byte("az-9\xc1{@[")
			word[place], want[place] = byte(c), byte(c)
			if 'A' <= c && c <= 'Z' {
				want[place] += 'a' - 'A'
			}
			var got [8]byte
			binary.LittleEndian.PutUint64(got[:], lowerWord(binary.LittleEndian.Uint64(word)))
			if got != [8]byte(want) {
				t.Fatalf("%q becomes %q, want %q", word, got, want)
			}
		}
	}
}

// lowerASCII is strings.ToLower for ASCII letters only.
func lowerASCII(s string) string {
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	return string(lower)
}

// checkSpelling checks what isSpelling and hash say of name and another.
func checkSpelling(t *testing.T, name, other string) {
	t.Helper()
	lower := lowerASCII(other)
	got, want := isSpelling([]byte(name), lower), lowerASCII(name) == lower
	if got != want {
		t.Errorf("isSpelling(%q, %q) got %v, want %v", name, lower, got, want)
	}
	s := newSeed()
	if got && s.hash([]byte(name)) != s.hash([]byte(lower)) {
		t.Errorf("%q and %q have different hashes, want the same", name, lower)
	}
}

// Names of every length are told from those that differ in one byte, unless
// that is only in case.
func TestIsSpelling(t *testing.T) {
	long := strings.Repeat("Some-Name.", 4)
	for size := range len(long) {
		name := long[:size]
		checkSpelling(t, name, name)
		checkSpelling(t, name, name+".")
		for at := range size {
			for _, flip := range []byte{0x20, 0x01, 0x80} {
				other := []byte(name)
				other[at] ^= flip
				checkSpelling(t, name, string(other))
				checkSpelling(t, string(other), name)
			}
		}
	}
}

func FuzzIsSpelling(f *testing.F) {
	f.Add("", "")
	f.Add("Example.com", "example.COM")
	f.Add("@example", "`example")
	f.Add("K\u212a", "kk") // the Kelvin sign is no ASCII letter
	f.Fuzz(func(t *testing.T, name, other string) {
		checkSpelling(t, name, other)
		checkSpelling(t, name, name)
		checkSpelling(t, strings.ToUpper(name), name)
	})
}

// A seed of its own makes the hashes of an index such that names which
// collide in one do not in another.
func TestHashesDependOnTheSeed(t *testing.T) {
	one, other := newSeed(), newSeed()
	for _, name := range []string{"", "x", "example.com", strings.Repeat("a", maxName)} {
		if one.hash([]byte(name)) == other.hash([]byte(name)) {
			t.Errorf("%.20q has the same hash with two seeds, want another with each", name)
		}
	}
}

// Names that are much alike spread over the buckets.
func TestHashesSpread(t *testing.T) {
	for it, nameOf := range map[string]func(i int) string{
		"differ in their first letters": func(i int) string { return fmt.Sprintf("%06d.example.com", i) },
		"differ in their last letters":  func(i int) string { return fmt.Sprintf("www.example-%06d", i) },
		"are short":                     func(i int) string { return fmt.Sprintf("%x", i) },
		"differ in length":              func(i int) string { return strings.Repeat("a", i/1000) + fmt.Sprint(i%1000) },
		"differ in single bits":         func(i int) string { return fmt.Sprintf("%017b", i) },
	} {
		t.Run("if they "+it, func(t *testing.T) {
			s := newSeed()
			const names = 1 << 15
			lengths := make([]int, 2*names)
			for i := range names {
				lengths[s.hash([]byte(nameOf(i)))%uint64(len(lengths))]++
			}
			// At random, a list of 12 comes once in ten million times.
			for _, length := range lengths {
				if length >= 12 {
					t.Fatalf("%d of %d names are in one list, want fewer than 12", length, names)
				}
			}
		})
	}
}
