package status_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/manageddomains/md/status"
)

func TestCertificateOf(t *testing.T) {
	from := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{
		Raw:          []byte("not looked at but hashed"),
		PublicKey:    &ecdsa.PublicKey{Curve: elliptic.P256()},
		SerialNumber: big.NewInt(0xabc),
		Issuer:       pkix.Name{CommonName: "E7", Organization: []string{"Some CA"}},
		DNSNames:     []string{"example.com", "www.example.com"},
		IPAddresses:  []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")},
		NotBefore:    from,
		NotAfter:     from.Add(90 * day),
	}
	got := status.CertificateOf(leaf)
	want := status.Certificate{
		KeyType:           "P-256",
		Names:             []string{"example.com", "www.example.com", "192.0.2.1", "2001:db8::1"},
		Serial:            "0ABC",
		Issuer:            "E7",
		NotBefore:         from,
		NotAfter:          from.Add(90 * day),
		SHA256Fingerprint: "b41346935955523b9951b19f08e829ed15e87e6b26c63ffafa52a54c7fd0fe8c",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCertificateOfOddCertificates(t *testing.T) {
	if got := status.CertificateOf(nil); !reflect.DeepEqual(got, status.Certificate{}) {
		t.Errorf("of nil: %+v, want the zero Certificate", got)
	}
	// SHA-256 of nothing (FIPS 180-4).
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	got := status.CertificateOf(&x509.Certificate{Issuer: pkix.Name{Organization: []string{"Some CA"}}, SerialNumber: big.NewInt(-255)})
	if got.SHA256Fingerprint != empty || got.Issuer != "O=Some CA" || got.Serial != "-FF" || got.KeyType != "unknown" {
		t.Errorf("of a bare certificate: %+v", got)
	}
	for want, key := range map[string]any{
		"P-384":    &ecdsa.PublicKey{Curve: elliptic.P384()},
		"ECDSA":    &ecdsa.PublicKey{},
		"RSA-2048": &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047)},
		"RSA":      &rsa.PublicKey{},
		"Ed25519":  ed25519.PublicKey{},
		"unknown":  "no key at all",
	} {
		if got := status.CertificateOf(&x509.Certificate{PublicKey: key}).KeyType; got != want {
			t.Errorf("key type of %T is %q, want %q", key, got, want)
		}
	}
}
