package integration

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/store"
)

// twoKeys is a place where example.test has a P-256 and an RSA certificate.
type twoKeys struct {
	*place
	ca    *localca.CA
	roots string // file
}

func newTwoKeys(t *testing.T) *twoKeys {
	t.Helper()
	p := newPlace(t)
	k := &twoKeys{place: p, ca: p.startCA(t, localca.Config{KeyAlgorithm: "rsa"}), roots: filepath.Join(t.TempDir(), "roots.pem")}
	if err := os.WriteFile(k.roots, k.ca.RootsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.test"}, KeyTypes: []md.KeyType{md.P256, md.RSA2048}}},
		AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: at(k.ca)}, Logger: logged(t),
	}
	p.run(t, m)
	ready(t, m)
	return k
}

// TestClientsGetTheCertificateTheyCanUse connects with clients by other hands
// that know only one kind of key, or both.
func TestClientsGetTheCertificateTheyCanUse(t *testing.T) {
	k := newTwoKeys(t)
	const modern = x509.ECDSA // who knows both gets the first of KeyTypes
	for _, test := range []struct {
		client string
		args   string
		want   x509.PublicKeyAlgorithm
	}{
		{"openssl", "-tls1_3", modern},
		{"openssl", "-tls1_3 -sigalgs ecdsa_secp256r1_sha256", x509.ECDSA},
		{"openssl", "-tls1_3 -sigalgs rsa_pss_rsae_sha256", x509.RSA},
		{"openssl", "-tls1_3 -sigalgs rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", modern},
		{"openssl", "-tls1_2", modern},
		{"openssl", "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", x509.ECDSA},
		{"openssl", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", x509.RSA},
		{"openssl", "-tls1_2 -sigalgs RSA+SHA256", x509.RSA},
		{"openssl", "-tls1_2 -sigalgs RSA-PSS+SHA256", x509.RSA},
		{"openssl", "-tls1_2 -curves X448:P-256 -sigalgs ECDSA+SHA256:RSA+SHA256", modern},
		{"openssl", "-tls1_3 -curves P-521 -sigalgs ecdsa_secp384r1_sha384:rsa_pss_rsae_sha512", x509.RSA},
		{"curl", "--tlsv1.3", modern},
		{"curl", "--tls-max 1.2", modern},
		{"curl", "--tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256", x509.ECDSA},
		{"curl", "--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256", x509.RSA},
	} {
		t.Run(test.client+" "+test.args, func(t *testing.T) {
			ask := k.openssl
			if test.client == "curl" {
				ask = k.curl
			}
			if got := ask(t, strings.Fields(test.args)).PublicKeyAlgorithm; got != test.want {
				t.Errorf("it got the certificate with a key of %v, want %v", got, test.want)
			}
		})
	}
	for _, test := range []struct {
		name   string
		config *tls.Config
		want   x509.PublicKeyAlgorithm
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, modern},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, modern},
		{"TLS 1.2 and ECDSA only", &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		}, x509.ECDSA},
		{"TLS 1.2 and RSA only", &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
		}, x509.RSA},
	} {
		t.Run("Go with "+test.name, func(t *testing.T) {
			test.config.ServerName, test.config.RootCAs = "example.test", k.ca.Roots()
			conn, err := tls.Dial("tcp", k.address(), test.config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := conn.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm; got != test.want {
				t.Errorf("it got the certificate with a key of %v, want %v", got, test.want)
			}
		})
	}
}

// openssl has openssl verify what it is served, and returns that.
func (k *twoKeys) openssl(t *testing.T, args []string) *x509.Certificate {
	t.Helper()
	text := output(t, "openssl", append([]string{
		"s_client", "-connect", k.address(), "-servername", "example.test",
		"-verify_return_error", "-verify_hostname", "example.test", "-CAfile", k.roots, "-no-CApath",
	}, args...)...)
	if want := "Verify return code: 0 (ok)"; !strings.Contains(text, want) {
		t.Errorf("openssl does not say %q:\n%s", want, text)
	}
	return onlyLeaf(t, text)
}

// curl has curl verify what it is served, and returns that.
func (k *twoKeys) curl(t *testing.T, args []string) *x509.Certificate {
	t.Helper()
	at := fmt.Sprintf("example.test:%d", port(k.secure))
	return onlyLeaf(t, output(t, "curl", append([]string{
		"--silent", "--show-error", "--fail", "--max-time", "60", "--noproxy", "*", "--cacert", k.roots,
		"--resolve", at + ":127.0.0.1", "--write-out", "%{certs}", "https://" + at + "/",
	}, args...)...))
}

// onlyLeaf returns the certificate for example.test in what a client prints.
func onlyLeaf(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	for _, cert := range certificatesIn([]byte(text)) {
		if cert.VerifyHostname("example.test") == nil {
			return cert
		}
	}
	t.Fatalf("there is no certificate for example.test in:\n%s", text)
	return nil
}
