package md_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store"
)

// writePEM writes a key and certificates for names that a CA of its own has
// issued, as one PEM file each.
func writePEM(t *testing.T, dir, file string, names ...string) {
	t.Helper()
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "An issuer"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: issuer.NotBefore, NotAfter: time.Now().AddDate(0, 0, 60),
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})...)
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuerDER})...)
	if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestImport(t *testing.T) {
	dir := t.TempDir()
	writePEM(t, dir, "www.pem", "example.com", "www.example.com")
	writePEM(t, dir, "stray.pem", "stray.example")
	m := &md.Manager{
		Domains: []md.Domain{{Names: []string{"example.com"}}, {Names: []string{"other.example"}}},
		Store:   new(store.Memory),
	}
	report, err := m.Import(t.Context(), dir, md.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]md.ImportRow)
	for _, r := range report.Rows {
		rows[r.Path+r.What] = r
	}
	if r := rows["www.pemcertificate"]; !r.Taken || r.Domain != "example.com" {
		t.Errorf("of what covers a Domain the report says %+v", r)
	}
	if r := rows["stray.pemcertificate"]; r.Taken || !strings.Contains(r.Why, "any Domain") {
		t.Errorf("of what covers none it says %+v", r)
	}
	if r := rows["domain"]; r.Name != "other.example" || r.Taken {
		t.Errorf("of the Domain without a certificate it says %+v", r)
	}
	cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err := x509.ParseCertificate(cert.Certificate[0]); err != nil || leaf.VerifyHostname("www.example.com") != nil {
		t.Errorf("what was imported is not served: %v", err)
	}

	report, err = m.Import(t.Context(), dir, md.ImportOptions{Format: "pem"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Rows {
		if r.Taken {
			t.Errorf("once more: %+v was taken again", r)
		}
	}
}

func TestImportFromNowhere(t *testing.T) {
	m := &md.Manager{Store: new(store.Memory)}
	for name, o := range map[string]md.ImportOptions{
		"an empty directory":     {},
		"a tool of another kind": {Format: "traefik"},
		"a CA that is not known": {CA: md.CA{Name: "nowhere"}},
	} {
		if report, err := m.Import(t.Context(), t.TempDir(), o); err == nil {
			t.Errorf("%s: no error, but %+v", name, report)
		}
	}
	if _, err := m.Import(t.Context(), filepath.Join(t.TempDir(), "x"), md.ImportOptions{}); err == nil {
		t.Error("what is not there: no error")
	}
}
