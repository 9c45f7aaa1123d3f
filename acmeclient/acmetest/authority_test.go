package acmetest

import (
	"bytes"
	"testing"
	"testing/synctest"
)

// mintedBy returns the DER of an issuer, a leaf and a stray root of a CA.
func mintedBy(t *testing.T, ca *CA) (minted [][]byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { // for the same time
		issuer, _, err := ca.Issuer()
		if err != nil {
			t.Fatal(err)
		}
		key, err := newKey(false, "anybody", "a leaf")
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := ca.minter.signer.sign(issuerTemplate("leaf"), key.Public())
		if err != nil {
			t.Fatal(err)
		}
		stray, err := ca.minter.strayIssuer()
		if err != nil {
			t.Fatal(err)
		}
		minted = [][]byte{issuer.Raw, leaf.Raw, stray.cert.Raw}
	})
	return minted
}

func TestSeedDecidesWhatIsMinted(t *testing.T) {
	first := mintedBy(t, &CA{Seed: 7, BaseURL: "https://one.test"})
	for _, test := range []struct {
		name string
		ca   *CA
		same bool
	}{
		{"the same seed and URL", &CA{Seed: 7, BaseURL: "https://one.test"}, true},
		{"another seed", &CA{Seed: 8, BaseURL: "https://one.test"}, false},
		{"another URL", &CA{Seed: 7, BaseURL: "https://other.test"}, false},
		{"no seed", &CA{BaseURL: "https://one.test"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i, got := range mintedBy(t, test.ca) {
				if bytes.Equal(got, first[i]) != test.same {
					t.Errorf("certificate %d is the same: %v, want %v", i, !test.same, test.same)
				}
			}
		})
	}
	t.Run("no seed, twice", func(t *testing.T) {
		one, other := mintedBy(t, new(CA)), mintedBy(t, new(CA))
		for i := range one {
			if bytes.Equal(one[i], other[i]) {
				t.Errorf("certificate %d comes back", i)
			}
		}
	})
}
