package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefusedNames(t *testing.T) {
	ca := &CA{HTTPPort: 1, Policy: func(name string) error {
		if strings.HasSuffix(name, ".bank.test") {
			return errors.New("banks are not served")
		}
		return nil
	}}
	defer ca.Close()
	w := registered(t, ca)
	for name, names := range map[string][]string{
		"are none":                 nil,
		"are IP addresses":         {"192.0.2.1"},
		"have empty labels":        {"a..test"},
		"are not in ASCII":         {"bücher.test"},
		"have stars inside":        {"a.*.test"},
		"begin with hyphens":       {"-a.test"},
		"are too long":             {strings.Repeat("a.", 130) + "test"},
		"are wildcards, no dns-01": {"*.example.com"},
		"are refused by policy":    {"www.bank.test"},
		"are too many":             slices.Collect(manyNames(maxNames + 1)),
	} {
		t.Run("are those that "+name, func(t *testing.T) {
			a := w.order(t, names...)
			if a.problem() != rejectedIdentifier && a.problem() != malformed {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	a := w.order(t, "www.bank.test", "fine.test", "192.0.2.1")
	wantProblem(t, a, 403, rejectedIdentifier)
	if got, want := len(a.doc.Subproblems), 2; got != want {
		t.Errorf("%d subproblems, want %d: %s", got, want, a.body)
	}
	wantProblem(t, w.post(t, w.url("newOrder"), map[string]any{
		"identifiers": []map[string]string{{"type": "ip", "value": "192.0.2.1"}},
	}), 400, unsupportedIdentifier)
	yesterday := orderFor("fine.test")
	yesterday["notAfter"] = time.Now().Add(-24 * time.Hour)
	wantProblem(t, w.post(t, w.url("newOrder"), yesterday), 400, malformed)

	blind := &CA{}
	defer blind.Close()
	a = registered(t, blind).order(t, "fine.test")
	wantProblem(t, a, 403, rejectedIdentifier)
	if !strings.Contains(a.doc.Detail, "CA.HTTPPort") {
		t.Errorf("the refusal does not say what to set: %s", a.doc.Detail)
	}
}

func manyNames(n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(strings.Repeat("a", i/26+1) + string(rune('a'+i%26)) + ".test") {
				return
			}
		}
	}
}

func TestOrderNamesAreASet(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT}
	defer ca.Close()
	w := registered(t, ca)
	o := w.order(t, "B.test", "a.test", "b.test", "*.a.test")
	if got, want := ca.Orders()[0].Names, []string{"*.a.test", "a.test", "b.test"}; !slices.Equal(got, want) {
		t.Errorf("names are %q, want %q", got, want)
	}
	wildcards := 0
	for _, u := range o.doc.Authorizations {
		a := w.post(t, u, nil)
		if a.doc.Wildcard {
			wildcards++
		}
	}
	if wildcards != 1 {
		t.Errorf("%d authorizations say wildcard, want 1", wildcards)
	}
}

func TestFinalize(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT}
	defer ca.Close()
	w := registered(t, ca)
	finalize := func(o *answer, csr []byte) *answer {
		t.Helper()
		return w.post(t, o.doc.Finalize, map[string]any{"csr": base64.RawURLEncoding.EncodeToString(csr)})
	}
	key := ecdsaKey(t)
	wantProblem(t, finalize(w.order(t, "c.test"), newCSR(t, key, "c.test")), 403, orderNotReady)

	o := w.ready(t, s, "a.test", "b.test")
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	custom := func(template *x509.CertificateRequest, key crypto.Signer) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	forged := newCSR(t, key, "a.test", "b.test")
	forged[len(forged)-1] ^= 1
	both := []string{"a.test", "b.test"}
	for name, csr := range map[string][]byte{
		"lacks a name":         newCSR(t, key, "a.test"),
		"has another name":     newCSR(t, key, "a.test", "b.test", "c.test"),
		"has an IP address":    custom(&x509.CertificateRequest{DNSNames: both, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, key),
		"has a common name":    custom(&x509.CertificateRequest{DNSNames: both, Subject: pkix.Name{CommonName: "c.test"}}, key),
		"has the account key":  newCSR(t, w.key, both...),
		"has a key of Edwards": newCSR(t, edwards, both...),
		"is forged":            forged,
		"is garbage":           []byte("garbage"),
	} {
		t.Run("refuses a csr that "+name, func(t *testing.T) {
			wantProblem(t, finalize(o, csr), 400, badCSR)
		})
	}
	wantProblem(t, w.post(t, o.doc.Finalize, map[string]any{"csr": "=="}), 400, malformed)

	a := finalize(o, newCSR(t, key, both...))
	if a.status != http.StatusOK || !a.is(processing) {
		t.Fatalf("finalize answers %d %s, want a processing order", a.status, a.body)
	}
	if a.location() != o.location() {
		t.Errorf("Location is %q, want %q", a.location(), o.location())
	}
	a = w.post(t, o.location(), nil)
	if !a.is(valid) || a.doc.Certificate == "" {
		t.Fatalf("the next look sees %s", a.body)
	}
	wantProblem(t, finalize(o, newCSR(t, key, both...)), 403, orderNotReady)
	certs := ca.Certificates()
	if len(certs) != 1 || certs[0].URL != a.doc.Certificate || certs[0].Order != o.location() || certs[0].Account != w.kid {
		t.Errorf("the CA knows of %+v", certs)
	}
	other := registered(t, ca)
	wantProblem(t, other.post(t, a.doc.Certificate, nil), 403, unauthorized)
}

// issue gets a certificate with a key.
func (w *wire) issue(t testing.TB, s *site, key *ecdsa.PrivateKey, names ...string) []*x509.Certificate {
	t.Helper()
	return w.finalizeReady(t, w.ready(t, s, names...), key, names...)
}

// issueReady finalizes an order with any key.
func (w *wire) issueReady(t testing.TB, o *answer, names ...string) {
	t.Helper()
	w.finalizeReady(t, o, ecdsaKey(t), names...)
}

func (w *wire) finalizeReady(t testing.TB, o *answer, key *ecdsa.PrivateKey, names ...string) []*x509.Certificate {
	t.Helper()
	csr := base64.RawURLEncoding.EncodeToString(newCSR(t, key, names...))
	w.post(t, o.doc.Finalize, map[string]any{"csr": csr})
	a := w.post(t, o.location(), nil)
	if !a.is(valid) {
		t.Fatalf("the order is %v: %s", a.doc.Status, a.body)
	}
	return parseChain(t, w.post(t, a.doc.Certificate, nil).body)
}

func parseChain(t testing.TB, text []byte) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		t.Fatalf("no certificates in %.100q", text)
	}
	return chain
}

func TestStatesAgeAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		ca := &CA{LookupTXT: s.lookupTXT, AuthzLifetime: time.Hour, OrderLifetime: 2 * time.Hour, AuthzReuse: 1}
		defer ca.Close()
		w := registered(t, ca)
		w.ready(t, s, "a.test")
		again := w.order(t, "a.test")
		if !again.is(ready) {
			t.Errorf("an order for a validated name is %v, want ready", again.doc.Status)
		}
		time.Sleep(time.Hour + time.Second)
		if a := w.post(t, again.location(), nil); !a.is(invalid) {
			t.Errorf("when its authorization expired, the order is %v, want invalid", a.doc.Status)
		}
		if a := w.post(t, again.doc.Authorizations[0], nil); !a.is(expired) {
			t.Errorf("after its lifetime the authorization is %v, want expired", a.doc.Status)
		}
		fresh := w.order(t, "a.test")
		if !fresh.is(pending) {
			t.Errorf("an expired authorization makes an order %v, want pending", fresh.doc.Status)
		}
		chal := w.post(t, fresh.doc.Authorizations[0], nil).doc.Challenges[0].URL
		if a := w.post(t, fresh.doc.Authorizations[0], map[string]any{"status": deactivated}); !a.is(deactivated) {
			t.Errorf("the authorization is %v, want deactivated", a.doc.Status)
		}
		wantProblem(t, w.post(t, chal, map[string]any{}), 400, malformed)
		wantProblem(t, w.post(t, fresh.doc.Authorizations[0], map[string]any{"status": deactivated}), 400, malformed)
		old := w.order(t, "b.test")
		time.Sleep(2*time.Hour + time.Second)
		if a := w.post(t, old.location(), nil); !a.is(invalid) {
			t.Errorf("after its lifetime the order is %v, want invalid", a.doc.Status)
		}
	})
}
