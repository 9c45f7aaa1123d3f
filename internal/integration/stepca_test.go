package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/smallstep/certificates/acme"
	acmeapi "github.com/smallstep/certificates/acme/api"
	acmedb "github.com/smallstep/certificates/acme/db/nosql"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/db"
	"go.step.sm/crypto/minica"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/challenge"
)

// stepCA is smallstep's CA, put together from its parts: a second CA by other
// hands, which has neither renewal information nor profiles.
type stepCA struct {
	url   string         // of the directory
	own   *x509.CertPool // verifies the CA's own server
	roots *x509.CertPool // verifies what the CA issues
	zone  *zone          // where it looks for dns-01
	seen  *witness
}

// startStepCA starts a CA that validates names at p and ends with the test.
func (p *place) startStepCA(t *testing.T) *stepCA {
	t.Helper()
	issuer, err := minica.New()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := db.New(&db.Config{Type: "bbolt", DataSource: filepath.Join(t.TempDir(), "step-ca")})
	if err != nil {
		t.Fatal(err)
	}
	orders, err := acmedb.New(kept.(*db.DB))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := authority.NewEmbedded(
		authority.WithX509RootCerts(issuer.Root), authority.WithX509Signer(issuer.Intermediate, issuer.Signer),
		authority.WithDatabase(kept), authority.WithQuietInit(),
		authority.WithConfig(&config.Config{AuthorityConfig: &config.AuthConfig{
			Provisioners: provisioner.List{&provisioner.ACME{Type: "ACME", Name: "test"}},
		}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := signer.Shutdown(); err != nil {
			t.Errorf("shutting step-ca down: %v", err)
		}
	})

	ca := &stepCA{roots: x509.NewCertPool(), own: x509.NewCertPool(), zone: new(zone), seen: new(witness)}
	ca.roots.AddCert(issuer.Root)
	mux := chi.NewRouter()
	mux.Route("/acme", func(r chi.Router) { acmeapi.Route(r) })
	server := httptest.NewUnstartedServer(ca.seen.wrap(mux))
	linker := acme.NewLinker(server.Listener.Addr().String(), "acme")
	ctx := acme.NewContext(authority.NewContext(context.Background(), signer), orders, p.validator(ca.zone), linker, nil)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.StartTLS()
	t.Cleanup(server.Close)
	ca.own.AddCert(server.Certificate())
	ca.url = server.URL + "/acme/test/directory"
	return ca
}

// at names the CA as a Manager wants it.
func (ca *stepCA) at() []md.CA {
	return []md.CA{{Name: "step-ca", URL: ca.url, Roots: ca.own, Limits: unlimited()}}
}

// validator is where step-ca looks for the answers to challenges: every name
// is at one place.
type validator struct {
	*zone
	*http.Client
	place *place
}

func (p *place) validator(z *zone) *validator {
	return &validator{zone: z, place: p, Client: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.plain.Addr().String())
		},
	}}}
}

// TLSDial implements acme.Client of step-ca.
func (v *validator) TLSDial(network, _ string, config *tls.Config) (*tls.Conn, error) {
	return tls.Dial(network, v.place.address(), config)
}

// zone is a DNS zone in memory: a Challenger for dns-01, and what step-ca asks.
type zone struct {
	mu    sync.Mutex          // guards texts
	texts map[string][]string // TXT records by name
}

// Types implements md.Challenger.
func (z *zone) Types() []string { return []string{challenge.TypeDNS01} }

// Present implements md.Challenger.
func (z *zone) Present(_ context.Context, c challenge.Challenge) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.texts == nil {
		z.texts = make(map[string][]string)
	}
	z.texts[c.TXTName()] = append(z.texts[c.TXTName()], c.TXTValue())
	return nil
}

// CleanUp implements md.Challenger.
func (z *zone) CleanUp(_ context.Context, c challenge.Challenge) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	left := slices.DeleteFunc(z.texts[c.TXTName()], func(text string) bool { return text == c.TXTValue() })
	if z.texts[c.TXTName()] = left; len(left) == 0 {
		delete(z.texts, c.TXTName())
	}
	return nil
}

// LookupTxt implements acme.Client of step-ca.
func (z *zone) LookupTxt(name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.texts[name]), nil
}

// records counts what has not been cleaned up.
func (z *zone) records() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.texts)
}
