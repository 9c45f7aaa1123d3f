package migrate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/manageddomains/md/internal/record"
)

// weak makes an RSA key that nobody should use.
func weak(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	tb.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	key := ecKey(t)
	ca, _ := issuer()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, rsa1024 := curveKey(t, elliptic.P224()), weak(t)
	is := func(change ...func(*x509.Certificate)) string {
		return certPEM(leaf(t, key, []string{"example.com"}, change...), ca)
	}
	many := make([]string, maxNames+1)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example.com", i)
	}
	good := is()
	for name, test := range map[string]struct {
		chain, key string
		why        string
	}{
		"that has expired":           {is(lasting(-1)), keyPEM(t, key), "it expired at 2026-05-31 12:00 UTC"},
		"that is not yet valid":      {is(func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 0, 1) }), keyPEM(t, key), "it is not valid before 2026-06-02 12:00 UTC"},
		"of another key":             {good, keyPEM(t, ecKey(t)), "the private key is not that of the certificate"},
		"of another type of key":     {good, keyPEM(t, rsaKey()), "the private key is not that of the certificate"},
		"of an RSA key of 1024 bits": {certPEM(leaf(t, rsa1024, []string{"example.com"})), keyPEM(t, rsa1024), "an RSA key of 1024 bits is too short"},
		"of an Ed25519 key":          {certPEM(leaf(t, edKey, []string{"example.com"})), keyPEM(t, edKey), "a key of type ed25519.PublicKey is not one that can be used"},
		"on P-224":                   {certPEM(leaf(t, p224, []string{"example.com"})), keyPEM(t, p224), "a key of type P-224 is not one that can be used"},
		"of a CA":                    {certPEM(ca), keyPEM(t, key), "the private key is not that of the certificate"},
		"for clients":                {is(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), keyPEM(t, key), "it is not for a TLS server"},
		"without names":              {certPEM(leaf(t, key, nil)), keyPEM(t, key), "it is for no DNS name and no IP address"},
		"for what is no name":        {certPEM(leaf(t, key, []string{"a/../b"})), keyPEM(t, key), `it is for "a/../b", which is no name of a host`},
		"for a common name only":     {certPEM(leaf(t, key, nil, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "example.com"} })), keyPEM(t, key), "it is for no DNS name and no IP address"},
		"for too many names":         {certPEM(leaf(t, key, many)), keyPEM(t, key), "it is for 1001 names, more than 1000"},
		"with a chain of others":     {certPEM(leaf(t, key, []string{"example.com"}), leaf(t, key, []string{"example.com"})), keyPEM(t, key), "its chain does not fit together: a certificate in it is not from the one behind it"},
		"with a chain without end":   {good + strings.Repeat(certPEM(ca), 16), keyPEM(t, key), "its chain has 18 certificates, more than 16"},
		"with too many blocks":       {strings.Repeat(certPEM(ca), 65), keyPEM(t, key), "it has more than 64 PEM blocks"},
		"that is not there":          {"", keyPEM(t, key), "it has no certificate in PEM"},
		"that is broken":             {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", keyPEM(t, key), "a certificate in it cannot be read: x509: malformed certificate"},
		"without a key":              {good, "", "it has no private key in PEM"},
		"with several keys":          {good, keyPEM(t, key) + keyPEM(t, key), "it has several private keys"},
		"with an encrypted key": {good, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
			"the private key is encrypted: decrypt it first, with openssl pkey"},
		"with a key of unknown form": {good, "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", `a private key in a block "DSA PRIVATE KEY" is not known`},
		"with a key too large":       {good, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: make([]byte, maxKey+1)})), "the private key has 8193 bytes, more than 8192"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reader{opts: Options{Now: now}, result: new(Result)}
			if err := r.certificate("x.pem", []byte(test.chain), []byte(test.key), record.Meta{}); err != nil {
				t.Fatal(err)
			}
			if len(r.result.Certificates) != 0 || len(r.result.Report) != 1 || r.result.Report[0].Taken || r.result.Report[0].Why != test.why {
				t.Errorf("the report is %+v, want %q", r.result.Report, test.why)
			}
			checkResult(t, r.result)
		})
	}
}

