package acmetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

// site answers challenges, as a user's server and name server would.
type site struct {
	mu    sync.Mutex
	http  map[string]string           // by path
	certs map[string]*tls.Certificate // by name
	txt   map[string][]string         // by record name
	tasks sync.WaitGroup
}

func newSite() *site {
	return &site{http: map[string]string{}, certs: map[string]*tls.Certificate{}, txt: map[string][]string{}}
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	body, ok := s.http[r.URL.Path]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(body + "\r\n"))
}

func (s *site) tlsConfig() *tls.Config {
	return &tls.Config{
		NextProtos: []string{acmeTLS1},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if c := s.certs[hello.ServerName]; c != nil {
				return c, nil
			}
			return nil, errors.New("no certificate")
		},
	}
}

func (s *site) lookupTXT(_ context.Context, name string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.txt[name], nil
}

// listen serves the site on loopback and returns its ports.
func (s *site) listen(t *testing.T) (httpPort, tlsPort int) {
	t.Helper()
	plain, secure := localListener(t), localListener(t)
	servers := []*http.Server{{Handler: s}, {Handler: s, TLSConfig: s.tlsConfig()}}
	s.tasks.Go(func() { _ = servers[0].Serve(plain) })
	s.tasks.Go(func() {
		for {
			conn, err := secure.Accept()
			if err != nil {
				return
			}
			s.tasks.Go(func() {
				defer conn.Close()
				_ = tls.Server(conn, s.tlsConfig()).Handshake()
			})
		}
	})
	t.Cleanup(func() {
		_ = servers[0].Close()
		_ = secure.Close()
		s.tasks.Wait()
	})
	return plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port
}

func localListener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// present makes the answer to a challenge visible.
func (s *site) present(t *testing.T, c *acme.Client, name string, chal *acme.Challenge) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch chal.Type {
	case typeHTTP01:
		body, err := c.HTTP01ChallengeResponse(chal.Token)
		if err != nil {
			t.Fatal(err)
		}
		s.http[c.HTTP01ChallengePath(chal.Token)] = body
	case typeTLSALPN01:
		cert, err := c.TLSALPN01ChallengeCert(chal.Token, name)
		if err != nil {
			t.Fatal(err)
		}
		s.certs[target{name: name}.serverName()] = &cert
	case typeDNS01:
		value, err := c.DNS01ChallengeRecord(chal.Token)
		if err != nil {
			t.Fatal(err)
		}
		s.txt["_acme-challenge."+name] = append(s.txt["_acme-challenge."+name], value)
	}
}

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newClient registers an account of x/crypto/acme's own client.
func newClient(t *testing.T, ca *CA, hc *http.Client, key crypto.Signer) *acme.Client {
	t.Helper()
	c := &acme.Client{Key: key, HTTPClient: hc, DirectoryURL: ca.DirectoryURL()}
	if _, err := c.Register(t.Context(), &acme.Account{Contact: []string{"mailto:a@example.com"}}, acme.AcceptTOS); err != nil {
		t.Fatalf("Register: %v", err)
	}
	return c
}

// obtain runs a whole flow with one type of challenge.
func obtain(t *testing.T, c *acme.Client, s *site, typ string, options []acme.OrderOption, names ...string) [][]byte {
	t.Helper()
	ctx := t.Context()
	order, err := c.AuthorizeOrder(ctx, identifiers(names), options...)
	if err != nil {
		t.Fatalf("AuthorizeOrder: %v", err)
	}
	for _, u := range order.AuthzURLs {
		authz, err := c.GetAuthorization(ctx, u)
		if err != nil {
			t.Fatalf("GetAuthorization: %v", err)
		}
		if authz.Status == acme.StatusValid {
			continue
		}
		for _, chal := range authz.Challenges {
			if chal.Type != typ {
				continue
			}
			s.present(t, c, authz.Identifier.Value, chal)
			if _, err := c.Accept(ctx, chal); err != nil {
				t.Fatalf("Accept: %v", err)
			}
		}
		if _, err := c.WaitAuthorization(ctx, u); err != nil {
			t.Fatalf("WaitAuthorization: %v", err)
		}
	}
	order, err = c.WaitOrder(ctx, order.URI)
	if err != nil {
		t.Fatalf("WaitOrder: %v", err)
	}
	chain, _, err := c.CreateCertFromOrder(ctx, order, newCSR(t, ecdsaKey(t), names...), true)
	if err != nil {
		t.Fatalf("CreateCertFromOrder: %v", err)
	}
	return chain
}

