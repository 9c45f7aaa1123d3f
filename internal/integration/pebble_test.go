package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
	"testing"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// audience remembers events.
type audience struct {
	mu     sync.Mutex // guards events
	events []md.Event
}

// Notify implements md.Notifier.
func (a *audience) Notify(_ context.Context, e md.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
	return nil
}

// of returns the events of a kind.
func (a *audience) of(kind status.Kind) []md.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.events), func(e md.Event) bool { return e.Kind != kind })
}

func TestCertificatesFromPebble(t *testing.T) {
	http01 := []md.Challenger{&md.HTTP01{}}
	tlsalpn01 := []md.Challenger{&md.TLSALPN01{}}
	one := []md.Domain{{Names: []string{"example.test"}}}
	several := []md.Domain{{Names: []string{"example.test", "www.example.test", "a.example.test", "b.example.test"}}}
	two := []md.Domain{
		{Names: []string{"example.test", "www.example.test"}},
		{Names: []string{"other.test"}},
	}
	for _, test := range []struct {
		name        string
		ca          localca.Config
		challengers []md.Challenger
		domains     []md.Domain
		challenge   string // of the challenges that must have been set up; "" for any
	}{
		{"with the built-in challenges", localca.Config{}, nil, one, ""},
		{"with http-01", localca.Config{}, http01, one, "http-01"},
		{"with tls-alpn-01", localca.Config{}, tlsalpn01, one, "tls-alpn-01"},
		{"for several names with http-01", localca.Config{}, http01, several, "http-01"},
		{"for several names with tls-alpn-01", localca.Config{}, tlsalpn01, several, "tls-alpn-01"},
		{"for two Domains", localca.Config{}, nil, two, ""},
		{"from an RSA CA", localca.Config{KeyAlgorithm: "rsa"}, nil, one, ""},
		{"while half of the nonces are refused", localca.Config{NonceReject: 50}, nil, several, ""},
		{"with every authorization used again", localca.Config{AuthzReuse: 100}, nil, two, ""},
		{"with a long chain", localca.Config{ChainLength: 3}, nil, one, ""},
		{"with other roots on offer", localca.Config{AlternateRoots: 2}, nil, one, ""},
		{"for a name and an address", localca.Config{}, nil, []md.Domain{{Names: []string{"example.test", "127.0.0.1"}}}, ""},
		{"for a Unicode name", localca.Config{}, nil, []md.Domain{{Names: []string{"bücher.test"}}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, heard := newPlace(t), new(audience)
			ca := p.startCA(t, test.ca)
			m := &md.Manager{
				Domains: test.domains, AcceptTerms: true, Store: new(store.Memory),
				Default:  md.Domain{CAs: at(ca), Challengers: test.challengers},
				Notifier: heard, Logger: logged(t),
			}
			p.run(t, m)
			ready(t, m)
			checkServed(t, p, m, ca.Roots())
			checkEvents(t, heard, len(test.domains), test.challenge)
			renewAgain(t, p, m, ca.Roots())
		})
	}
}

// checkServed connects to every name of m.
func checkServed(t *testing.T, p *place, m *md.Manager, roots *x509.CertPool) {
	t.Helper()
	for domain := range m.Status() {
		if domain.State != status.Good {
			t.Errorf("%s is %s (%s), want good", domain.Name, domain.State, domain.Reason)
		}
		for _, c := range domain.Certificates {
			for _, name := range c.Names {
				if got := p.get(t, name, roots); got != body {
					t.Errorf("%s answers %q, want %q", name, got, body)
				}
			}
		}
	}
}

// checkEvents checks that of each Domain the whole story was told.
func checkEvents(t *testing.T, heard *audience, domains int, challengeType string) {
	t.Helper()
	for _, kind := range []status.Kind{status.Renewing, status.Renewed, status.Installed} {
		waitFor(t, func() bool { return len(heard.of(kind)) >= domains })
		if got := len(heard.of(kind)); got != domains {
			t.Errorf("%d events %s, want %d", got, kind, domains)
		}
	}
	if failed := heard.of(status.Errored); len(failed) > 0 {
		t.Errorf("an attempt failed: %v", failed[0].Err)
	}
	setups := heard.of(status.ChallengeSetup)
	if len(setups) == 0 {
		t.Error("no challenge was set up")
	}
	for _, e := range setups {
		if challengeType != "" && e.ChallengeType != challengeType {
			t.Errorf("a challenge of type %s was set up, want only %s", e.ChallengeType, challengeType)
		}
	}
}

// renewAgain asks for a second certificate of every Domain, which is where
// the CA's memory of the first (authorizations, account) comes into play.
func renewAgain(t *testing.T, p *place, m *md.Manager, roots *x509.CertPool) {
	t.Helper()
	for domain := range m.Status() {
		name := domain.Certificates[0].Names[0]
		before := p.connect(t, name, roots)
		if err := m.Renew(restless(t.Context()), domain.Name); err != nil {
			t.Fatalf("Renew(%s): %v", domain.Name, err)
		}
		if after := p.connect(t, name, roots); after.Equal(before) {
			t.Errorf("after Renew, %s is served as before", name)
		}
	}
}

func TestTwoKeyTypes(t *testing.T) {
	p := newPlace(t)
	ca := p.startCA(t, localca.Config{})
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.test"}, KeyTypes: []md.KeyType{"P256", "RSA2048"}}},
		AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: at(ca)}, Logger: logged(t),
	}
	p.run(t, m)
	ready(t, m)
	if _, ok := p.connect(t, "example.test", ca.Roots()).PublicKey.(*ecdsa.PublicKey); !ok {
		t.Error("a modern client does not get the P-256 certificate")
	}
	conn, err := tls.Dial("tcp", p.address(), &tls.Config{
		ServerName: "example.test", RootCAs: ca.Roots(), MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	})
	if err != nil {
		t.Fatalf("a client that knows only RSA: %v", err)
	}
	defer conn.Close()
	if _, ok := conn.ConnectionState().PeerCertificates[0].PublicKey.(*rsa.PublicKey); !ok {
		t.Error("a client that knows only RSA does not get the RSA certificate")
	}
}