func TestSelfSignedCertificatesAreNotTaken(t *testing.T) {
	key := ecKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"example.com"},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	result := read(t, tree(t, map[string]string{"a.pem": text + keyPEM(t, key)}), PEM, Options{})
	wantReport(t, result, "certificate a.pem (example.com): it is self-signed")
}

// The names of key types are those that Sets have.
func TestKeyTypes(t *testing.T) {
	for want, key := range map[string]crypto.Signer{
		"P-256": ecKey(t), "P-384": curveKey(t, elliptic.P384()), "P-521": curveKey(t, elliptic.P521()), "RSA-2048": rsaKey(),
	} {
		text := chain(t, key, "example.com", "192.0.2.1", "2001:db8::1") + keyPEM(t, key)
		result := read(t, tree(t, map[string]string{"a.pem": text}), PEM, Options{})
		if len(result.Certificates) != 1 {
			t.Errorf("%s: %+v", want, result.Report)
			continue
		}
		got := result.Certificates[0]
		if got.Credential.KeyType != want || !slices.Equal(got.Names, []string{"example.com", "192.0.2.1", "2001:db8::1"}) {
			t.Errorf("the key type is %q of %q, want %q", got.Credential.KeyType, got.Names, want)
		}
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"example.com": true, "a": true, "*.example.com": true, "xn--bcher-kva.test": true, "_x.example.com": true, "1.2": true,
		"": false, "*": false, "*.": false, "*.*.a": false, "a..b": false, ".a": false, "a.": false, "-a.b": false, "a-.b": false,
		"A.b": false, "a b": false, "a/b": false, "bücher.test": false, "a\x00b": false,
		strings.Repeat("a", 63) + ".b": true, strings.Repeat("a", 64) + ".b": false, strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 127) + "a": false,
	} {
		if got := isName(name); got != want {
			t.Errorf("isName(%.80q) = %v, want %v", name, got, want)
		}
	}
}

func TestWebURL(t *testing.T) {
	for text, want := range map[string]bool{
		letsEncrypt: true, "https://localhost:14000/dir": true,
		"": false, "http://ca.test/": false, "https://": false, "https:///x": false, "ca.test/dir": false, "https://u:p@ca.test/": false,
		"file:///etc/passwd": false, "https://ca.test/\x00": false, "https://ca.test/" + strings.Repeat("a", maxURL): false,
	} {
		if got := webURL(text) != ""; got != want {
			t.Errorf("webURL(%.80q) is one: %v, want %v", text, got, want)
		}
	}
}

func TestContacts(t *testing.T) {
	got := contacts([]string{"mailto:a@b.test", " c@d.test ", "", "tel:+1", "nonsense", "mailto:", "mailto:x", "mailto:" + strings.Repeat("a", 300) + "@b.test", "a@b\x00"})
	if want := []string{"mailto:a@b.test", "mailto:c@d.test"}; !slices.Equal(got, want) {
		t.Errorf("contacts = %q, want %q", got, want)
	}
	if got := contacts(slices.Repeat([]string{"a@b.test"}, 100)); len(got) != maxContacts {
		t.Errorf("of 100 contacts %d are taken, want %d", len(got), maxContacts)
	}
}

func TestAccountKeysThatCannotBeUsed(t *testing.T) {
	r := &reader{opts: Options{Now: now}, result: new(Result)}
	for _, key := range []crypto.Signer{weak(t), curveKey(t, elliptic.P224())} {
		if err := r.account("x", key, nil, registration{ca: letsEncrypt}); err != nil {
			t.Fatal(err)
		}
	}
	wantReport(t, r.result, "account x (): an RSA key of 1024 bits is too short", "account x (): a key of type P-224 is not one that can be used")
}