// identifiers are names as x/crypto/acme has them.
func identifiers(names []string) (ids []acme.AuthzID) {
	for _, name := range names {
		id := identify(name)
		ids = append(ids, acme.AuthzID{Type: id.Type, Value: id.Value})
	}
	return ids
}

func newCSR(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	var want x509.Certificate
	nameTemplate(&want, names)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: want.DNSNames, IPAddresses: want.IPAddresses}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// check verifies a chain against the CA's roots.
func check(t *testing.T, ca *CA, chain [][]byte, names ...string) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, der := range chain[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(cert)
	}
	for _, name := range names {
		opts := x509.VerifyOptions{Roots: ca.Roots(), Intermediates: between, DNSName: strings.Replace(name, "*", "star", 1)}
		if _, err := leaf.Verify(opts); err != nil {
			t.Errorf("the certificate does not verify for %s: %v", name, err)
		}
	}
	return leaf
}

// flows are the ways to a certificate.
var flows = []struct {
	typ   string
	names []string
}{
	{typeHTTP01, []string{"example.com", "www.example.com"}},
	{typeTLSALPN01, []string{"example.com", "www.example.com"}},
	{typeDNS01, []string{"*.example.com", "example.com"}},
	{typeHTTP01, []string{"192.0.2.1", "2001:db8::1", "example.com"}},
	{typeTLSALPN01, []string{"192.0.2.1", "2001:db8::1", "example.com"}},
}

func TestOverTheNetwork(t *testing.T) {
	for _, flow := range flows {
		t.Run("issues by "+flow.typ+" for "+flow.names[0], func(t *testing.T) {
			s := newSite()
			ca := &CA{LookupTXT: s.lookupTXT, IPAddresses: true}
			ca.HTTPPort, ca.TLSPort = s.listen(t)
			ca.Start(t)
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.TLSRoots()}}
			t.Cleanup(transport.CloseIdleConnections)
			c := newClient(t, ca, &http.Client{Transport: transport}, ecdsaKey(t))
			chain := obtain(t, c, s, flow.typ, nil, flow.names...)
			check(t, ca, chain, flow.names...)
			if t.Failed() {
				t.Log(strings.Join(ca.Trace(), "\n"))
			}
		})
	}
}

func TestInProcess(t *testing.T) {
	for _, flow := range flows {
		t.Run("issues by "+flow.typ+" for "+flow.names[0], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				ca := &CA{HTTP: s, TLS: s.tlsConfig(), LookupTXT: s.lookupTXT, IPAddresses: true}
				c := newClient(t, ca, ca.Client(), ecdsaKey(t))
				start := time.Now()
				chain := obtain(t, c, s, flow.typ, nil, flow.names...)
				if got := time.Since(start); got != 0 {
					t.Errorf("a fair CA took %v of simulated time, want none", got)
				}
				leaf := check(t, ca, chain, flow.names...)
				if got, want := leaf.NotBefore, time.Now().Add(-time.Hour); !got.Equal(want) {
					t.Errorf("notBefore is %v, want %v", got, want)
				}
				if got, want := leaf.NotAfter.Sub(leaf.NotBefore), 90*24*time.Hour-time.Second; got != want {
					t.Errorf("the certificate lasts %v, want %v", got, want)
				}
				ca.Close()
			})
		})
	}
}

func TestAccountKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ES384": p384, "ES512": p521, "RS256": rsa2048} {
		t.Run("sign with "+name, func(t *testing.T) {
			s := newSite()
			ca := &CA{LookupTXT: s.lookupTXT}
			defer ca.Close()
			c := newClient(t, ca, ca.Client(), key)
			check(t, ca, obtain(t, c, s, typeDNS01, nil, "example.com"), "example.com")
		})
	}
}
