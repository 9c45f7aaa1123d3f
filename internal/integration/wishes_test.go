package integration

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// lifetime is how long a certificate is valid.
func lifetime(cert *x509.Certificate) time.Duration { return cert.NotAfter.Sub(cert.NotBefore) }

func TestProfilesOfPebble(t *testing.T) {
	const name = "127.0.0.1"
	const short, long = 6 * 24 * time.Hour, 90 * 24 * time.Hour
	for _, test := range []struct {
		name    string
		domain  md.Domain
		lasts   time.Duration // 0: Pebble draws a profile when none is asked for
		warning string        // that the status must have; "": none
	}{
		{"none", md.Domain{}, 0, ""},
		{"default", md.Domain{Profile: "default", ProfileRequired: md.On}, long, ""},
		{"shortlived", md.Domain{Profile: "shortlived", ProfileRequired: md.On}, short, ""},
		{"shortlived in another case", md.Domain{Profile: "ShortLived"}, short, ""},
		{"one that it does not have", md.Domain{Profile: "eternal"}, 0, `"eternal"`},
		{"default for less than its lifetime", md.Domain{Profile: "default", Lifetime: short}, short, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			authority := p.startPebble(t, pebbleConfig{profiles: map[string]ca.Profile{
				"default":    {Description: "what most want", ValidityPeriod: uint64(long / time.Second)},
				"shortlived": {Description: "what some want", ValidityPeriod: uint64(short / time.Second)},
			}})
			test.domain.Names = []string{name}
			m := &md.Manager{
				Domains: []md.Domain{test.domain}, AcceptTerms: true, Store: new(store.Memory),
				Default: md.Domain{CAs: []md.CA{authority.at()}}, Logger: logged(t),
			}
			p.run(t, m)
			ready(t, m)
			cert := p.connect(t, name, authority.roots)
			if got := lifetime(cert).Round(time.Hour); got != test.lasts && test.lasts != 0 {
				t.Errorf("the certificate lasts %v, want %v", got, test.lasts)
			}
			waitFor(t, func() bool { return atRest(m) })
			if got := warned(m, name, ""); got != (test.warning != "") || got && !warned(m, name, test.warning) {
				t.Errorf("a warning is told: %v, want one with %q", got, test.warning)
			}
		})
	}
}

func TestIPAddressesFromPebble(t *testing.T) {
	addresses := []string{"127.0.0.1"}
	if six, err := net.Listen("tcp", "[::1]:0"); err == nil {
		six.Close()
		addresses = append(addresses, "::1")
	} else {
		t.Logf("this machine has no IPv6 on loopback, so it is not tried: %v", err)
	}
	for _, address := range addresses {
		for _, challenger := range []md.Challenger{&md.HTTP01{}, &md.TLSALPN01{}} {
			typ := challenger.Types()[0]
			t.Run(address+" with "+typ, func(t *testing.T) {
				p, heard := newPlaceAt(t, address), new(audience)
				authority := p.startPebble(t, pebbleConfig{})
				m := &md.Manager{
					Domains: []md.Domain{{Names: []string{address}, Challengers: []md.Challenger{challenger}}}, AcceptTerms: true,
					Store: new(store.Memory), Default: md.Domain{CAs: []md.CA{authority.at()}}, Notifier: heard, Logger: logged(t),
				}
				p.run(t, m)
				ready(t, m)
				// Clients send no server name for an address, and find it among the
				// certificate's IP addresses.
				before := p.connect(t, address, authority.roots)
				checkEvents(t, heard, 1, typ)
				if err := m.Renew(restless(t.Context()), address); err != nil {
					t.Fatalf("Renew: %v", err)
				}
				if after := p.connect(t, address, authority.roots); after.Equal(before) {
					t.Error("after Renew, the same certificate is served")
				}
			})
		}
	}
}

// served returns the chain that is served for name, leaf first.
func (p *place) served(t *testing.T, name string, roots *x509.CertPool) []*x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", p.address(), &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		t.Fatalf("connecting to %s: %v", name, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates
}

// TestChainsOfPebble has Domains prefer each of the roots that the CA's chains
// lead to.
func TestChainsOfPebble(t *testing.T) {
	p := newPlace(t)
	authority := p.startCA(t, localca.Config{AlternateRoots: 3, ChainLength: 2})
	roots := certificatesIn(authority.RootsPEM())
	if len(roots) != 4 {
		t.Fatalf("the CA has %d roots, want 4", len(roots))
	}
	m := &md.Manager{AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: at(authority)}, Logger: logged(t)}
	hosts := manyNames(len(roots) + 1)
	for i, host := range hosts {
		d := md.Domain{Names: []string{host}}
		if i < len(roots) {
			d.Chain = roots[i].Subject.CommonName
		}
		m.Domains = append(m.Domains, d)
	}
	p.run(t, m)
	ready(t, m)
	for i, host := range hosts {
		want := roots[0] // the CA's default, for the Domain without a wish
		if i < len(roots) {
			want = roots[i]
		}
		only := x509.NewCertPool()
		only.AddCert(want)
		chain := p.served(t, host, only)
		if got := chain[len(chain)-1].Issuer.CommonName; got != want.Subject.CommonName {
			t.Errorf("the chain for %s ends below %q, want %q", host, got, want.Subject.CommonName)
		}
	}
}

