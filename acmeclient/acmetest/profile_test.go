package acmetest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

var testProfiles = []Profile{
	{Name: "classic", Description: "as ever", DNSOnly: true},
	{Name: "shortlived", Description: "https://acme.test/short", Lifetime: 160 * time.Hour, MaxNames: 2},
}

// orderIn makes an order for a profile.
func (w *wire) orderIn(t testing.TB, profile string, ids ...identifier) *answer {
	t.Helper()
	payload := ordered(ids...)
	payload["profile"] = profile
	return w.post(t, w.url("newOrder"), payload)
}

func TestProfiles(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT, HTTP: s, IPAddresses: true, Profiles: testProfiles}
	defer ca.Close()
	w := registered(t, ca)
	a, b, c, ip := identifier{"dns", "a.test"}, identifier{"dns", "b.test"}, identifier{"dns", "c.test"}, identifier{"ip", "192.0.2.1"}

	got := w.dir["meta"].(map[string]any)["profiles"].(map[string]any)
	if len(got) != 2 || got["shortlived"] != "https://acme.test/short" {
		t.Errorf("the directory lists %v", got)
	}
	wantProblem(t, w.orderIn(t, "long", a), 400, invalidProfile)
	wantProblem(t, w.orderIn(t, "Classic", a), 400, invalidProfile)
	wantProblem(t, w.orderIn(t, "classic", a, ip), 403, rejectedIdentifier)
	wantProblem(t, w.orderIn(t, "shortlived", a, b, c), 403, rejectedIdentifier)
	for profile, want := range map[string]string{"": "classic", "classic": "classic", "shortlived": "shortlived"} {
		o := w.orderIn(t, profile, a)
		if o.status != http.StatusCreated || o.doc.Profile != want {
			t.Errorf("an order for %q gets %d and profile %q, want 201 and %q", profile, o.status, o.doc.Profile, want)
		}
		if orders := ca.Orders(); orders[len(orders)-1].Profile != want {
			t.Errorf("Orders has profile %q, want %q", orders[len(orders)-1].Profile, want)
		}
	}
	if o := w.orderIn(t, "shortlived", ip); o.status != http.StatusCreated {
		t.Errorf("an order for an address gets %d %s", o.status, o.body)
	}
}

func TestProfilesDecideTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		ca := &CA{LookupTXT: s.lookupTXT, Profiles: testProfiles}
		defer ca.Close()
		c := newClient(t, ca, ca.Client(), ecdsaKey(t))
		for i, test := range []struct {
			options []acme.OrderOption
			want    time.Duration
		}{
			{nil, 90*24*time.Hour - time.Second},
			{[]acme.OrderOption{acme.WithOrderIssuanceProfile("shortlived")}, 160*time.Hour - time.Second},
			{[]acme.OrderOption{acme.WithOrderIssuanceProfile("shortlived"), acme.WithOrderNotAfter(time.Now().Add(23 * time.Hour))}, 24 * time.Hour},
			{[]acme.OrderOption{acme.WithOrderNotBefore(time.Now().Add(-2 * time.Hour))}, 90*24*time.Hour - time.Second},
		} {
			obtain(t, c, s, typeDNS01, test.options, "a.test")
			leaf := ca.Certificates()[i].Leaf
			if got := leaf.NotAfter.Sub(leaf.NotBefore); got != test.want {
				t.Errorf("order %d: the certificate lasts %v, want %v", i, got, test.want)
			}
		}
		if _, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("a.test"), acme.WithOrderIssuanceProfile("long")); err == nil {
			t.Error("x/crypto/acme asks for a profile that is not listed")
		}
	})
}

