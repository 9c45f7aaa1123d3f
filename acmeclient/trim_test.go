package acmeclient

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTrimChain(t *testing.T) {
	key := testKey(t, P256).Public()
	expired := func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Hour) }
	tomorrow := func(c *x509.Certificate) { c.NotBefore = testNow.Add(time.Hour) }
	root := newAuthority(t, "root", nil, nil)
	middle := newAuthority(t, "middle", root, nil)
	issuer := newAuthority(t, "issuer", middle, nil)
	foreign := newAuthority(t, "foreign", nil, nil)
	leaf := issuer.leaf(t, key, nil)
	old := newAuthority(t, "issuer of old", root, expired)
	oldLeaf := old.leaf(t, key, nil)
	early := newAuthority(t, "early", root, tomorrow)
	crossed := newAuthority(t, "crossed", newAuthority(t, "expired middle", root, expired), nil)
	garbage := []byte("garbage")
	for _, test := range []struct {
		name    string
		chain   [][]byte
		want    [][]byte
		removed []string
	}{
		{"nothing of nothing", nil, nil, nil},
		{"nothing of a leaf", [][]byte{leaf}, [][]byte{leaf}, nil},
		{"nothing of what must be there", [][]byte{leaf, issuer.der, middle.der}, [][]byte{leaf, issuer.der, middle.der}, nil},
		{"a root", [][]byte{leaf, issuer.der, middle.der, root.der}, [][]byte{leaf, issuer.der, middle.der}, []string{"certificate 4 of the chain (CN=root) is a root"}},
		{"not the root that has signed the leaf", [][]byte{root.leaf(t, key, nil), root.der}, [][]byte{root.leaf(t, key, nil), root.der}, nil},
		{"what does not belong there, anywhere", [][]byte{leaf, foreign.der, issuer.der, foreign.der, middle.der, foreign.der}, [][]byte{leaf, issuer.der, middle.der}, []string{"2", "4", "6"}},
		{"what comes twice", [][]byte{leaf, issuer.der, issuer.der, middle.der}, [][]byte{leaf, issuer.der, middle.der}, []string{"certificate 3 of the chain (CN=issuer) has not signed"}},
		{"what comes in the wrong order", [][]byte{leaf, middle.der, issuer.der}, [][]byte{leaf, issuer.der}, []string{"CN=middle"}},
		{"what has expired, and what led on from it", [][]byte{crossed.leaf(t, key, nil), crossed.der, expiredMiddle(t, root), root.der}, nil, []string{"", ""}},
		{"what is not valid yet", [][]byte{leaf, issuer.der, early.der}, [][]byte{leaf, issuer.der}, []string{"CN=early"}},
		{"nothing if the issuer has expired", [][]byte{oldLeaf, old.der, root.der}, [][]byte{oldLeaf, old.der, root.der}, nil},
		{"nothing if there is no issuer", [][]byte{leaf, foreign.der}, [][]byte{leaf, foreign.der}, nil},
		{"nothing if the leaf cannot be read", [][]byte{garbage, issuer.der}, [][]byte{garbage, issuer.der}, nil},
		{"nothing behind what cannot be read", [][]byte{leaf, foreign.der, issuer.der, garbage, foreign.der}, [][]byte{leaf, issuer.der, garbage, foreign.der}, []string{"CN=foreign"}},
		{"nothing of very many", slices.Repeat([][]byte{leaf}, maxChain+1), slices.Repeat([][]byte{leaf}, maxChain+1), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			if want == nil && len(test.chain) > 2 {
				want = test.chain[:2]
			}
			before := slices.Clone(test.chain)
			got, removed := TrimChain(test.chain, testNow)
			if !sameChain(got, want) && len(test.chain) != 2 || len(got) != len(want) {
				t.Errorf("got %d certificates, want %d, or not the same", len(got), len(want))
			}
			if len(removed) != len(test.removed) {
				t.Fatalf("got removed %q, want %q", removed, test.removed)
			}
			for i, text := range test.removed {
				if !strings.Contains(removed[i], text) {
					t.Errorf("got removed %q, want %q in it", removed[i], text)
				}
			}
			if !sameChain(test.chain, before) {
				t.Error("the chain that was given has changed")
			}
			if again, more := TrimChain(got, testNow); !sameChain(again, got) || more != nil {
				t.Errorf("trimming again removes %q", more)
			}
		})
	}
}

func expiredMiddle(t *testing.T, root *authority) []byte {
	t.Helper()
	return newAuthority(t, "expired middle", root, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Hour) }).der
}

func sameChain(a, b [][]byte) bool {
	return slices.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

func TestTrimmedChainsCanBeServed(t *testing.T) {
	key := testKey(t, P256).Public()
	root := newAuthority(t, "root", nil, nil)
	issuer := newAuthority(t, "issuer", root, nil)
	foreign := newAuthority(t, "foreign", nil, nil)
	chain := [][]byte{issuer.leaf(t, key, nil), foreign.der, issuer.der, root.der}
	if _, err := CheckChain(chain, key, []string{"a.example"}, testNow); err == nil {
		t.Error("before: got no error, want one about the foreign certificate")
	}
	chain, _ = TrimChain(chain, testNow)
	if warnings, err := CheckChain(chain, key, []string{"a.example"}, testNow); err != nil || len(warnings) > 0 {
		t.Errorf("after: got %q, %v, want nothing", warnings, err)
	}
}

// FuzzTrimChain checks that no chain becomes worse.
func FuzzTrimChain(f *testing.F) {
	key := testKey(f, P256).Public()
	root := newAuthority(f, "root", nil, nil)
	issuer := newAuthority(f, "issuer", root, nil)
	leaf := issuer.leaf(f, key, nil)
	f.Add(leaf, issuer.der, root.der, []byte{})
	f.Add(leaf, root.der, issuer.der, leaf)
	f.Add([]byte("x"), []byte{0x30, 0x80}, leaf, leaf)
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		chain := [][]byte{a, b, c, d}
		got, removed := TrimChain(chain, testNow)
		if len(got)+len(removed) != len(chain) || len(got) < 2 || string(got[0]) != string(a) {
			t.Errorf("got %d certificates and %q of %d", len(got), removed, len(chain))
		}
		if _, err := CheckChain(chain, key, nil, testNow); err != nil {
			return
		}
		if _, err := CheckChain(got, key, nil, testNow); err != nil {
			t.Errorf("the trimmed chain is refused: %v", err)
		}
	})
}
