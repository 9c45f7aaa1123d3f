package store

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEncodeKey(t *testing.T) {
	for _, test := range []struct{ key, want string }{
		{"domains/example.com", "domains/example.com"},
		{"archive/xn--bcher-kva.example/2026-01-02-1f", "archive/xn--bcher-kva.example/2026-01-02-1f"},
		{"limits/acme-v02.api.letsencrypt.org-1234abcd/default/_", "limits/acme-v02.api.letsencrypt.org-1234abcd/default/_"},
		{"domains/*.example.com", "domains/%2a.example.com"},
		{"domains/_.example.com", "domains/_.example.com"},
		{"challenges/http-01/aBc_-D", "challenges/http-01/a%42c_-%44"},
		{".", "%2e"},
		{"../..", "%2e%2e/%2e%2e"},
		{"...", "%2e.%2e"},
		{".md", "%2emd"},
		{"a.", "a%2e"},
		{"a ", "a%20"},
		{"con", "%63on"},
		{"nul.txt", "%6eul.txt"},
		{"com1.a.b", "%63om1.a.b"},
		{"com", "com"},
		{"com10", "com10"},
		{"console", "console"},
		{"CON", "%43%4f%4e"},
		{`c:\x`, "c%3a%5cx"},
		{"%2a", "%252a"},
		{"+", "%2b"},
		{"é", "%c3%a9"},
		{strings.Repeat("a", 180), strings.Repeat("a", 180)},
		{strings.Repeat("a", 181), strings.Repeat(strings.Repeat("a", 60)+"+/", 3) + "a"},
		{strings.Repeat("A", 61), strings.Repeat("%41", 60) + "+/%41"},
		{"x/con" + strings.Repeat(".", 58) + "con/y", "x/con" + strings.Repeat(".", 58) + "con/y"},
		{strings.Repeat("*", 60) + "con", strings.Repeat("%2a", 60) + "+/%63on"},
	} {
		if test.key[0] == 'x' {
			// A device's name with dots after it is one still.
			test.want = strings.Replace(test.want, "x/con", "x/%63on", 1)
		}
		if got := encodeKey(test.key); got != test.want {
			t.Errorf("encodeKey(%q) = %q, want %q", test.key, got, test.want)
		}
		checkKeyName(t, test.key)
	}
}

// decodePath is what List makes of a path: the key, or "" if Dir would not
// have given it.
func decodePath(path string) string {
	var key strings.Builder
	startOfPart := true
	for name := range strings.SplitSeq(path, "/") {
		part, goesOn, ok := decodeName(name)
		if !ok {
			return ""
		}
		if startOfPart && key.Len() > 0 {
			key.WriteByte('/')
		}
		key.WriteString(part)
		startOfPart = !goesOn
	}
	if encodeKey(key.String()) != path {
		return ""
	}
	return key.String()
}

func checkKeyName(t *testing.T, key string) {
	t.Helper()
	path := encodeKey(key)
	if got := decodePath(path); got != key {
		t.Errorf("%q is kept in %q, which reads as %q", key, path, got)
	}
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		t.Errorf("%q is kept in %q, which is outside the root", key, path)
	}
	if lower := strings.ToLower(path); lower != path {
		t.Errorf("%q is kept in %q, want lower case", key, path)
	}
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case len(name) > maxName+len(more):
			t.Errorf("%q has the file name %q of %d bytes, want at most %d", key, name, len(name), maxName+len(more))
		case name[0] == '.', name[len(name)-1] == '.', isDevice(name):
			t.Errorf("%q has the file name %q, which some systems do not keep", key, name)
		}
	}
}

func FuzzKeyName(f *testing.F) {
	for _, pair := range [][2]string{
		{"domains/example.com", "domains/*.example.com"},
		{"..", "."}, {"con", "Con"}, {"nul.txt", "NUL.TXT"}, {"a.", "a "}, {"a/b", "a+/b"}, {"%2e", "."}, {".md", ".md/lock-00"},
		{strings.Repeat("a", 255), strings.Repeat("a", 60) + "+/" + strings.Repeat("a", 195)},
		{strings.Repeat("é", 127), strings.Repeat("É", 127)},
		{strings.Repeat("a", 60) + strings.Repeat("*", 60), strings.Repeat("a", 60)},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, key := range []string{a, b} {
			// As a path it may be anything that a disk can hold.
			if key := decodePath(key); key != "" && !utf8.ValidString(key) && CheckKey(key) == nil {
				t.Errorf("%q is taken for a key", key)
			}
			if CheckKey(key) != nil {
				return
			}
			checkKeyName(t, key)
		}
		if pathA, pathB := encodeKey(a), encodeKey(b); a != b && strings.EqualFold(pathA, pathB) {
			t.Errorf("%q and %q are both kept in %q", a, b, pathA)
		}
	})
}