func TestRetiredProfiles(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT, Profiles: testProfiles}
	defer ca.Close()
	w := registered(t, ca)
	o := w.orderIn(t, "shortlived", identifier{"dns", "a.test"})
	w.prove(t, s, o.doc.Authorizations[0])
	ca.RetireProfile("shortlived")
	csr := base64.RawURLEncoding.EncodeToString(newCSR(t, ecdsaKey(t), "a.test"))
	wantProblem(t, w.post(t, o.doc.Finalize, map[string]any{"csr": csr}), 400, invalidProfile)
	wantProblem(t, w.orderIn(t, "shortlived", identifier{"dns", "a.test"}), 400, invalidProfile)
	if err := w.discover(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	if got := w.dir["meta"].(map[string]any)["profiles"].(map[string]any); len(got) != 1 {
		t.Errorf("the directory lists %v, want the one that is left", got)
	}
	ca.RetireProfile("classic")
	if o := w.order(t, "a.test"); o.status != http.StatusCreated {
		t.Errorf("without any profile left newOrder answers %d %s", o.status, o.body)
	}
}

func TestRefusedDates(t *testing.T) {
	ca := &CA{HTTPPort: 1, RefuseDates: true}
	defer ca.Close()
	w := registered(t, ca)
	for _, field := range []string{"notBefore", "notAfter"} {
		payload := orderFor("a.test")
		payload[field] = time.Now().Add(time.Hour)
		wantProblem(t, w.post(t, w.url("newOrder"), payload), 400, malformed)
	}
	if o := w.order(t, "a.test"); o.status != http.StatusCreated {
		t.Errorf("an order without dates gets %d %s", o.status, o.body)
	}
}

func mustStapleCSR(t testing.TB, key *ecdsa.PrivateKey, name string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames:        []string{name},
		ExtraExtensions: []pkix.Extension{{Id: oidTLSFeature, Value: []byte{0x30, 0x03, 0x02, 0x01, 0x05}}}, // RFC 7633 §6
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestMustStaple(t *testing.T) {
	for _, test := range []struct {
		does    string
		policy  MustStaple
		refused bool
		granted bool
	}{
		{"is granted", GrantMustStaple, false, true},
		{"is refused", RefuseMustStaple, true, false},
		{"is dropped", DropMustStaple, false, false},
	} {
		t.Run(test.does, func(t *testing.T) {
			s := newSite()
			ca := &CA{LookupTXT: s.lookupTXT, MustStaple: test.policy}
			defer ca.Close()
			w := registered(t, ca)
			o := w.ready(t, s, "a.test")
			csr := base64.RawURLEncoding.EncodeToString(mustStapleCSR(t, ecdsaKey(t), "a.test"))
			a := w.post(t, o.doc.Finalize, map[string]any{"csr": csr})
			if test.refused {
				wantProblem(t, a, 400, badCSR)
				w.issueReady(t, o, "a.test") // without it, the order is still good
				return
			}
			leaf := ca.Certificates()[0].Leaf
			got := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidTLSFeature) })
			if got != test.granted {
				t.Errorf("the certificate asks for stapling: %v, want %v", got, test.granted)
			}
		})
	}
}

func TestExternalAccountsForOneUse(t *testing.T) {
	secret := []byte("secret")
	bind := func(ca *CA, key *ecdsa.PrivateKey) error {
		c := &acme.Client{Key: key, HTTPClient: ca.Client(), DirectoryURL: ca.DirectoryURL()}
		_, err := c.Register(t.Context(), &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: "kid-1", Key: secret}}, acme.AcceptTOS)
		return err
	}
	for _, once := range []bool{false, true} {
		ca := &CA{ExternalAccounts: map[string][]byte{"kid-1": secret}, ExternalAccountsOnce: once}
		key := ecdsaKey(t)
		if err := bind(ca, key); err != nil {
			t.Fatal(err)
		}
		if err := bind(ca, key); !errors.Is(err, acme.ErrAccountAlreadyExists) {
			t.Errorf("the same key: got %v, want the account that exists", err)
		}
		ca.ForgetAccounts()
		err := bind(ca, ecdsaKey(t))
		var refused *acme.Error
		if got := errors.As(err, &refused) && refused.ProblemType == problemPrefix+unauthorized; got != once {
			t.Errorf("another key: got %v, want it refused: %v", err, once)
		}
		ca.Close()
	}
}
