package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"io"
	"math/big"
	"testing"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// kms is a key that is kept elsewhere.
type kms struct{ pub crypto.PublicKey }

func (k kms) Public() crypto.PublicKey { return k.pub }

func (kms) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("signs") }

// remote signs, but does not show its key.
type remote struct{ crypto.Signer }

func TestAccountKeysThatCAsTake(t *testing.T) {
	for _, typ := range []KeyType{P256, P384, RSA2048} {
		key := testKey(t, typ)
		for _, signer := range []crypto.Signer{key, remote{key}, kms{key.Public()}} {
			got, err := CA{AccountKey: signer}.Resolve()
			if err != nil {
				t.Errorf("%s as %T: %v", typ, signer, err)
				continue
			}
			if again, err := got.Resolve(); err != nil || again != got {
				t.Errorf("%s as %T: resolving again: got %v, %v", typ, signer, again, err)
			}
		}
	}
	if _, err := (CA{Name: "zerossl", AccountKey: testKey(t, P256)}).Resolve(); err != nil {
		t.Errorf("a key whose account the CA may know needs no EAB: got %v", err)
	}
}

func TestAccountKeysThatCAsDoNotTake(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	bits := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n-1) }
	for _, test := range []struct {
		name string
		key  crypto.Signer
		want string
	}{
		{"P-521", testKey(t, P521), "EC P-521: CAs take EC P-256 and P-384, and RSA"},
		{"Ed25519", edwards, "ed25519.PublicKey: CAs take"},
		{"P-224", kms{&ecdsa.PublicKey{Curve: elliptic.P224()}}, "EC P-224"},
		{"a small RSA key", kms{&rsa.PublicKey{N: bits(1024), E: 65537}}, "RSA of 1024 bits"},
		{"a huge RSA key", kms{&rsa.PublicKey{N: bits(16384), E: 65537}}, "RSA of 16384 bits"},
		{"an RSA key without N", kms{&rsa.PublicKey{}}, "incomplete"},
		{"a nil public RSA key", kms{(*rsa.PublicKey)(nil)}, "incomplete"},
		{"an EC key without curve", kms{&ecdsa.PublicKey{}}, "incomplete"},
		{"a nil public EC key", kms{(*ecdsa.PublicKey)(nil)}, "incomplete"},
		{"no public key", kms{}, "has no public key"},
		{"a nil key", (*ecdsa.PrivateKey)(nil), "nil *ecdsa.PrivateKey"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := CA{AccountKey: test.key}.Resolve()
			wantText(t, err, test.want)
			wantText(t, err, "AccountKey")
		})
	}
}

func TestAnAccountWithAKeyThatIsKeptElsewhere(t *testing.T) {
	ca := &acmetest.CA{LookupTXT: func(context.Context, string) ([]string, error) { return nil, nil }}
	defer ca.Close()
	for _, typ := range []KeyType{P256, P384, RSA2048} {
		client, err := New(CA{URL: ca.DirectoryURL(), AccountKey: remote{testKey(t, typ)}}, ca.Client(), nil)
		if err != nil {
			t.Fatal(err)
		}
		key := client.CA().AccountKey
		account, err := client.Register(t.Context(), key, nil, true)
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		if _, err := client.Session(key, account.URL).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}}); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}
