package acmeclient

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text that a CA sent fit for logs, terminals and pages: at most limit bytes of valid UTF-8,
// with control characters and those that reorder or hide text (bidirectional marks, zero width) replaced by '?'
// and line breaks and tabs by spaces. Cleaning what is clean changes nothing.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
		for i := 0; i < utf8.UTFMax && len(s) > 0; i++ { // not in the middle of a rune
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			// IsPrint is false for Cc and Cf (bidi marks, zero width), for Zl, Zp and unusual spaces.
			return '?'
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}
