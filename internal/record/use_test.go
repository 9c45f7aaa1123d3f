package record

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The Set of one key type serves other programs as it stands.
func TestSetServesCryptoTLS(t *testing.T) {
	for _, keyType := range []string{ecdsaType, rsaType} {
		data := encoded(t, newSet(t, keyType))
		pair, err := tls.X509KeyPair(data, data)
		if err != nil {
			t.Fatalf("%s: %v", keyType, err)
		}
		if len(pair.Certificate) != 2 || pair.Leaf.VerifyHostname("example.test") != nil {
			t.Errorf("%s: %d certificates for %q", keyType, len(pair.Certificate), pair.Leaf.DNSNames)
		}
	}
}

func TestSetServesOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal("openssl is missing: apt-get install openssl")
	default:
		t.Skip("openssl is missing, so it is not tried: apt-get install openssl")
	}
	ca, _ := issuer()
	dir := t.TempDir()
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: ca.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keyType := range []string{ecdsaType, rsaType} {
		t.Run("with a key of type "+keyType, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "set.pem")
			if err := os.WriteFile(file, encoded(t, newSet(t, keyType)), 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) string {
				t.Helper()
				text, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
				if err != nil {
					t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, text)
				}
				return string(text)
			}
			run("pkey", "-in", file, "-check", "-noout")
			if got := run("x509", "-in", file, "-noout", "-ext", "subjectAltName"); !strings.Contains(got, "DNS:example.test") {
				t.Errorf("the first certificate is not the leaf:\n%s", got)
			}
			// The public keys of both are the same.
			if key, cert := run("pkey", "-in", file, "-pubout"), run("x509", "-in", file, "-pubkey", "-noout"); key != cert {
				t.Errorf("key\n%s\ncertificate\n%s", key, cert)
			}
			run("verify", "-no_check_time", "-CAfile", root, "-untrusted", file, file)
		})
	}
}

func TestNothingPrintsPrivateKeys(t *testing.T) {
	c := newCredential(t, ecdsaType)
	account := &Account{URL: "https://ca.test/account/1", Key: c.Key}
	data := encoded(t, &Set{Credentials: []Credential{c}})
	broken := &BrokenError{Place: "a place", Err: os.ErrInvalid, value: data}
	secrets := []string{
		fmt.Sprint(c.Key[:8])[1:20], fmt.Sprintf("%x", c.Key[:8]), fmt.Sprintf("%#v", c.Key[:8])[7:20],
		string(pem.EncodeToMemory(&pem.Block{Type: privateKeyType, Bytes: c.Key}))[30:60], "PRIVATE", "45 45 45", "0x2d, 0x2d",
	}
	for _, value := range []any{c, &c, Set{Credentials: []Credential{c}}, &Set{Credentials: []Credential{c}}, *account, account, broken} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "value", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "value", value)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&log, verb+"\n", value)
		}
		for _, secret := range secrets {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%T prints %q:\n%s", value, secret, log.String())
			}
		}
	}
}
