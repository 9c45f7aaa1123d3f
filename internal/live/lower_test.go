package live

import (
	"encoding/binary"
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
