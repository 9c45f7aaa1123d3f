package live

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"
)

// testKeys are one key of each kind, by name. RSA keys take long to make.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	keys := map[string]crypto.Signer{"Ed25519": ed}
	for name, curve := range map[string]elliptic.Curve{
		"P-224": elliptic.P224(), // which crypto/tls has no use for
		"P-256": elliptic.P256(),
		"P-384": elliptic.P384(),
		"P-521": elliptic.P521(),
	} {
		if keys[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			panic(err)
		}
	}
	for name, bits := range map[string]int{"RSA-1024": 1024, "RSA-2048": 2048, "RSA-3072": 3072} {
		if keys[name], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			panic(err)
		}
	}
	keys["RSA-2048 that cannot decrypt"] = struct{ crypto.Signer }{keys["RSA-2048"]}
	return keys
})

// testCA is an issuer for tests.
type testCA struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newTestCA(tb testing.TB, name string) *testCA {
	tb.Helper()
	ca := &testCA{key: testKeys()["P-256"]}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	if ca.certificate, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return ca
}

// chain issues a certificate for names, and returns it with the CA's own.
func (ca *testCA) chain(tb testing.TB, public crypto.PublicKey, names ...string) [][]byte {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		DNSNames:     names,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, public, ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	return [][]byte{der, ca.certificate.Raw}
}

// credential makes a Credential with the test key of the kind given.
func (ca *testCA) credential(tb testing.TB, chains *Chains, kind string, names ...string) *Credential {
	tb.Helper()
	key, ok := testKeys()[kind]
	if !ok {
		tb.Fatalf("there is no test key %q", kind)
	}
	c, err := chains.NewCredential(ca.chain(tb, key.Public(), names...), key)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// modernHello is much like what a browser sends.
func modernHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{0x3a3a, tls.VersionTLS13, tls.VersionTLS12},
		SignatureSchemes: []tls.SignatureScheme{
			tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256,
			tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384, tls.PKCS1WithSHA384,
			tls.PSSWithSHA512, tls.PKCS1WithSHA512,
		},
		SupportedCurves: []tls.CurveID{0x9a9a, tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
		SupportedPoints: []uint8{0},
		CipherSuites: []uint16{
			0x8a8a, tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
			tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		},
	}
}

// rsaHello is what a client of TLS 1.2 sends that knows RSA suites only, but
// every signature scheme.
func rsaHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10},
		SignatureSchemes: []tls.SignatureScheme{
			tls.PKCS1WithSHA256, tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA1,
		},
		SupportedCurves: []tls.CurveID{tls.CurveP256, tls.CurveP384},
		SupportedPoints: []uint8{0},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
			tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		},
	}
}
