package acmetest

import "testing"

// BenchmarkIssue is a whole flow in process: twelve requests, one validation.
func BenchmarkIssue(b *testing.B) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT}
	defer ca.Close()
	w := registered(b, ca)
	key := ecdsaKey(b)
	for b.Loop() {
		w.issue(b, s, key, "a.test")
		clear(s.txt)
	}
}
