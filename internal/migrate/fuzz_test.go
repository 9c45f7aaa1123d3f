package migrate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manageddomains/md/internal/record"
)

// FuzzCertificate reads any two files for a chain and its key.
func FuzzCertificate(f *testing.F) {
	key := ecKey(f)
	good, secret := chain(f, key, "example.com", "192.0.2.1"), keyPEM(f, key)
	f.Add([]byte(good), []byte(secret))
	f.Add([]byte(good), []byte(sec1(f, key)))
	f.Add([]byte(secret+good), []byte(secret+good))
	f.Add([]byte(good[:len(good)/2]), []byte(secret))
	f.Add([]byte(chain(f, rsaKey(), "*.example.com")), []byte(keyPEM(f, rsaKey())))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"), []byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		r := &reader{opts: Options{Now: now}, result: new(Result)}
		if err := r.certificate("x", chain, key, record.Meta{}); err != nil {
			t.Errorf("a file ends all reading: %v", err)
		}
		if len(r.result.Report) != 1 {
			t.Errorf("the report has %d rows, want 1", len(r.result.Report))
		}
		checkResult(t, r.result)
	})
}

// FuzzJWK reads any text for a private key.
func FuzzJWK(f *testing.F) {
	f.Add(jwkOf(f, ecKey(f)))
	f.Add(jwkOf(f, rsaKey()))
	f.Add(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}`)
	f.Add(`{"kty":"RSA","n":"AQ","e":"AQ","d":"AQ","p":"AQ","q":"AQ"}`)
	f.Add(`{"kty":"RSA","n":"AA","e":"AA","d":"AA","p":"AA","q":"AA"}`)
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parseJWK([]byte(text))
		if err != nil {
			return
		}
		if _, err := keyTypeOf(key.Public()); err != nil {
			return // of a size that nobody uses
		}
		if !isFor(key.Public(), key) {
			t.Error("the key is not its own")
		}
	})
}

// FuzzText reads any text in the place of a tool's own files.
func FuzzText(f *testing.F) {
	key := ecKey(f)
	crt, secret, jwk := chain(f, key, "example.com"), keyPEM(f, key), jwkOf(f, key)
	tools := []struct {
		format Format
		place  string
		texts  []string // the files that have the text
	}{
		{Certbot, tree(f, map[string]string{
			"live/x/fullchain.pem": crt, "live/x/privkey.pem": secret, "archive/x/x": "", "renewal/x": "", "accounts/ca.test/x/private_key.json": jwk,
		}), []string{"renewal/x.conf", "accounts/ca.test/x/regr.json"}},
		{Certmagic, tree(f, map[string]string{
			"certificates/i/x/x.crt": crt, "certificates/i/x/x.key": secret, "acme/i/users/x/x.key": secret,
		}), []string{"certificates/i/x/x.json", "acme/i/users/x/x.json"}},
		{Lego, tree(f, map[string]string{
			"certificates/x.crt": crt, "certificates/x.key": secret, "accounts/ca.test/x/keys/x.key": secret,
		}), []string{"certificates/x.json", "accounts/ca.test/x/account.json"}},
		{AcmeSh, tree(f, map[string]string{
			"x/fullchain.cer": crt, "x/x.key": secret, "ca/ca.test/x/account.key": secret,
		}), []string{"x/x.conf", "ca/ca.test/x/account.json", "ca/ca.test/x/ca.conf"}},
	}
	for i, text := range []string{
		renewal, `{"issuer_data":{"ca":"https://ca.test/dir"}}`, `{"registration":{"uri":"https://ca.test/1","body":{"contact":["mailto:a@b.test"]}}}`,
		"Le_API='x'\nACCOUNT_URL='https://x/'\n", "[renewalparams]\nserver", `{"status":"valid","location":"x","contact":[""]}`, `{"certUrl":"%"}`,
		"A='__ACME_BASE64__START_", `{}`, `[]`,
	} {
		f.Add(uint8(i), text)
	}
	f.Fuzz(func(t *testing.T, n uint8, text string) {
		tool := tools[int(n)%len(tools)]
		for _, name := range tool.texts {
			if err := os.WriteFile(filepath.Join(tool.place, filepath.FromSlash(name)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		result := read(t, tool.place, tool.format, Options{CAs: []string{"https://ca.test/dir"}})
		if len(result.Certificates) != 1 && len(text) < maxFile {
			t.Errorf("%s: the certificate is not taken: %+v", tool.format, result.Report)
		}
	})
}

// FuzzLink has a link of certbot's lead anywhere.
func FuzzLink(f *testing.F) {
	for _, target := range []string{
		"../../archive/x/privkey1.pem", "../../archive/../secret/privkey1.pem", "../../secret/privkey1.pem", "/etc/passwd", "privkey.pem", "../../archive//privkey1.pem",
		"../../archive/x/privkey1.pem/", "../../archive/./privkey1.pem", "../../archive/x/privkey١.pem",
	} {
		f.Add(target)
	}
	key, secret := ecKey(f), ecKey(f)
	other := keyPEM(f, secret) + chain(f, secret, "secret.test")
	place := tree(f, map[string]string{
		"c/live/x/fullchain.pem": chain(f, key, "example.com"), "c/archive/x/privkey1.pem": keyPEM(f, key),
		"c/archive/privkey1.pem": other, "c/secret/privkey1.pem": other, "secret/privkey1.pem": other,
	})
	link := filepath.Join(place, "c", "live", "x", "privkey.pem")
	f.Fuzz(func(t *testing.T, target string) {
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if os.Symlink(target, link) != nil {
			return // no link may lead there
		}
		result := read(t, filepath.Join(place, "c"), Certbot, Options{})
		for _, row := range result.Report {
			if strings.Contains(row.Why, "is not that of the certificate") {
				t.Errorf("a link to %q was followed", target)
			}
		}
	})
}