func TestCAByHost(t *testing.T) {
	r := &reader{opts: Options{CA: zeroSSL, CAs: []string{letsEncrypt, "https://acme.ssl.test/rsa", "https://acme.ssl.test/ecc", "https://localhost:14000/dir", letsEncrypt, "%"}}}
	for host, want := range map[string]string{
		"acme-v02.api.letsencrypt.org": letsEncrypt, "ACME.zerossl.com": zeroSSL, "localhost_14000": "https://localhost:14000/dir",
		"acme.ssl.test": "", "localhost": "", "": "",
	} {
		if got := r.caByHost(host); got != want {
			t.Errorf("the CA at %q is %q, want %q", host, got, want)
		}
	}
	if got := r.caByURL("https://acme.zerossl.com/v2/DV90/cert/1"); got != zeroSSL {
		t.Errorf("the CA of a certificate's URL is %q, want %q", got, zeroSSL)
	}
	if got := r.caByURL("x"); got != "" {
		t.Errorf("the CA of what is no URL is %q", got)
	}
}

func TestJWK(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"RSA": rsaKey(), "P-256": ecKey(t), "P-384": curveKey(t, elliptic.P384()), "P-521": curveKey(t, elliptic.P521()),
	} {
		got, err := parseJWK([]byte(jwkOf(t, key)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !isFor(got.Public(), key) {
			t.Errorf("%s: another key is read than written", name)
		}
		if _, err := got.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err != nil {
			t.Errorf("%s: the key cannot sign: %v", name, err)
		}
	}
}

func TestJWKsThatCannotBeUsed(t *testing.T) {
	good := jwkOf(t, ecKey(t))
	other := jwkOf(t, ecKey(t))
	field := func(text, name string) string {
		_, rest, _ := strings.Cut(text, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	rsaText := jwkOf(t, rsaKey())
	for name, text := range map[string]string{
		"nothing":             "",
		"no JSON":             "-----BEGIN",
		"an array":            "[]",
		"no type":             "{}",
		"an unknown type":     `{"kty":"OKP","d":"AAAA"}`,
		"an unknown curve":    `{"kty":"EC","crv":"P-192"}`,
		"no private half":     strings.Replace(good, `"d":"`+field(good, "d"), `"d":"`, 1),
		"another public half": strings.Replace(good, field(good, "x"), field(other, "x"), 1),
		"another private one": strings.Replace(good, field(good, "d"), field(other, "d"), 1),
		"a zero private half": strings.Replace(good, field(good, "d"), strings.Repeat("A", 43), 1),
		"not base64":          strings.Replace(good, field(good, "x"), "!", 1),
		"a number too long":   strings.Replace(good, field(good, "x"), strings.Repeat("A", 100), 1),
		"RSA without numbers": `{"kty":"RSA"}`,
		"RSA of other primes": strings.Replace(rsaText, field(rsaText, "p"), field(rsaText, "q"), 1),
		"RSA with a large e":  strings.Replace(rsaText, `"e":"AQAB"`, `"e":"AQABAQABAQAB"`, 1),
		"RSA of 16000 bits":   strings.Replace(rsaText, field(rsaText, "n"), strings.Repeat("_", 2700), 1),
		"too long a text":     strings.Repeat(" ", 2*maxKey) + good,
	} {
		key, err := parseJWK([]byte(text))
		if err == nil {
			t.Errorf("%s is taken for a key of %T", name, key)
			continue
		}
		for _, secret := range []string{field(good, "d"), field(rsaText, "d")} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error quotes the key: %v", name, err)
			}
		}
	}
}

// A number may be written without its leading zeros.
func TestJWKWithShortNumbers(t *testing.T) {
	for range 2000 {
		key := ecKey(t)
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if d[0] != 0 {
			continue
		}
		short := strings.Replace(jwkOf(t, key), jwkNumber(d), jwkNumber(d[1:]), 1)
		got, err := parseJWK([]byte(short))
		if err != nil || !got.(*ecdsa.PrivateKey).Equal(key) {
			t.Errorf("a key with a short number: %v", err)
		}
		return
	}
	t.Error("of 2000 keys, none has a short number")
}
