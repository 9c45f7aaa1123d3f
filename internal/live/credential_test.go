package live

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestNewCredential(t *testing.T) {
	var chains Chains
	ca := newTestCA(t, "new credential")
	for kind, key := range testKeys() {
		t.Run("with a key of "+kind, func(t *testing.T) {
			chain := ca.chain(t, key.Public(), "example.com")
			c, err := chains.NewCredential(chain, key)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(chain[0])
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.NotAfter(), leaf.NotAfter; !got.Equal(want) || got.Location() != time.UTC {
				t.Errorf("NotAfter got %v, want %v", got, want)
			}
			served := c.TLS()
			if served != c.TLS() {
				t.Error("TLS got another pointer the second time, want the same")
			}
			if got, want := served.Certificate, chain; len(got) != 2 || !bytes.Equal(got[0], want[0]) || !bytes.Equal(got[1], want[1]) {
				t.Errorf("got another chain than was given")
			}
			if !reflect.DeepEqual(served.PrivateKey, key) {
				t.Error("got another key than was given")
			}
			if served.Leaf != nil {
				t.Error("the parsed leaf is kept, want it dropped")
			}
			chain[0][20]++
			if bytes.Equal(served.Certificate[0], chain[0]) {
				t.Error("the leaf is the caller's, want a copy")
			}
		})
	}
}

func TestNewCredentialRefuses(t *testing.T) {
	var chains Chains
	ca := newTestCA(t, "refused credentials")
	key, other := testKeys()["P-256"], testKeys()["P-384"]
	chain := ca.chain(t, key.Public(), "example.com")
	for _, test := range []struct {
		it    string
		chain [][]byte
		key   crypto.Signer
		want  string
	}{
		{"no key", chain, nil, "no key"},
		{"no chain", nil, key, "no certificate"},
		{"an empty certificate", [][]byte{chain[0], {}}, key, "certificate 2 of the chain is empty"},
		{"a leaf that is none", [][]byte{[]byte("not DER"), chain[1]}, key, "cannot be parsed"},
		{"another kind of key", chain, other, "is not for this key"},
		{"a key that tells nothing", chain, signer{nil}, "is not for this key"},
		{"a huge chain", [][]byte{chain[0], make([]byte, maxChain)}, key, "more than clients take"},
	} {
		t.Run(test.it, func(t *testing.T) {
			c, err := chains.NewCredential(test.chain, test.key)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v and error %v, want an error with %q", c, err, test.want)
			}
		})
	}
}

// FuzzNewCredential gives it leaves that a hostile CA might send.
func FuzzNewCredential(f *testing.F) {
	ca := newTestCA(f, "fuzz")
	for _, key := range testKeys() {
		f.Add(ca.chain(f, key.Public(), "example.com")[0])
	}
	key := testKeys()["P-256"]
	f.Fuzz(func(t *testing.T, leaf []byte) {
		var chains Chains
		c, err := chains.NewCredential([][]byte{leaf, leaf}, key)
		if err != nil {
			return
		}
		var table Table
		table.Put([]string{"example.com"}, &Site{Credentials: []*Credential{c, c}})
		if got, _ := table.Certificate(modernHello("example.com")); got != c.TLS() {
			t.Error("a credential that was taken is not served")
		}
	})
}

// futureKey has a public key of a type that crypto/tls does not know.
type futureKey struct{ crypto.Signer }

func (futureKey) Public() crypto.PublicKey { return struct{ future bool }{true} }

func TestNewCredentialOfAKeyOfTheFuture(t *testing.T) {
	var chains Chains
	ca := newTestCA(t, "future keys")
	chain := ca.chain(t, testKeys()["Ed25519"].Public(), "example.com")
	// An algorithm that crypto/x509 does not know either: the Ed25519 leaf
	// with another object identifier for its key (RFC 8410 §3).
	oid := []byte{0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70}
	at := bytes.LastIndex(chain[0], oid)
	if at < 0 {
		t.Fatal("there is no key algorithm in the leaf")
	}
	chain[0][at+len(oid)-1] = 0x7f
	c, err := chains.NewCredential(chain, futureKey{testKeys()["Ed25519"]})
	if err != nil {
		t.Fatalf("got error %v, want a Credential", err)
	}

	var table Table
	ecdsa := ca.credential(t, &chains, "P-256", "two.example.com")
	table.Put([]string{"example.com"}, &Site{Credentials: []*Credential{c}})
	table.Put([]string{"two.example.com"}, &Site{Credentials: []*Credential{c, ecdsa}})
	if got, _ := table.Certificate(modernHello("example.com")); got != c.TLS() {
		t.Error("the only credential is not served, want it served whatever its key is")
	}
	if got, _ := table.Certificate(modernHello("two.example.com")); got != ecdsa.TLS() {
		t.Error("the credential of an unknown type is served, want the one that suits")
	}
}

