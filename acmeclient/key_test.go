package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// allKeyTypes are those that every Go has.
var allKeyTypes = []KeyType{P256, P384, P521, RSA2048, RSA3072, RSA4096}

func TestTheTableOfKeyTypesIsSound(t *testing.T) {
	if got := KeyTypes(); !slices.Equal(got[:len(allKeyTypes)], allKeyTypes) {
		t.Errorf("got %v, want them to begin with %v", got, allKeyTypes)
	}
	seen := map[string]KeyType{}
	for _, row := range keyTable() {
		for _, s := range append([]string{plainName(string(row.name))}, row.spellings...) {
			if plainName(s) != s {
				t.Errorf("%s: the spelling %q would never be found", row.name, s)
			}
			if other, ok := seen[s]; ok {
				t.Errorf("%q is a spelling of %s and of %s", s, other, row.name)
			}
			seen[s] = row.name
		}
		if row.name.Check() != nil || row.generate == nil || row.matches == nil {
			t.Errorf("%s lacks something", row.name)
		}
	}
}

func TestKeyTypeOfAGeneratedKeyIsItsType(t *testing.T) {
	for _, typ := range allKeyTypes {
		if testing.Short() && strings.HasPrefix(string(typ), "RSA-") && typ != RSA2048 {
			continue
		}
		key := testKey(t, typ)
		if got := KeyTypeOf(key.Public()); got != typ {
			t.Errorf("got %q, want %q", got, typ)
		}
	}
}

func TestKeyTypeOfWhatIsNotInTheTableIsEmpty(t *testing.T) {
	for name, pub := range map[string]crypto.PublicKey{
		"nil":         nil,
		"Ed25519":     ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)),
		"P-224":       &ecdsa.PublicKey{Curve: elliptic.P224()},
		"no curve":    &ecdsa.PublicKey{},
		"nil ECDSA":   (*ecdsa.PublicKey)(nil),
		"RSA 1024":    &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537},
		"RSA, no N":   &rsa.PublicKey{},
		"nil RSA":     (*rsa.PublicKey)(nil),
		"not a key":   "P-256",
		"odd RSA":     &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2048), E: 3},
		"private key": &ecdsa.PrivateKey{},
	} {
		if got := KeyTypeOf(pub); got != "" {
			t.Errorf("%s: got %q, want none", name, got)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, typ := range []KeyType{"", "p-256", "RSA-1024", "Ed25519"} {
		if _, err := typ.Generate(t.Context()); err == nil || !strings.Contains(err.Error(), "known are P-256") {
			t.Errorf("%q: got error %v, want one that lists what is known", typ, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := P256.Generate(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

func TestParseKeyTypeReadsManySpellings(t *testing.T) {
	for want, spellings := range map[KeyType][]string{
		P256:    {"P-256", "p256", "secp256r1", "prime256v1", "PRIME256V1"},
		P384:    {"P-384", "P384", "secp384r1"},
		P521:    {"p-521", "secp521r1"},
		RSA2048: {"RSA", "rsa2048", "RSA 2048", "RSA-2048"},
		RSA3072: {"rsa3072", "RSA 3072", "rsa_3072"},
		RSA4096: {"RSA-4096", "rsa4096"},
	} {
		for _, s := range spellings {
			if got, err := ParseKeyType(s); got != want || err != nil {
				t.Errorf("%q: got %q, %v, want %q", s, got, err, want)
			}
		}
	}
	for _, s := range []string{"", "default", "rsa1024", "P-224", "X25519", "rsa 2048 bits", "P-256\x00"} {
		if got, err := ParseKeyType(s); got != "" || err == nil {
			t.Errorf("%q: got %q, %v, want an error", s, got, err)
		}
	}
	for _, typ := range allKeyTypes {
		if got, err := ParseKeyType(string(typ)); got != typ || err != nil {
			t.Errorf("%q: got %q, %v, want itself", typ, got, err)
		}
	}
}

func TestCSR(t *testing.T) {
	long := strings.Repeat("a", 60) + ".example.com"
	atLimit := strings.Repeat("a", 52) + ".example.com" // 64 bytes
	for _, test := range []struct {
		name    string
		names   []string
		wantCN  string
		wantDNS []string
		wantIPs []string
	}{
		{"the first name is the common name", []string{"a.example", "b.example"}, "a.example", []string{"a.example", "b.example"}, nil},
		{"a wildcard may be", []string{"*.a.example", "a.example"}, "*.a.example", []string{"*.a.example", "a.example"}, nil},
		{"a long one is not, nor is the second", []string{long, "b.example"}, "", []string{long, "b.example"}, nil},
		{"one of 63 bytes is", []string{atLimit[1:]}, atLimit[1:], []string{atLimit[1:]}, nil},
		{"one of 64 bytes is not", []string{atLimit}, "", []string{atLimit}, nil},
		{"addresses are not", []string{"192.0.2.1", "2001:db8::1", "a.example"}, "", []string{"a.example"}, []string{"192.0.2.1", "2001:db8::1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			der, err := CSR(testKey(t, P256), test.names)
			if err != nil {
				t.Fatal(err)
			}
			csr, err := x509.ParseCertificateRequest(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := csr.CheckSignature(); err != nil {
				t.Error(err)
			}
			var ips []string
			for _, ip := range csr.IPAddresses {
				ips = append(ips, ip.String())
			}
			if csr.Subject.CommonName != test.wantCN || !slices.Equal(csr.DNSNames, test.wantDNS) || !slices.Equal(ips, test.wantIPs) {
				t.Errorf("got %q %q %q, want %q %q %q", csr.Subject.CommonName, csr.DNSNames, ips, test.wantCN, test.wantDNS, test.wantIPs)
			}
		})
	}
	if _, err := CSR(testKey(t, P256), nil); err == nil {
		t.Error("got a CSR without names, want an error")
	}
	if _, err := CSR(testKey(t, P256), []string{"bücher.example"}); err == nil {
		t.Error("got a CSR for a name that is not ASCII, want an error")
	}
	for _, typ := range []KeyType{P384, P521, RSA2048} {
		if _, err := CSR(testKey(t, typ), []string{"a.example"}); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}
