package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
)

// leafOf returns the certificate that m serves for name.
func leafOf(t *testing.T, m *md.Manager, name string) *x509.Certificate {
	t.Helper()
	return parsed(t, served(t, m, &tls.ClientHelloInfo{ServerName: name}))
}

func served(t *testing.T, m *md.Manager, hello *tls.ClientHelloInfo) *tls.Certificate {
	t.Helper()
	cert, err := m.GetCertificate(hello)
	if err != nil {
		t.Fatalf("nothing is served for %q: %v", hello.ServerName, err)
	}
	return cert
}

func parsed(t *testing.T, cert *tls.Certificate) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func lifeOf(leaf *x509.Certificate) time.Duration { return leaf.NotAfter.Sub(leaf.NotBefore) }

// warned reports whether the Domain's status has a warning with text.
func (n *node) warned(text string) bool {
	r := n.report("example.test")
	return r.Renewal != nil && slices.ContainsFunc(r.Renewal.Log, func(l status.LogEntry) bool {
		return l.What == "warning" && strings.Contains(l.Detail, text)
	})
}

func TestWishes(t *testing.T) {
	profiles := []acmetest.Profile{{Name: "classic"}, {Name: "shortlived", Lifetime: 160 * time.Hour}}
	for _, test := range []struct {
		name   string
		ca     func(ca *acmetest.CA)
		domain md.Domain
		check  func(t *testing.T, n *node, leaf *x509.Certificate)
	}{
		{"a profile", func(ca *acmetest.CA) { ca.Profiles = profiles }, md.Domain{Profile: "shortlived"},
			func(t *testing.T, _ *node, leaf *x509.Certificate) {
				if got := lifeOf(leaf); got > 170*time.Hour {
					t.Errorf("it lasts %v, not as the profile says", got)
				}
			}},
		{"a profile that the CA does not have", func(ca *acmetest.CA) { ca.Profiles = profiles }, md.Domain{Profile: "longlived"},
			func(t *testing.T, n *node, leaf *x509.Certificate) {
				if got := lifeOf(leaf); got < 80*day {
					t.Errorf("it lasts %v, not as the CA's default", got)
				}
				if !n.warned("longlived") {
					t.Error("nobody is told that the profile is not there")
				}
			}},
		{"a lifetime by the order", nil, md.Domain{Lifetime: 20 * day},
			func(t *testing.T, _ *node, leaf *x509.Certificate) {
				if got := lifeOf(leaf); got < 19*day || got > 21*day {
					t.Errorf("it lasts %v, want 20 days", got)
				}
			}},
		{"a lifetime that the CA refuses", func(ca *acmetest.CA) { ca.RefuseDates = true }, md.Domain{Lifetime: 20 * day},
			func(t *testing.T, n *node, leaf *x509.Certificate) {
				if got := lifeOf(leaf); got < 80*day {
					t.Errorf("it lasts %v, not as the CA's default", got)
				}
				if !n.warned("480h") {
					t.Error("nobody is told that the CA refused the lifetime")
				}
			}},
		{"must-staple", nil, md.Domain{OCSP: md.OCSPMust},
			func(t *testing.T, n *node, leaf *x509.Certificate) {
				if !acmeclient.MustStaple(leaf) {
					t.Error("it does not demand stapling")
				}
			}},
		{"must-staple that the CA ignores", func(ca *acmetest.CA) { ca.MustStaple = acmetest.DropMustStaple }, md.Domain{OCSP: md.OCSPMust},
			func(t *testing.T, n *node, leaf *x509.Certificate) {
				if acmeclient.MustStaple(leaf) || !n.warned("must-staple") {
					t.Error("nobody is told that the CA has ignored it")
				}
			}},
		{"must-staple that the CA refuses", func(ca *acmetest.CA) { ca.MustStaple = acmetest.RefuseMustStaple }, md.Domain{OCSP: md.OCSPMust},
			func(t *testing.T, n *node, leaf *x509.Certificate) {
				if acmeclient.MustStaple(leaf) || !n.warned("must-staple") {
					t.Error("nobody is told that the CA has refused it")
				}
			}},
		{"a chain that is not there", func(ca *acmetest.CA) { ca.Alternates = 2 }, md.Domain{Chain: "Root of Nowhere"},
			func(t *testing.T, n *node, _ *x509.Certificate) {
				if !n.warned("Root of Nowhere") {
					t.Error("nobody is told that the chain is not there")
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if test.ca != nil {
					test.ca(w.ca)
				}
				test.domain.Names = []string{"example.test"}
				n := w.startIn(hourly(), w.manager(test.domain))
				defer n.stopped()
				n.ready(time.Hour)
				time.Sleep(time.Minute) // until the attempt has ended
				test.check(t, n, leafOf(t, n.m, "example.test"))
				time.Sleep(10 * day)
				if got := len(w.ca.Orders()); got != 1 && lifeOf(leafOf(t, n.m, "example.test")) > 30*day {
					t.Errorf("%d orders were made, want 1: what a CA does not do is no reason to ask again", got)
				}
			})
		})
	}
}

func TestARequiredProfileIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.Profiles = []acmetest.Profile{{Name: "classic"}}
		n := w.start(w.manager(md.Domain{Names: []string{"example.test"}, Profile: "shortlived", ProfileRequired: md.On}))
		defer n.stopped()
		err := n.m.Ready(t.Context())
		var p *md.Problem
		if !errors.Is(err, md.ErrNotReady) || !strings.Contains(err.Error(), "it offers classic") {
			t.Errorf("Ready says %v, want what the CA offers", err)
		}
		if err := n.m.Renew(t.Context(), "example.test"); !errors.As(err, &p) || p.Kind() != "invalidProfile" {
			t.Errorf("Renew says %v, want a Problem with invalidProfile", err)
		}
		if got := len(w.ca.Orders()); got != 0 {
			t.Errorf("%d orders were made, want none", got)
		}
	})
}

func TestTheKeyIsUsedAgainIfThatIsWanted(t *testing.T) {
	for name, reuse := range map[string]md.Switch{"reused": md.On, "another by default": md.Unset} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n := w.startIn(hourly(), w.manager(md.Domain{Names: []string{"example.test"}, ReuseKey: reuse}))
				defer n.stopped()
				n.ready(time.Minute)
				before := leafOf(t, n.m, "example.test")
				time.Sleep(70 * day)
				after := leafOf(t, n.m, "example.test")
				if before.Equal(after) {
					t.Fatal("it was not renewed")
				}
				if got := bytes.Equal(before.RawSubjectPublicKeyInfo, after.RawSubjectPublicKeyInfo); got != (reuse == md.On) {
					t.Errorf("the same key: %v, want %v", got, reuse == md.On)
				}
				if err := n.m.Revoke(t.Context(), "example.test", md.KeyCompromise); err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(after.RawSubjectPublicKeyInfo, leafOf(t, n.m, "example.test").RawSubjectPublicKeyInfo) {
					t.Error("a key that was compromised is used again")
				}
			})
		})
	}
}

// TestRehearsal has Let's Encrypt and its test endpoint played by two CAs.
func TestRehearsal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		staging := &w.second
		staging.BaseURL = "https://acme-staging-v02.api.letsencrypt.org"
		w.ca.BaseURL = "https://acme-v02.api.letsencrypt.org"
		w.firewall = "443" // what is wrong with the name is found at the test endpoint
		m := w.manager(md.Domain{Names: []string{"example.test"}, Rehearse: md.On, Challengers: []md.Challenger{&md.TLSALPN01{}}})
		m.Default.CAs = nil
		m.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Host, "acme-staging") {
				return staging.Client().Transport.RoundTrip(r)
			}
			return w.ca.Client().Transport.RoundTrip(r)
		})}
		n := w.startIn(hourly(), m)
		defer n.stopped()
		time.Sleep(2 * time.Hour)
		if got := len(w.ca.Orders()); got != 0 {
			t.Errorf("%d orders were made at the CA itself, though the rehearsal fails", got)
		}
		if reason := n.report("example.test").Renewal.LastError; !strings.Contains(reason, "rehearsal at letsencrypt-staging") {
			t.Errorf("the status says %q", reason)
		}
		w.mu.Lock()
		w.firewall = ""
		w.mu.Unlock()
		n.ready(2 * day)
		if got := len(w.ca.Certificates()); got != 1 {
			t.Errorf("%d certificates from the CA, want 1", got)
		}
		rehearsed := len(staging.Orders())
		time.Sleep(70 * day) // a renewal needs no rehearsal
		if got := len(staging.Orders()); got != rehearsed {
			t.Errorf("%d orders at the test endpoint after the renewal, want %d", got, rehearsed)
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates from the CA, want 2", got)
		}
	})
}

// at is a connection to an address.
type at struct {
	net.Conn
	addr net.Addr
}

func (a at) LocalAddr() net.Addr { return a.addr }

func TestIPAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.IPAddresses = true
		n := w.start(w.manager(
			md.Domain{Names: []string{"192.0.2.1", "[2001:0DB8::1]"}},
			md.Domain{Names: []string{"192.0.2.2"}, Challengers: []md.Challenger{&md.HTTP01{}}},
		))
		defer n.stopped()
		n.ready(time.Hour)
		for _, ip := range []string{"192.0.2.1", "2001:db8::1", "192.0.2.2"} {
			hello := &tls.ClientHelloInfo{Conn: at{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 443}}}
			leaf := parsed(t, served(t, n.m, hello))
			if err := leaf.VerifyHostname(ip); err != nil {
				t.Errorf("%s: %v", ip, err)
			}
		}
		time.Sleep(day)
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates, want 2", got)
		}
	})
}