func TestWithStaple(t *testing.T) {
	var chains Chains
	c := newTestCA(t, "staples").credential(t, &chains, "P-256", "example.com")
	stapled := c.WithStaple([]byte("response"))
	if got := string(stapled.TLS().OCSPStaple); got != "response" {
		t.Errorf("got staple %q, want %q", got, "response")
	}
	if got := c.TLS().OCSPStaple; got != nil {
		t.Errorf("the Credential that was stapled has itself got %q, want it unchanged", got)
	}
	if stapled.needs != c.needs || stapled.NotAfter() != c.NotAfter() || &stapled.TLS().Certificate[0][0] != &c.TLS().Certificate[0][0] {
		t.Error("the stapled Credential does not share what it could")
	}
}

func TestPrintingTellsNoKey(t *testing.T) {
	var chains Chains
	key := testKeys()["Ed25519"]
	c := newTestCA(t, "printing").credential(t, &chains, "Ed25519", "example.com")
	secret := fmt.Sprint(key)
	secretHex := hex.EncodeToString(fmt.Append(nil, key))[:16]
	s := &Site{Domain: "d", Credentials: []*Credential{c}, Former: []*Credential{c}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, v := range []any{c, *c, s, *s, []*Credential{c}} {
			got := fmt.Sprintf(verb, v)
			if strings.Contains(got, strings.Trim(secret, "[]")[:40]) || strings.Contains(got, secretHex) {
				t.Errorf("%s of a %T tells the key", verb, v)
			}
		}
	}
	if got := fmt.Sprint(c); !strings.HasPrefix(got, "credential until 20") {
		t.Errorf("got %q, want until when it is valid", got)
	}
}

func TestChainsShareIssuers(t *testing.T) {
	var chains Chains
	ca := newTestCA(t, "shared issuer")
	a := ca.credential(t, &chains, "P-256", "a.example.com")
	b := ca.credential(t, &chains, "RSA-2048", "b.example.com")
	if &a.TLS().Certificate[1][0] != &b.TLS().Certificate[1][0] {
		t.Error("two credentials of one issuer hold its certificate twice, want once")
	}
	other := newTestCA(t, "other issuer").credential(t, &chains, "P-256", "a.example.com")
	if bytes.Equal(a.TLS().Certificate[1], other.TLS().Certificate[1]) {
		t.Error("credentials of two issuers have the same issuer")
	}
	if digestOf([][]byte{{1, 2}, {3}}) == digestOf([][]byte{{1}, {2, 3}}) {
		t.Error("chains that are cut differently have the same digest")
	}
	runtime.KeepAlive(a)
}

func TestChainsForgetDeadIssuers(t *testing.T) {
	var chains Chains
	keep := chains.intern([][]byte{[]byte("in use")})
	for i := range 10 * minSweep {
		chains.intern([][]byte{fmt.Append(nil, "issuer ", i)})
		if i%minSweep == 0 {
			runtime.GC()
		}
	}
	runtime.GC()
	if got, want := len(chains.issuers), 4*minSweep; got > want {
		t.Errorf("of %d dead issuers, %d are remembered, want at most %d", 10*minSweep, got, want)
	}
	if got := chains.intern([][]byte{[]byte("in use")}); got != keep {
		t.Error("an issuer in use was forgotten")
	}
	runtime.KeepAlive(keep)
}

// BenchmarkMemory makes a Table of many idle Domains with one name, one
// certificate and one key each, all of one issuer, and tells how much heap
// they hold in all (bytes/name), of which keys, and what that makes for a
// million.
func BenchmarkMemory(b *testing.B) {
	const domains = 100_000
	ca := newTestCA(b, "memory")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	chain := ca.chain(b, key.Public(), "host-000000.example.com", "www.host-000000.example.com")
	for b.Loop() {
		var table Table
		var chains Chains
		start := heap()
		keys := make([]crypto.Signer, domains)
		for i := range keys {
			parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
			if err != nil {
				b.Fatal(err)
			}
			keys[i] = parsed.(crypto.Signer)
		}
		before := heap()
		for i := range keys {
			c, err := chains.NewCredential(chain, keys[i])
			if err != nil {
				b.Fatal(err)
			}
			name := fmt.Sprintf("host-%06d.example.com", i)
			table.Put([]string{name}, &Site{Domain: name, Credentials: []*Credential{c}})
		}
		after := heap()
		perName := float64(after-start) / domains
		b.ReportMetric(perName, "bytes/name")
		b.ReportMetric(float64(before-start)/domains, "bytes/key")
		b.ReportMetric(float64(len(chain[0])), "bytes/leaf")
		b.ReportMetric(perName*1_000_000/(1<<20), "MiB/million")
		runtime.KeepAlive(&table)
		runtime.KeepAlive(keys)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
