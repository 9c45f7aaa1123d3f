package acmeclient

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// authority is a certificate with its key, to sign others.
type authority struct {
	cert *x509.Certificate
	der  []byte
	key  crypto.Signer
}

// newAuthority returns an authority that parent has signed; nil: itself.
func newAuthority(t testing.TB, name string, parent *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := P256.Generate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             testNow.AddDate(-1, 0, 0),
		NotAfter:              testNow.AddDate(1, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent = &authority{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: mustParse(t, der), der: der, key: key}
}

// leaf returns a certificate for a key, for a.example, *.w.example, 192.0.2.1 and 2001:db8::1.
func (a *authority) leaf(t testing.TB, key crypto.PublicKey, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		NotBefore:    testNow.Add(-time.Hour),
		NotAfter:     testNow.AddDate(0, 0, 90),
		DNSNames:     []string{"A.example", "*.w.example"},
		IPAddresses:  []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCheckChain(t *testing.T) {
	key := testKey(t, P256).Public()
	expired := func(c *x509.Certificate) { c.NotAfter = testNow.Add(-time.Hour) }
	root := newAuthority(t, "root", nil, nil)
	issuer := newAuthority(t, "issuer", root, nil)
	foreign := newAuthority(t, "foreign", nil, nil)
	impostor := newAuthority(t, "issuer", nil, nil) // only has the name
	expiredRoot := newAuthority(t, "expired root", nil, expired)
	cross := newAuthority(t, "cross", expiredRoot, nil)
	leaf := issuer.leaf(t, key, nil)
	at := func(before, after time.Duration) []byte {
		return issuer.leaf(t, key, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = testNow.Add(before), testNow.Add(after) })
	}
	names := []string{"a.example"}
	for _, test := range []struct {
		name     string
		chain    [][]byte
		names    []string
		want     string   // in the error; empty: none
		warnings []string // in each warning
	}{
		{"leaf and issuer", [][]byte{leaf, issuer.der}, names, "", nil},
		{"with the root", [][]byte{leaf, issuer.der, root.der}, names, "", nil},
		{"all names", [][]byte{leaf, issuer.der}, []string{"A.EXAMPLE", "*.w.example", "x.w.example", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"}, "", nil},
		{"no names", [][]byte{leaf, issuer.der}, nil, "", nil},
		{"dates within the tolerance", [][]byte{at(4*time.Minute, time.Hour), issuer.der}, names, "", nil},
		{"an end within the tolerance", [][]byte{at(-time.Hour, -4*time.Minute), issuer.der}, names, "", nil},

		{"nothing", nil, names, "empty", nil},
		{"very many", slices.Repeat([][]byte{leaf}, maxChain+1), names, "more than 10", nil},
		{"garbage", [][]byte{[]byte("garbage"), issuer.der}, names, "cannot be read", nil},
		{"a huge leaf", [][]byte{make([]byte, maxCertSize+1)}, names, "larger than", nil},
		{"another key", [][]byte{issuer.leaf(t, root.key.Public(), nil), issuer.der}, names, "not for the private key", nil},
		{"another kind of key", [][]byte{issuer.leaf(t, testKey(t, RSA2048).Public(), nil), issuer.der}, names, "not for the private key", nil},
		{"a missing name", [][]byte{leaf, issuer.der}, []string{"a.example", "b.example"}, "does not cover b.example", nil},
		{"a wildcard two labels up", [][]byte{leaf, issuer.der}, []string{"x.y.w.example"}, "does not cover", nil},
		{"a wildcard without label", [][]byte{leaf, issuer.der}, []string{"w.example"}, "does not cover", nil},
		{"a wildcard name that is not in it", [][]byte{leaf, issuer.der}, []string{"*.a.example"}, "does not cover", nil},
		{"a wildcard name below a wildcard", [][]byte{leaf, issuer.der}, []string{"*.x.w.example"}, "does not cover", nil},
		{"a wildcard for an empty label", [][]byte{leaf, issuer.der}, []string{".w.example"}, "does not cover", nil},
		{"an empty name", [][]byte{leaf, issuer.der}, []string{""}, "does not cover", nil},
		{"another address", [][]byte{leaf, issuer.der}, []string{"192.0.2.2"}, "does not cover", nil},
		{"an expired leaf", [][]byte{at(-time.Hour, -6*time.Minute), issuer.der}, names, "the certificate has expired at 2026-11-21T11:54:00Z", nil},
		{"a leaf of tomorrow", [][]byte{at(6*time.Minute, time.Hour), issuer.der}, names, "not valid before", nil},
		{"a foreign issuer", [][]byte{leaf, foreign.der}, names, "not signed by the one that follows", nil},
		{"an issuer of the same name", [][]byte{leaf, impostor.der}, names, "not signed by the one that follows", nil},
		{"the leaf twice", [][]byte{leaf, leaf}, names, "not signed by the one that follows", nil},
		{"an unreadable issuer", [][]byte{leaf, []byte("x")}, names, "the issuer's certificate cannot be read", nil},
		{"an expired issuer", [][]byte{expiredRoot.leaf(t, key, nil), expiredRoot.der}, names, "has expired", nil},
		{"an issuer that is no CA", [][]byte{leafIssuer(t).leaf(t, key, nil), leafIssuer(t).der}, names, "not signed by", nil},

		{"no issuer", [][]byte{leaf}, names, "", []string{"no issuer certificate"}},
		{"a foreign certificate behind", [][]byte{leaf, issuer.der, foreign.der}, names, "", []string{"certificate 3 of the chain (CN=foreign) is superfluous"}},
		{"one between issuer and root", [][]byte{leaf, issuer.der, foreign.der, root.der}, names, "", []string{"CN=foreign"}},
		{"an expired root", [][]byte{cross.leaf(t, key, nil), cross.der, expiredRoot.der}, names, "", []string{"has expired"}},
		{"garbage behind", [][]byte{leaf, issuer.der, []byte("x"), root.der}, names, "", []string{"certificate 3 of the chain cannot be read"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			warnings, err := CheckChain(test.chain, key, test.names, testNow)
			if test.want != "" {
				wantText(t, err, test.want)
			} else if err != nil {
				t.Error(err)
			}
			if len(warnings) != len(test.warnings) {
				t.Fatalf("got warnings %q, want %q", warnings, test.warnings)
			}
			for i, w := range test.warnings {
				if !strings.Contains(warnings[i], w) {
					t.Errorf("got warning %q, want %q", warnings[i], w)
				}
			}
		})
	}
	if _, err := CheckChain([][]byte{leaf, issuer.der}, nil, names, testNow); err == nil {
		t.Error("without key: got no error, want one")
	}
}

// leafIssuer returns an authority that must not be one.
func leafIssuer(t testing.TB) *authority {
	return newAuthority(t, "no CA", nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 })
}

// withUnknownAlgorithm returns the certificate with its signature algorithms' identifiers replaced by one that nobody knows.
func withUnknownAlgorithm(t *testing.T, der []byte) []byte {
	t.Helper()
	known, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ecdsa-with-SHA256
	if err != nil {
		t.Fatal(err)
	}
	unknown := bytes.Clone(known)
	unknown[len(unknown)-1] = 0x7f
	if bytes.Count(der, known) != 2 {
		t.Fatal("the certificate is not signed with ECDSA")
	}
	return bytes.ReplaceAll(der, known, unknown)
}

func TestCheckChainWarnsOfUnknownAlgorithms(t *testing.T) {
	key := testKey(t, P256).Public()
	root := newAuthority(t, "root", nil, nil)
	issuer := newAuthority(t, "issuer", root, nil)
	leaf := issuer.leaf(t, key, nil)
	for name, chain := range map[string][][]byte{
		"the issuer's signature": {leaf, withUnknownAlgorithm(t, issuer.der), root.der},
		"the leaf's signature":   {withUnknownAlgorithm(t, leaf), issuer.der, root.der},
	} {
		warnings, err := CheckChain(chain, key, []string{"a.example"}, testNow)
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "cannot be checked") {
			t.Errorf("%s: got %q, %v, want one warning", name, warnings, err)
		}
	}
}

func TestCheckChainTakesOtherKeys(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.PublicKey{ed, testKey(t, P521).Public(), testKey(t, RSA2048).Public()} {
		if _, err := CheckChain([][]byte{root.leaf(t, key, nil), root.der}, key, []string{"a.example"}, testNow); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
}

func TestCheckChainDoesNotVerifyWithAbsurdKeys(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), maxRSABits)
	huge := &x509.Certificate{PublicKey: &rsa.PublicKey{N: n, E: 3}, RawSubject: []byte("x")}
	wantText(t, checkSignature(&x509.Certificate{RawIssuer: []byte("x")}, huge), "more than 16384 bits")
}

