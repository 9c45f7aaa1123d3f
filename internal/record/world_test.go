package record

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/manageddomains/md/store"
)

const (
	ecdsaType = "P-256"
	otherType = "P-384"
	rsaType   = "RSA-2048"
)

var moment = time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)

// rsaKey is one for all tests: to make one takes time.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newKey(t testing.TB, keyType string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch keyType {
	case rsaType:
		key, err = rsaKey()
	case otherType:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pkcs8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issuer is the CA of all tests.
var issuer = sync.OnceValues(func() (*x509.Certificate, crypto.Signer) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"},
		NotBefore: moment.AddDate(-1, 0, 0), NotAfter: moment.AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert, key
})

// newLeaf has the CA certify a key for example.test.
func newLeaf(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	ca, caKey := issuer()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"example.test"},
		NotBefore: moment.Add(-time.Hour), NotAfter: moment.AddDate(0, 0, 90),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key, caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// newCredential has a key and its chain: another one at each call.
func newCredential(t testing.TB, keyType string) Credential {
	t.Helper()
	key := newKey(t, keyType)
	ca, _ := issuer()
	return Credential{
		Meta: Meta{
			KeyType: keyType, CA: "https://ca.test/directory", Account: "https://ca.test/account/1",
			Order: "https://ca.test/order/1", Certificate: "https://ca.test/certificate/1", When: moment,
		},
		Key:   pkcs8(t, key),
		Chain: [][]byte{newLeaf(t, key.Public()), ca.Raw},
	}
}

// newSet has a complete credential of each type.
func newSet(t testing.TB, keyTypes ...string) *Set {
	t.Helper()
	set := new(Set)
	for _, keyType := range keyTypes {
		set.Replace(newCredential(t, keyType))
	}
	return set
}

// newOrder is a credential whose certificate has not come yet.
func newOrder(t testing.TB, keyType string) Credential {
	t.Helper()
	c := newCredential(t, keyType)
	c.Chain, c.Certificate = nil, ""
	return c
}

func encoded(t testing.TB, s *Set) []byte {
	t.Helper()
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// decoded reads what must be a Set.
func decoded(t testing.TB, data []byte) *Set {
	t.Helper()
	set, err := DecodeSet(data)
	if err != nil {
		t.Fatalf("%v:\n%s", err, data)
	}
	return set
}

// foreign is a credential as another version of this program might write it:
// with a field and blocks that this one does not know.
func foreign(t testing.TB, keyType string) Credential {
	t.Helper()
	c := newCredential(t, keyType)
	c.unknown = map[string]json.RawMessage{"mood": json.RawMessage(`{"of":["the",2.50]}`)}
	c.Other = []*pem.Block{
		{Type: "MD SOMETHING", Headers: map[string]string{"Proc-Type": "4,X", "A": "b"}, Bytes: []byte("else")},
		{Type: certificateType, Bytes: []byte("not of the chain")},
	}
	return c
}

// checkForeign checks that what foreign adds is still there.
func checkForeign(t *testing.T, c *Credential) {
	t.Helper()
	if c == nil {
		t.Fatal("the credential is gone")
	}
	if got, want := string(c.unknown["mood"]), `{"of":["the",2.50]}`; got != want {
		t.Errorf("the unknown field is %q, want %q", got, want)
	}
	if len(c.Other) != 2 || c.Other[0].Type != "MD SOMETHING" || !bytes.Equal(c.Other[0].Bytes, []byte("else")) ||
		c.Other[0].Headers["A"] != "b" || c.Other[1].Type != certificateType {
		t.Errorf("the unknown blocks are %v", c.Other)
	}
}

// contents are all values of a Store.
func contents(t testing.TB, s *store.Memory) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for e, err := range s.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Key] = e.Value
	}
	return all
}

func put(t testing.TB, s store.Store, key string, value []byte) store.Version {
	t.Helper()
	v, err := s.Put(t.Context(), key, value, store.Any)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
