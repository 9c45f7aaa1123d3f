package integration

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// warned reports whether the status of a Domain has a warning with text.
func warned(m *md.Manager, name, text string) bool {
	for domain := range m.Status() {
		if domain.Name != name || domain.Renewal == nil {
			continue
		}
		return slices.ContainsFunc(domain.Renewal.Log, func(l status.LogEntry) bool {
			return l.What == "warning" && strings.Contains(l.Detail, text)
		})
	}
	return false
}

func TestCertificatesFromStepCA(t *testing.T) {
	for _, test := range []struct {
		name       string
		challenger func(ca *stepCA) md.Challenger
		challenge  string
		names      []string
		asked      []string // host names to connect to
	}{
		{"with http-01", func(*stepCA) md.Challenger { return &md.HTTP01{} }, "http-01",
			[]string{"example.test", "www.example.test"}, []string{"example.test", "www.example.test"}},
		{"with tls-alpn-01", func(*stepCA) md.Challenger { return &md.TLSALPN01{} }, "tls-alpn-01",
			[]string{"example.test", "www.example.test"}, []string{"example.test", "www.example.test"}},
		{"with dns-01 for a wildcard and its parent", func(ca *stepCA) md.Challenger { return ca.zone }, "dns-01",
			[]string{"example.test", "*.example.test"}, []string{"example.test", "any.example.test"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, heard := newPlace(t), new(audience)
			ca := p.startStepCA(t)
			m := &md.Manager{
				Domains: []md.Domain{{Names: test.names}}, AcceptTerms: true, Store: new(store.Memory),
				Default:  md.Domain{CAs: ca.at(), Challengers: []md.Challenger{test.challenger(ca)}},
				Notifier: heard, Logger: logged(t),
			}
			p.run(t, m)
			ready(t, m)
			for _, host := range test.asked {
				if got := p.get(t, host, ca.roots); got != body {
					t.Errorf("%s answers %q, want %q", host, got, body)
				}
			}
			checkEvents(t, heard, 1, test.challenge)
			waitFor(t, func() bool { return atRest(m) })
			if n := ca.zone.records(); n > 0 {
				t.Errorf("%d TXT records are left behind", n)
			}

			before := p.connect(t, test.asked[0], ca.roots)
			if err := m.Renew(restless(t.Context()), "example.test"); err != nil {
				t.Fatalf("Renew: %v", err)
			}
			if after := p.connect(t, test.asked[0], ca.roots); after.Equal(before) {
				t.Error("after Renew, the same certificate is served")
			}
			if failed := heard.of(status.Errored); len(failed) > 0 {
				t.Errorf("a CA without renewal information and profiles makes an attempt fail: %v", failed[0].Err)
			}
		})
	}
}

// atRest reports whether no attempt is under way.
func atRest(m *md.Manager) bool {
	for domain := range m.Status() {
		if domain.Renewal != nil && domain.Renewal.Running {
			return false
		}
	}
	return true
}

func TestTwoKeyTypesFromStepCA(t *testing.T) {
	p := newPlace(t)
	ca := p.startStepCA(t)
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.test"}, KeyTypes: []md.KeyType{md.P256, md.RSA2048}}},
		AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: ca.at()}, Logger: logged(t),
	}
	p.run(t, m)
	ready(t, m)
	if _, ok := p.connect(t, "example.test", ca.roots).PublicKey.(*ecdsa.PublicKey); !ok {
		t.Error("a modern client does not get the P-256 certificate")
	}
	if _, ok := connectRSA(t, p, "example.test", ca.roots).PublicKey.(*rsa.PublicKey); !ok {
		t.Error("a client that knows only RSA does not get the RSA certificate")
	}
}

// TestWishesAtStepCA asks for what step-ca does not have, and for a lifetime,
// which it takes from the order.
func TestWishesAtStepCA(t *testing.T) {
	p, heard := newPlace(t), new(audience)
	ca := p.startStepCA(t)
	const lifetime = 6 * time.Hour
	m := &md.Manager{
		Domains: []md.Domain{{
			Names: []string{"example.test"}, Profile: "shortlived", Chain: "Some Root", Lifetime: lifetime, OCSP: md.OCSPMust,
		}},
		AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: ca.at()}, Notifier: heard, Logger: logged(t),
	}
	p.run(t, m)
	ready(t, m)
	leaf := p.connect(t, "example.test", ca.roots)
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got > lifetime+5*time.Minute {
		t.Errorf("the certificate lasts %v, want %v", got, lifetime)
	}
	waitFor(t, func() bool { return atRest(m) })
	for _, wish := range []string{`"shortlived"`, "Some Root", "must-staple"} {
		if !warned(m, "example.test", wish) {
			t.Errorf("nobody is told that the CA does not have %s", wish)
		}
	}
	if failed := heard.of(status.Errored); len(failed) > 0 {
		t.Errorf("what the CA does not have makes an attempt fail: %v", failed[0].Err)
	}
	if _, _, orders := ca.seen.counts(); orders != 1 {
		t.Errorf("%d orders were made, want 1", orders)
	}
}
