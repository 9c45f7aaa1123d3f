package acmetest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestCertificatesAreAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		ca := &CA{
			LookupTXT: s.lookupTXT, ChainLength: 3, Lifetime: 160 * time.Hour, Backdate: 2 * time.Hour,
			Leaf: func(c *x509.Certificate) { c.Subject.CommonName = c.DNSNames[0] },
		}
		defer ca.Close()
		w := registered(t, ca)
		chain := w.issue(t, s, ecdsaKey(t), "a.test")
		if got := len(chain); got != 3 {
			t.Errorf("the chain has %d certificates, want 3", got)
		}
		for i, c := range chain[:2] {
			if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
				t.Errorf("certificate %d does not link to the next: %v", i, err)
			}
		}
		leaf := chain[0]
		if got := leaf.NotAfter.Sub(leaf.NotBefore); got != 160*time.Hour-time.Second {
			t.Errorf("the lifetime is %v", got)
		}
		if got := time.Since(leaf.NotBefore); got != 2*time.Hour {
			t.Errorf("the certificate is backdated by %v", got)
		}
		if got := leaf.Subject.CommonName; got != "a.test" {
			t.Errorf("the template's change is lost: CN is %q", got)
		}

		until := time.Now().Add(72 * time.Hour).UTC().Truncate(time.Second)
		payload := orderFor("b.test")
		payload["notAfter"] = until
		o := w.post(t, w.url("newOrder"), payload)
		w.prove(t, s, o.doc.Authorizations[0])
		w.post(t, o.doc.Finalize, map[string]any{"csr": base64.RawURLEncoding.EncodeToString(newCSR(t, ecdsaKey(t), "b.test"))})
		if got := ca.Certificates()[1].Leaf.NotAfter; !got.Equal(until) {
			t.Errorf("notAfter is %v, want %v", got, until)
		}
	})
}

func TestAlternateChains(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT, Alternates: 2, IssuerRSA: true}
	defer ca.Close()
	c := newClient(t, ca, ca.Client(), ecdsaKey(t))
	obtain(t, c, s, typeDNS01, nil, "a.test")
	urls, err := c.ListCertAlternates(t.Context(), ca.Certificates()[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(urls); got != 2 {
		t.Fatalf("%d alternates, want 2", got)
	}
	issuers := map[string]bool{}
	for _, u := range append(urls, ca.Certificates()[0].URL) {
		chain, err := c.FetchCert(t.Context(), u, true)
		if err != nil {
			t.Fatal(err)
		}
		check(t, ca, chain, "a.test")
		last, err := x509.ParseCertificate(chain[len(chain)-1])
		if err != nil {
			t.Fatal(err)
		}
		issuers[last.Issuer.CommonName] = true
	}
	if len(issuers) != 3 {
		t.Errorf("the chains lead to %v, want three roots", issuers)
	}
	if got := len(parseChain(t, ca.RootPEM())); got != 3 {
		t.Errorf("RootPEM has %d roots, want 3", got)
	}
}

func TestRevocation(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT}
	defer ca.Close()
	w := registered(t, ca)
	keys := []*ecdsa.PrivateKey{ecdsaKey(t), ecdsaKey(t), ecdsaKey(t)}
	var certs []*x509.Certificate
	for _, key := range keys {
		certs = append(certs, w.issue(t, s, key, "a.test")[0])
	}
	payload := func(cert *x509.Certificate, reason int) map[string]any {
		return map[string]any{"certificate": base64.RawURLEncoding.EncodeToString(cert.Raw), "reason": reason}
	}
	url := w.url("revokeCert")
	other := registered(t, ca)
	wantProblem(t, other.post(t, url, payload(certs[0], 0)), 403, unauthorized)
	wantProblem(t, w.post(t, url, payload(certs[0], 7)), 400, badRevocationReason)
	wantProblem(t, w.post(t, url, payload(parseChain(t, ca.RootPEM())[0], 0)), 404, malformed)
	wantProblem(t, w.post(t, url, map[string]any{"certificate": "AAAA"}), 400, malformed)

	if a := w.post(t, url, payload(certs[0], 4)); a.status != http.StatusOK {
		t.Errorf("the account's revocation answers %d %s", a.status, a.body)
	}
	wantProblem(t, w.post(t, url, payload(certs[0], 4)), 400, alreadyRevoked)
	holder := newWire(t, ca)
	holder.key = keys[1]
	if a := holder.post(t, url, payload(certs[1], 1)); a.status != http.StatusOK {
		t.Errorf("the key's revocation answers %d %s", a.status, a.body)
	}
	wantProblem(t, holder.post(t, url, payload(certs[2], 1)), 403, unauthorized)
	other.ready(t, s, "a.test")
	if a := other.post(t, url, payload(certs[2], 5)); a.status != http.StatusOK {
		t.Errorf("the revocation by who controls the names answers %d %s", a.status, a.body)
	}
	for i, want := range []int{4, 1, 5} {
		if got := ca.Certificates()[i]; got.Revoked.IsZero() || got.Reason != want {
			t.Errorf("certificate %d is revoked at %v for %d, want reason %d", i, got.Revoked, got.Reason, want)
		}
	}
	if err := ca.Revoke(certs[0], 1); err == nil {
		t.Error("Revoke takes a revoked certificate")
	}
}