// certificatesIn returns the certificates in PEM text.
func certificatesIn(text []byte) (certs []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return certs
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			certs = append(certs, cert)
		}
	}
}

// TestChainIsTrimmed has the CA send its root, and a root of somebody else,
// behind each chain.
func TestChainIsTrimmed(t *testing.T) {
	for _, test := range []struct {
		name string
		trim md.Switch
		want int // certificates
	}{
		{"if that is wanted", md.On, 3},
		{"not by default", md.Unset, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			var surplus []byte
			p := newPlace(t)
			authority := p.startCA(t, localca.Config{ChainLength: 2, Wrap: func(next http.Handler) http.Handler {
				return appending(next, &surplus)
			}})
			other := p.startCA(t, localca.Config{})
			surplus = append(authority.RootsPEM(), other.RootsPEM()...) // before anybody asks
			m := &md.Manager{
				Domains: []md.Domain{{Names: []string{"example.test"}, TrimChain: test.trim}}, AcceptTerms: true,
				Store: new(store.Memory), Default: md.Domain{CAs: at(authority)}, Logger: logged(t),
			}
			p.run(t, m)
			ready(t, m)
			if got := len(p.served(t, "example.test", authority.Roots())); got != test.want {
				t.Errorf("%d certificates are served, want %d", got, test.want)
			}
		})
	}
}

// appending adds text to the chains that a Pebble answers with.
func appending(next http.Handler, text *[]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/certZ/") {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		_, _ = w.Write(append(answer.Body.Bytes(), *text...))
	})
}

func TestMustStapleFromPebble(t *testing.T) {
	p := newPlace(t)
	authority := p.startCA(t, localca.Config{})
	m := &md.Manager{
		Domains: []md.Domain{
			{Names: []string{"must.test"}, OCSP: md.OCSPMust},
			{Names: []string{"need.test"}},
		},
		AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: at(authority)}, Logger: logged(t),
	}
	p.run(t, m)
	ready(t, m)
	if !acmeclient.MustStaple(p.connect(t, "must.test", authority.Roots())) {
		t.Error("the certificate does not demand stapling, which was asked for")
	}
	if acmeclient.MustStaple(p.connect(t, "need.test", authority.Roots())) {
		t.Error("the certificate demands stapling, which nobody asked for")
	}
	waitFor(t, func() bool { return atRest(m) })
	if warned(m, "must.test", "") {
		t.Error("a warning is told although the CA did as asked")
	}
}

// TestRenewalFromPebble looks at what a renewal tells the CA, and at its key.
func TestRenewalFromPebble(t *testing.T) {
	for _, test := range []struct {
		name     string
		domain   md.Domain
		replaces bool // the order says which certificate it replaces
		sameKey  bool
	}{
		{"replaces the certificate with another key", md.Domain{}, true, false},
		{"replaces the certificate with the same key", md.Domain{ReuseKey: md.On}, true, true},
		{"does not tell what it replaces", md.Domain{ARI: md.Off}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, seen, heard := newPlace(t), new(witness), new(audience)
			authority := p.startCA(t, localca.Config{Wrap: seen.wrap})
			test.domain.Names = []string{"example.test"}
			m := &md.Manager{
				Domains: []md.Domain{test.domain}, AcceptTerms: true, Store: new(store.Memory),
				Default: md.Domain{CAs: at(authority)}, Notifier: heard, Logger: logged(t),
			}
			p.run(t, m)
			ready(t, m)
			certs := []*x509.Certificate{p.connect(t, "example.test", authority.Roots())}
			for range 2 { // Pebble lets a certificate be replaced once
				if err := m.Renew(restless(t.Context()), "example.test"); err != nil {
					t.Fatalf("Renew: %v", err)
				}
				certs = append(certs, p.connect(t, "example.test", authority.Roots()))
			}
			checkReplaced(t, seen, certs, test.replaces)
			for i, cert := range certs[1:] {
				if got := bytes.Equal(cert.RawSubjectPublicKeyInfo, certs[i].RawSubjectPublicKeyInfo); got != test.sameKey {
					t.Errorf("renewal %d has the same key: %v, want %v", i+1, got, test.sameKey)
				}
			}
			if failed := heard.of(status.Errored); len(failed) > 0 {
				t.Errorf("an attempt failed: %v", failed[0].Err)
			}
		})
	}
}

// checkReplaced checks that the orders for certs said which they replace: each
// the one before.
func checkReplaced(t *testing.T, seen *witness, certs []*x509.Certificate, wanted bool) {
	t.Helper()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.replaced) != len(certs) {
		t.Fatalf("%d orders were made, want %d", len(seen.replaced), len(certs))
	}
	for i, got := range seen.replaced {
		want := ""
		if i > 0 && wanted {
			id, err := acmeclient.CertID(certs[i-1])
			if err != nil {
				t.Fatal(err)
			}
			want = id
		}
		if got != want {
			t.Errorf("order %d says that it replaces %q, want %q", i+1, got, want)
		}
	}
}
