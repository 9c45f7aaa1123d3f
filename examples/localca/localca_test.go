package localca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/manageddomains/md/examples/localca"
)

// site answers http-01 challenges on a port of its own.
type site struct {
	port int

	mu      sync.Mutex        // guards answers
	answers map[string]string // by path
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{answers: make(map[string]string)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, _ = w.Write([]byte(s.answers[r.URL.Path]))
	}))
	t.Cleanup(server.Close)
	s.port = server.Listener.Addr().(*net.TCPAddr).Port
	return s
}

// order gets a certificate for name from c.
func (s *site) order(t *testing.T, c *localca.CA, name string) []*x509.Certificate {
	t.Helper()
	ctx := t.Context()
	client := newClient(t, c)
	if _, err := client.Register(ctx, &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatalf("Register: %v", err)
	}
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(name))
	if err != nil {
		t.Fatalf("AuthorizeOrder: %v", err)
	}
	for _, u := range order.AuthzURLs {
		s.authorize(t, client, u)
	}
	chain, _, err := client.CreateCertFromOrder(ctx, order, newCSR(t, name), true)
	if err != nil {
		t.Fatalf("CreateCertFromOrder: %v", err)
	}
	var certificates []*x509.Certificate
	for _, der := range chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("certificate: %v", err)
		}
		certificates = append(certificates, certificate)
	}
	return certificates
}

func (s *site) authorize(t *testing.T, client *acme.Client, url string) {
	t.Helper()
	ctx := t.Context()
	authorization, err := client.GetAuthorization(ctx, url)
	if err != nil {
		t.Fatalf("GetAuthorization: %v", err)
	}
	if authorization.Status == acme.StatusValid {
		return
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		answer, err := client.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			t.Fatalf("HTTP01ChallengeResponse: %v", err)
		}
		s.mu.Lock()
		s.answers[client.HTTP01ChallengePath(challenge.Token)] = answer
		s.mu.Unlock()
		if _, err := client.Accept(ctx, challenge); err != nil {
			t.Fatalf("Accept: %v", err)
		}
	}
	for authorization.Status != acme.StatusValid {
		authorization, err = client.GetAuthorization(ctx, url)
		if err != nil || authorization.Status == acme.StatusInvalid {
			t.Fatalf("authorization %v, error %v", authorization, err)
		}
	}
}

func newClient(t *testing.T, c *localca.CA) *acme.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.TLSRoots()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &acme.Client{
		Key:          key,
		DirectoryURL: c.DirectoryURL(),
		HTTPClient:   &http.Client{Transport: transport},
		RetryBackoff: func(n int, _ *http.Request, res *http.Response) time.Duration {
			if n > 30 || res.StatusCode != http.StatusBadRequest {
				return 0
			}
			return time.Millisecond
		},
	}
}

func newCSR(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func start(t *testing.T, cfg localca.Config) *localca.CA {
	t.Helper()
	c, err := localca.Start(cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// verify fails the test unless chain leads from name to one of roots.
func verify(t *testing.T, chain []*x509.Certificate, name string, roots *x509.CertPool) {
	t.Helper()
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates})
	if err != nil {
		t.Errorf("the chain does not verify: %v", err)
	}
}

func TestCertificate(t *testing.T) {
	s := newSite(t)
	for _, test := range []struct {
		name string
		cfg  localca.Config
		want int // certificates in the chain
		key  func(crypto.PublicKey) bool
	}{
		{"with nothing asked for", localca.Config{}, 2, isECDSA},
		{"from an RSA issuer", localca.Config{KeyAlgorithm: "rsa"}, 2, isRSA},
		{"with a long chain and refused nonces", localca.Config{ChainLength: 3, NonceReject: 50}, 4, isECDSA},
		{"under a root that is kept", localca.Config{ChainLength: 2, AlternateRoots: 1, Dir: t.TempDir()}, 3, isECDSA},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.HTTPPort = s.port
			c := start(t, test.cfg)
			chain := s.order(t, c, "example.test")
			if len(chain) != test.want {
				t.Errorf("got %d certificates, want %d", len(chain), test.want)
			}
			if !test.key(chain[1].PublicKey) {
				t.Errorf("the issuer's key is a %T", chain[1].PublicKey)
			}
			verify(t, chain, "example.test", c.Roots())
		})
	}
}

func isECDSA(key crypto.PublicKey) bool { _, ok := key.(*ecdsa.PublicKey); return ok }
func isRSA(key crypto.PublicKey) bool   { _, ok := key.(*rsa.PublicKey); return ok }

func TestRootsAreKept(t *testing.T) {
	s := newSite(t)
	cfg := localca.Config{HTTPPort: s.port, Dir: t.TempDir()}
	first := start(t, cfg)
	old := s.order(t, first, "example.test")
	path, err := first.WriteRoots()
	if err != nil {
		t.Fatalf("WriteRoots: %v", err)
	}
	roots, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	second := start(t, cfg)
	if got := second.RootsPEM(); !bytes.Equal(got, roots) {
		t.Errorf("the second start has other roots:\n%s\nwant\n%s", got, roots)
	}
	verify(t, old, "example.test", second.Roots())
	verify(t, s.order(t, second, "example.test"), "example.test", first.Roots())
}

func TestBrokenRootIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/root-0.pem", []byte("no root"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := localca.Start(localca.Config{Dir: dir})
	if err == nil {
		t.Error("the CA started under a broken root")
		c.Close()
	}
}

func TestDown(t *testing.T) {
	c := start(t, localca.Config{})
	client := newClient(t, c)
	c.SetDown(true)
	if _, err := client.Discover(t.Context()); err == nil {
		t.Error("a CA that is down answers")
	}
	c.SetDown(false)
	if _, err := client.Discover(t.Context()); err != nil {
		t.Errorf("a CA that is up again: %v", err)
	}
}

func TestEnvironmentIsRestored(t *testing.T) {
	t.Setenv("PEBBLE_AUTHZREUSE", "7")
	t.Setenv("PEBBLE_VA_NOSLEEP", "") // so that it is restored
	os.Unsetenv("PEBBLE_VA_NOSLEEP")
	start(t, localca.Config{})
	if got := os.Getenv("PEBBLE_AUTHZREUSE"); got != "7" {
		t.Errorf("PEBBLE_AUTHZREUSE is %q, want what it was", got)
	}
	if got, ok := os.LookupEnv("PEBBLE_VA_NOSLEEP"); ok {
		t.Errorf("PEBBLE_VA_NOSLEEP is %q, want it unset", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := newSite(t)
	c := start(t, localca.Config{HTTPPort: s.port, AuthzReuse: 100})
	for worker := range 8 {
		t.Run(strconv.Itoa(worker), func(t *testing.T) {
			t.Parallel()
			for range 5 {
				s.order(t, c, "example.test")
			}
		})
	}
}
