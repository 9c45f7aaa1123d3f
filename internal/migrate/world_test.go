package migrate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// now is the moment at which everything is read.
var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"
	zeroSSL     = "https://acme.zerossl.com/v2/DV90"
	accountURL  = "https://acme-v02.api.letsencrypt.org/acme/acct/1234"
)

func ecKey(tb testing.TB) *ecdsa.PrivateKey { return curveKey(tb, elliptic.P256()) }

func curveKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// rsaKey is one for all: making it takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// issuer is an intermediate CA.
var issuer = sync.OnceValues(func() (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Intermediate"},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
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

// leaf issues a certificate that began 30 days ago and ends in 60, with what
// change makes of it.
func leaf(tb testing.TB, key crypto.Signer, names []string, change ...func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	ca, caKey := issuer()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.AddDate(0, 0, -30), NotAfter: now.AddDate(0, 0, 60),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if a, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// lasting makes a certificate that ends in so many days.
func lasting(days int) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, days) }
}

func certPEM(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}

// chain is a leaf and its issuer.
func chain(tb testing.TB, key crypto.Signer, names ...string) string {
	tb.Helper()
	ca, _ := issuer()
	return certPEM(leaf(tb, key, names), ca)
}

func keyPEM(tb testing.TB, key crypto.Signer) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// sec1 is a key as OpenSSL's older commands write it.
func sec1(tb testing.TB, key *ecdsa.PrivateKey) string {
	tb.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func jwkOf(tb testing.TB, key crypto.Signer) string {
	tb.Helper()
	text := jwkNumber
	var fields map[string]string
	switch k := key.(type) {
	case *rsa.PrivateKey:
		fields = map[string]string{
			"kty": "RSA", "n": text(k.N.Bytes()), "e": text(big.NewInt(int64(k.E)).Bytes()), "d": text(k.D.Bytes()),
			"p": text(k.Primes[0].Bytes()), "q": text(k.Primes[1].Bytes()), "dp": text(k.Precomputed.Dp.Bytes()),
		}
	case *ecdsa.PrivateKey:
		d, errD := k.Bytes()
		point, errP := k.PublicKey.Bytes()
		if errD != nil || errP != nil {
			tb.Fatal(errD, errP)
		}
		half := (len(point) - 1) / 2
		fields = map[string]string{"kty": "EC", "crv": k.Params().Name, "d": text(d), "x": text(point[1 : 1+half]), "y": text(point[1+half:])}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// tree writes files, and links where a value begins with "-> ", into a
// directory.
func tree(tb testing.TB, files map[string]string) string {
	tb.Helper()
	place := tb.TempDir()
	for name, content := range files {
		name = filepath.Join(place, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			tb.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(filepath.FromSlash(target), name); err != nil {
				tb.Skipf("no symbolic links here: %v", err)
			}
			continue
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return place
}

// read reads a directory of the format that is to be found out.
func read(tb testing.TB, place string, want Format, o Options) *Result {
	tb.Helper()
	if o.Now.IsZero() {
		o.Now = now
	}
	result, err := Read(tb.Context(), place, o)
	if err != nil {
		tb.Fatalf("Read: %v", err)
	}
	if result.Format != want {
		tb.Errorf("the directory is taken for one of %s, want %s", result.Format, want)
	}
	checkResult(tb, result)
	return result
}

// checkResult checks what is true of every Result.
func checkResult(tb testing.TB, result *Result) {
	tb.Helper()
	taken := 0
	for _, row := range result.Report {
		if row.Taken {
			taken++
		} else if row.Why == "" {
			tb.Errorf("the report does not say why %q was not taken", row.Path)
		}
		if strings.Contains(row.Why, "PRIVATE KEY-----") {
			tb.Errorf("the report quotes a file: %s", row.Why)
		}
	}
	if got := len(result.Certificates) + len(result.Accounts); got != taken {
		tb.Errorf("%d things were taken, but the report tells of %d", got, taken)
	}
	for _, f := range result.Certificates {
		key, err := f.Credential.Signer()
		if err != nil {
			tb.Errorf("%s: %v", f.Path, err)
			continue
		}
		cert, err := f.Credential.Leaf()
		if err != nil || !isFor(cert.PublicKey, key) || len(f.Names) == 0 || f.Credential.KeyType == "" {
			tb.Errorf("%s was taken, but cannot be served: %v", f.Path, err)
		}
	}
	for _, named := range Sets(result.Certificates) {
		if data, err := named.Set.Encode(); err != nil || len(data) == 0 {
			tb.Errorf("the Set of %q cannot be written: %v", named.Names, err)
		}
	}
	for _, a := range result.Accounts {
		if _, err := a.Account.Signer(); err != nil || a.CA == "" {
			tb.Errorf("%s was taken, but cannot be used: %v", a.Path, err)
		}
	}
}

// wantReport checks the report: a line for each row.
func wantReport(t *testing.T, result *Result, want ...string) {
	t.Helper()
	var got []string
	for _, row := range result.Report {
		line := fmt.Sprintf("%s %s (%s): ", row.What, row.Path, row.Name)
		if row.Taken {
			line += "taken"
			if row.Why != "" {
				line += ", "
			}
		}
		got = append(got, line+row.Why)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the report is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// wantKey checks that a private key in PKCS #8 is that one.
func wantKey(t *testing.T, der []byte, want crypto.Signer) {
	t.Helper()
	wantDER, err := x509.MarshalPKCS8PrivateKey(want)
	if err != nil || !bytes.Equal(der, wantDER) {
		t.Errorf("the private key is another than the one written (%v)", err)
	}
}

func jwkNumber(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
