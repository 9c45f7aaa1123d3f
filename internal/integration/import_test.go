package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddyserver/certmagic"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/internal/migrate"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// contact is what the other tools register accounts with.
const contact = "me@example.test"

// obtainWithCertmagic has certmagic get a certificate for each name and
// returns the directory in which it keeps them.
func obtainWithCertmagic(t *testing.T, p *place, ca *localca.CA, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certmagic")
	var config *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return config, nil },
	})
	defer cache.Stop()
	config = certmagic.New(cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: dir}})
	issuer := certmagic.NewACMEIssuer(config, certmagic.ACMEIssuer{
		CA: ca.DirectoryURL(), TrustedRoots: ca.TLSRoots(), Email: contact, Agreed: true,
		ListenHost: "127.0.0.1", AltHTTPPort: port(p.plain), DisableTLSALPNChallenge: true,
	})
	config.Issuers = []certmagic.Issuer{issuer}
	plain, _ := p.open(t)
	server := &http.Server{Handler: issuer.HTTPChallengeHandler(http.NotFoundHandler())}
	serve(t, server, plain)
	defer server.Close() // before the port is used by others
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := config.ManageSync(ctx, names); err != nil {
		t.Fatalf("certmagic: %v", err)
	}
	return dir
}

// obtainWithAutocert has autocert get an ECDSA and an RSA certificate for each
// name and returns the directory in which it keeps them.
func obtainWithAutocert(t *testing.T, p *place, ca *localca.CA, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "autocert")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.TLSRoots()}}}
	defer client.CloseIdleConnections()
	m := &autocert.Manager{
		Cache: autocert.DirCache(dir), Prompt: autocert.AcceptTOS, Email: contact, HostPolicy: autocert.HostWhitelist(names...),
		Client: &acme.Client{DirectoryURL: ca.DirectoryURL(), HTTPClient: client},
	}
	plain, secure := p.open(t)
	challenges := &http.Server{Handler: m.HTTPHandler(http.NotFoundHandler())}
	serve(t, challenges, plain)
	defer challenges.Close()
	site := &http.Server{Handler: website()}
	serve(t, site, tls.NewListener(secure, m.TLSConfig()))
	defer site.Close()
	for _, name := range names {
		p.connect(t, name, ca.Roots())
		connectRSA(t, p, name, ca.Roots())
	}
	return dir
}

// connectRSA connects as a client that knows only RSA.
func connectRSA(t *testing.T, p *place, name string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", p.address(), &tls.Config{
		ServerName: name, RootCAs: roots, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	})
	if err != nil {
		t.Fatalf("connecting to %s with RSA: %v", name, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// TestImportOrdersNothing lets other tools get certificates, reads what they
// have left, and has a Manager go on from there: it serves their certificates
// without asking the CA, and later renews them with their account.
func TestImportOrdersNothing(t *testing.T) {
	names := []string{"one.example.test", "two.example.test"}
	for _, tool := range []struct {
		format   migrate.Format
		obtain   func(t *testing.T, p *place, ca *localca.CA, names ...string) string
		keyTypes []md.KeyType
		account  bool // the tool keeps the account's URL
	}{
		{migrate.Certmagic, obtainWithCertmagic, []md.KeyType{"P-256"}, true},
		{migrate.Autocert, obtainWithAutocert, []md.KeyType{"P-256", "RSA-2048"}, false},
	} {
		t.Run("from "+string(tool.format), func(t *testing.T) {
			p := newPlace(t)
			ca := p.startCA(t, localca.Config{})
			dir := tool.obtain(t, p, ca, names...)
			result, err := migrate.Read(t.Context(), dir, migrate.Options{CA: ca.DirectoryURL()})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range result.Report {
				t.Logf("%+v", row)
			}
			if result.Format != tool.format || len(result.Accounts) != 1 || len(result.Certificates) != len(names)*len(tool.keyTypes) {
				t.Fatalf("of a directory of %s, %d certificates and %d accounts are taken", result.Format, len(result.Certificates), len(result.Accounts))
			}
			account := result.Accounts[0]
			if got := account.Account.URL != ""; got != tool.account || account.CA != ca.DirectoryURL() {
				t.Errorf("the account is %q at %q", account.Account.URL, account.CA)
			}
			goOn(t, p, ca, result, names, tool.keyTypes)
		})
	}
}

// goOn puts what was found into a Store, as an import does, and runs a
// Manager on it.
func goOn(t *testing.T, p *place, ca *localca.CA, result *migrate.Result, names []string, keyTypes []md.KeyType) {
	t.Helper()
	keys, err := store.NewKeyring(store.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	sealed := store.Encrypted(new(store.Memory), keys)
	records := &record.Records{Store: sealed}
	heard := new(audience)
	m := &md.Manager{
		AcceptTerms: true, Store: sealed, Default: md.Domain{CAs: at(ca), KeyTypes: keyTypes}, Notifier: heard, Logger: logged(t),
	}
	for _, name := range names {
		set := migrate.For([]string{name}, result.Certificates)
		if set == nil {
			t.Fatalf("nothing is found for %s", name)
		}
		if _, err := records.Adopt(t.Context(), name, set, store.None); err != nil {
			t.Fatal(err)
		}
		m.Domains = append(m.Domains, md.Domain{Names: []string{name}})
	}
	account := migrate.Chosen(result.Accounts, result.Certificates)[ca.DirectoryURL()]
	if _, err := records.PutAccount(t.Context(), account.CA, record.DefaultAccount, &account.Account, store.None); err != nil {
		t.Fatal(err)
	}

	p.run(t, m)
	ready(t, m)
	for _, name := range names {
		served := []*x509.Certificate{p.connect(t, name, ca.Roots())}
		if len(keyTypes) > 1 {
			served = append(served, connectRSA(t, p, name, ca.Roots()))
		}
		for _, cert := range served {
			if !wasFound(result, cert) {
				t.Errorf("%s is served with a certificate that was not imported", name)
			}
		}
	}
	if ordered := heard.of(status.Renewing); len(ordered) > 0 {
		t.Errorf("a Manager that has imported all it needs orders for %s", ordered[0].Domain)
	}

	if err := m.Renew(restless(t.Context()), names[0]); err != nil {
		t.Fatalf("renewing what was imported: %v", err)
	}
	if wasFound(result, p.connect(t, names[0], ca.Roots())) {
		t.Error("after Renew, the imported certificate is served")
	}
	is, _, err := records.Account(t.Context(), ca.DirectoryURL(), record.DefaultAccount)
	if err != nil || !slices.Equal(is.Key, account.Account.Key) || is.URL == "" {
		t.Errorf("the account is not the imported one after a renewal (%v)", err)
	}
}

func wasFound(result *migrate.Result, cert *x509.Certificate) bool {
	return slices.ContainsFunc(result.Certificates, func(f migrate.Found) bool {
		return slices.Equal(f.Credential.Chain[0], cert.Raw)
	})
}
