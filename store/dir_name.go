package store

import (
	"encoding/hex"
	"strings"
)

// A key's file is found by its name alone, and its name tells the key. Each
// component of the key is one file name, in which
//
//   - a-z, 0-9, '-', '_' and '.' stand for themselves, so that most names
//     look as they are;
//   - every other byte is '%' and two lower-case hex digits: capitals too,
//     because a disk may be blind to case or to Unicode's several spellings
//     of one text;
//   - so is a '.' at either end, since Windows drops it at the end of a name,
//     and names that begin with one are free for Dir's own use (and for what
//     editors, rsync and NFS leave behind);
//   - so is the first byte of what Windows takes for a device, as in
//     "nul.txt".
//
// A component that would be longer than maxName is cut into pieces of
// pieceLen bytes: all but the last are directories, whose names end in '+'.
// No name needs a suffix to be told from a directory's, because no key is a
// prefix of another at a slash.
const (
	maxName  = 180 // ecryptfs and other layers take fewer than 255 bytes
	pieceLen = 60  // a third: every byte may need three
	more     = "+"
)

const lowerHex = "0123456789abcdef"

// encodeKey returns the path of a key's file below the root, with slashes.
func encodeKey(key string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(key, "/") {
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(encodeComponent(part))
	}
	return b.String()
}

// encodeComponent returns the path of one component, with slashes.
func encodeComponent(part string) string {
	if name := encodeName(part); len(name) <= maxName {
		return name
	}
	var b strings.Builder
	for len(part) > pieceLen {
		b.WriteString(encodeName(part[:pieceLen]))
		b.WriteString(more + "/")
		part = part[pieceLen:]
	}
	b.WriteString(encodeName(part))
	return b.String()
}

func encodeName(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		atEnd := i == 0 || i == len(s)-1
		if isPlain(c) && !(c == '.' && atEnd) && !(i == 0 && isDevice(s)) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(lowerHex[c>>4])
		b.WriteByte(lowerHex[c&15])
	}
	return b.String()
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// isDevice reports whether Windows takes a file of that name for a device,
// whatever its extension ("Naming Files, Paths, and Namespaces"). Capitals
// and '$' are escaped in any case.
func isDevice(s string) bool {
	base, _, _ := strings.Cut(s, ".")
	switch base {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(base) == 4 && (base[:3] == "com" || base[:3] == "lpt") && '0' <= base[3] && base[3] <= '9'
}

// decodeName returns what a file name stands for, and whether the component
// goes on in the directory of that name. It takes more than encodeName
// gives: a name is a component's only if encoding leads back to it.
func decodeName(name string) (part string, goesOn, ok bool) {
	name, goesOn = strings.CutSuffix(name, more)
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case isPlain(c):
			b.WriteByte(c)
		case c == '%' && i+2 < len(name):
			var raw [1]byte
			if _, err := hex.Decode(raw[:], []byte(name[i+1:i+3])); err != nil {
				return "", false, false
			}
			b.WriteByte(raw[0])
			i += 2
		default:
			return "", false, false
		}
	}
	part = b.String()
	return part, goesOn, part != "" && !strings.Contains(part, "/")
}