func FuzzCheckChain(f *testing.F) {
	key := testKey(f, P256).Public()
	root := newAuthority(f, "root", nil, nil)
	issuer := newAuthority(f, "issuer", root, nil)
	f.Add(issuer.leaf(f, key, nil), issuer.der, root.der, "a.example")
	f.Add(issuer.leaf(f, key, nil), root.der, issuer.der, "*.w.example")
	f.Add([]byte("x"), []byte{}, []byte{0x30, 0x80}, "192.0.2.1")
	f.Fuzz(func(t *testing.T, leaf, issuer, top []byte, name string) {
		_, err := CheckChain([][]byte{leaf, issuer, top}, key, []string{name}, testNow)
		if err != nil {
			return
		}
		cert := mustParse(t, leaf)
		if !cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key) {
			t.Error("accepted a certificate for another key")
		}
		if testNow.After(cert.NotAfter.Add(clockSkew)) || testNow.Before(cert.NotBefore.Add(-clockSkew)) {
			t.Error("accepted a certificate out of date")
		}
	})
}

func BenchmarkCheckChain(b *testing.B) {
	key := testKey(b, P256).Public()
	root := newAuthority(b, "root", nil, nil)
	issuer := newAuthority(b, "issuer", root, nil)
	chain := [][]byte{issuer.leaf(b, key, nil), issuer.der, root.der}
	for b.Loop() {
		if _, err := CheckChain(chain, key, []string{"a.example", "x.w.example"}, testNow); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCertID(t *testing.T) {
	keyID, _ := new(big.Int).SetString("69885b6b87464041e1b37b847ba0ae2cde01c8d4", 16)
	for _, test := range []struct {
		name   string
		serial int64
		want   string
	}{
		{"the example of RFC 9773 §4.1, with a sign octet", 0x87654321, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"},
		{"a serial number without", 0x07654321, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.B2VDIQ"},
		{"zero", 0, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := CertID(&x509.Certificate{AuthorityKeyId: keyID.Bytes(), SerialNumber: big.NewInt(test.serial)})
			if got != test.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	if got, err := CertID(&x509.Certificate{SerialNumber: big.NewInt(1)}); err == nil {
		t.Errorf("without authority key identifier: got %q, want an error", got)
	}
	if got, err := CertID(&x509.Certificate{AuthorityKeyId: []byte{1}}); err == nil {
		t.Errorf("without serial number: got %q, want an error", got)
	}
}

func TestParseChain(t *testing.T) {
	block := func(typ string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: []byte(typ)}))
	}
	cert := block("CERTIFICATE")
	for _, test := range []struct {
		name         string
		text         string
		want         int
		wantErr      string
		wantWarnings int
	}{
		{"one", cert, 1, "", 0},
		{"several with blank lines", cert + "\n\n" + cert + "\r\n", 2, "", 0},
		{"text between", "subject=x\n" + cert + "issuer=y\n" + cert, 2, "", 0},
		{"as many as can be", strings.Repeat(cert, maxChain), maxChain, "", 0},
		{"one more", strings.Repeat(cert, maxChain+1), 0, "more than 10", 0},
		{"something else", cert + block("PRIVATE KEY") + cert, 2, "", 1},
		{"very much else", cert + strings.Repeat(block("X\x1b"), 100), 1, "", maxChain},
		{"garbage at the end", cert + "garbage", 1, "", 1},
		{"nothing", "", 0, "no certificate", 0},
		{"garbage", "<html>", 0, "no certificate", 0},
		{"half a certificate", cert[:40], 0, "no certificate", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			chain, warnings, err := parseChain([]byte(test.text))
			if test.wantErr != "" {
				wantText(t, err, test.wantErr)
			} else if err != nil {
				t.Error(err)
			}
			if len(chain) != test.want || len(warnings) != test.wantWarnings {
				t.Errorf("got %d certificates and warnings %q, want %d and %d", len(chain), warnings, test.want, test.wantWarnings)
			}
			if strings.ContainsRune(fmt.Sprint(warnings), 0x1b) {
				t.Errorf("got a control character in %q", warnings)
			}
		})
	}
}

func TestCertificateIsDownloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("leaf")}))
		f.mux.HandleFunc("/cert", answer(200, text, "Content-Type: text/plain"))
		f.mux.HandleFunc("/empty", answer(204, ""))
		s := f.session(t)
		chain, warnings, err := s.Certificate(t.Context(), &Order{Status: StatusValid, Certificate: fakeBase + "/cert"})
		if err != nil || len(warnings) != 0 || len(chain) != 1 || string(chain[0]) != "leaf" {
			t.Errorf("got %q, %q, %v", chain, warnings, err)
		}
		for url, want := range map[string]string{"": "the order has none", "/empty": "has no certificate in it", "/missing": "404"} {
			if url != "" {
				url = fakeBase + url
			}
			_, _, err := s.Certificate(t.Context(), &Order{Status: StatusReady, Certificate: url})
			wantText(t, err, want)
			wantProblem(t, err)
		}
	})
}