func TestRenewalInfo(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT, RenewalInfo: true}
	defer ca.Close()
	w := registered(t, ca)
	leaf := w.issue(t, s, ecdsaKey(t), "a.test", "b.test")[0]
	type info struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	ask := func() (info, *answer) {
		t.Helper()
		a, err := w.do(t.Context(), http.MethodGet, w.url("renewalInfo")+"/"+certID(leaf), nil)
		if err != nil {
			t.Fatal(err)
		}
		var i info
		mustDecode(t, a.body, &i)
		return i, a
	}
	got, a := ask()
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
	if win := got.SuggestedWindow; !win.Start.Before(middle) || !win.End.After(middle) {
		t.Errorf("the window %v does not surround %v", win, middle)
	}
	if got := a.header.Get("Retry-After"); got != "21600" {
		t.Errorf("Retry-After is %q, want 21600", got)
	}
	ca.SetRenewalInfo(leaf, RenewalInfo{Start: middle, End: middle.Add(-time.Hour), ExplanationURL: "https://acme.test/why"})
	if got, _ := ask(); !got.SuggestedWindow.End.Before(got.SuggestedWindow.Start) || got.ExplanationURL == "" {
		t.Errorf("the chosen window is lost: %+v", got)
	}

	replacing := func(names ...string) map[string]any {
		p := orderFor(names...)
		p["replaces"] = certID(leaf)
		return p
	}
	other := registered(t, ca)
	wantProblem(t, other.post(t, w.url("newOrder"), replacing("a.test")), 403, unauthorized)
	wantProblem(t, w.post(t, w.url("newOrder"), replacing("c.test")), 400, malformed)
	if a := w.post(t, w.url("newOrder"), replacing("b.test", "c.test")); a.status != http.StatusCreated {
		t.Errorf("a replacing order answers %d %s", a.status, a.body)
	}
	wantProblem(t, w.post(t, w.url("newOrder"), replacing("a.test")), 409, alreadyReplaced)
	unknown := orderFor("a.test")
	unknown["replaces"] = "AAAA.AAAA"
	wantProblem(t, w.post(t, w.url("newOrder"), unknown), 404, malformed)

	revoked := w.issue(t, s, ecdsaKey(t), "d.test")[0]
	if err := ca.Revoke(revoked, 1); err != nil {
		t.Fatal(err)
	}
	leaf = revoked
	if got, _ := ask(); got.SuggestedWindow.End.After(time.Now()) {
		t.Errorf("the window of a revoked certificate is %+v, want one that is over", got.SuggestedWindow)
	}
}

// RFC 9773 §4.1 has this example.
func TestCertificateIdentifier(t *testing.T) {
	leaf := &x509.Certificate{
		AuthorityKeyId: []byte{
			0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3,
			0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
		},
		SerialNumber: bigInt(0x87654321),
	}
	if got, want := certID(leaf), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"; got != want {
		t.Errorf("the identifier is %s, want %s", got, want)
	}
}

func TestWhatTheCSRAsksFor(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT}
	defer ca.Close()
	w := registered(t, ca)
	key, err := newKey(true, "", "")
	if err != nil {
		t.Fatal(err)
	}
	feature := pkix.Extension{Id: oidTLSFeature, Value: []byte{0x30, 0x03, 0x02, 0x01, 0x05}} // RFC 7633 §6
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames: []string{"a.test"}, ExtraExtensions: []pkix.Extension{feature},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	o := w.ready(t, s, "a.test")
	w.post(t, o.doc.Finalize, map[string]any{"csr": base64.RawURLEncoding.EncodeToString(der)})
	leaf := ca.Certificates()[0].Leaf
	if !sameKey(leaf.PublicKey, key.Public()) || leaf.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		t.Errorf("the certificate is for another key, or not for RSA's usage: %v", leaf.KeyUsage)
	}
	if !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidTLSFeature) }) {
		t.Error("the certificate does not ask for stapling, as the csr does")
	}
	issuer, signer, err := ca.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.CheckSignatureFrom(issuer); err != nil || !sameKey(issuer.PublicKey, signer.Public()) {
		t.Errorf("Issuer is not who signed: %v", err)
	}
}
