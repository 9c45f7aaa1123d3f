package acmeclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

func feature(value ...byte) []pkix.Extension {
	return []pkix.Extension{{Id: oidTLSFeature, Value: value}}
}

func TestMustStapleIsReadFromTheCertificate(t *testing.T) {
	for name, test := range map[string]struct {
		extensions []pkix.Extension
		want       bool
	}{
		"none":                 {nil, false},
		"as RFC 7633 has it":   {feature(0x30, 3, 2, 1, 5), true},
		"with another feature": {feature(0x30, 6, 2, 1, 17, 2, 1, 5), true},
		"another feature only": {feature(0x30, 3, 2, 1, 17), false},
		"no feature":           {feature(0x30, 0), false},
		"garbage":              {feature(1, 2, 3), false},
		"something behind":     {feature(0x30, 3, 2, 1, 5, 0), false},
		"nothing at all":       {feature(), false},
	} {
		if got := MustStaple(&x509.Certificate{Extensions: test.extensions}); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func FuzzMustStaple(f *testing.F) {
	f.Add([]byte{0x30, 3, 2, 1, 5})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, value []byte) {
		if MustStaple(&x509.Certificate{Extensions: feature(value...)}) && len(value) < 5 {
			t.Errorf("%x cannot have a feature", value)
		}
	})
}

func TestDeviations(t *testing.T) {
	const day = 24 * time.Hour
	staple := feature(0x30, 3, 2, 1, 5)
	for _, test := range []struct {
		name       string
		request    OrderRequest
		life       time.Duration
		extensions []pkix.Extension
		want       string
	}{
		{"nothing asked", OrderRequest{}, 90 * day, nil, ""},
		{"must-staple granted", OrderRequest{MustStaple: true}, day, staple, ""},
		{"must-staple dropped", OrderRequest{MustStaple: true}, day, nil, "ignored"},
		{"must-staple unasked", OrderRequest{}, day, staple, "not asked for"},
		{"as long as asked, backdated", OrderRequest{Lifetime: 7 * day}, 7*day + time.Hour, nil, ""},
		{"shorter than asked", OrderRequest{Lifetime: 200 * day}, 90 * day, nil, ""},
		{"longer than asked", OrderRequest{Lifetime: 7 * day}, 90 * day, nil, "lasts 2160h0m0s, longer than the 168h0m0s"},
	} {
		leaf := &x509.Certificate{NotBefore: testNow, NotAfter: testNow.Add(test.life), Extensions: test.extensions}
		got := strings.Join(test.request.Deviations(leaf), "\n")
		if !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestMustStapleAtCAs(t *testing.T) {
	for _, test := range []struct {
		does     string
		policy   acmetest.MustStaple
		granted  bool
		warning  string // while ordering
		finalize int    // requests
	}{
		{"is granted", acmetest.GrantMustStaple, true, "", 1},
		{"is refused, and done without", acmetest.RefuseMustStaple, false, "must-staple, RFC 7633): the csr asks for must-staple (RFC 7633), which is not supported; going on without", 2},
		{"is dropped, and found out", acmetest.DropMustStaple, false, "", 1},
	} {
		t.Run(test.does, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := &acmetest.CA{MustStaple: test.policy}
				defer ca.Close()
				u := newUser(t, ca, "a.example")
				u.want.MustStaple = true
				chain, err := u.attempt(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				leaf := mustParse(t, chain[0])
				if got := MustStaple(leaf); got != test.granted {
					t.Errorf("got must-staple %v, want %v", got, test.granted)
				}
				if got := len(u.request().Deviations(leaf)) == 0; got != test.granted {
					t.Errorf("got deviations %q", u.request().Deviations(leaf))
				}
				if got := strings.Join(u.warnings, "\n"); !strings.Contains(got, test.warning) || (got == "") != (test.warning == "") {
					t.Errorf("got warnings %q, want %q", got, test.warning)
				}
				if got := ca.Requests()["finalize"]; got != test.finalize || len(ca.Orders()) != 1 {
					t.Errorf("got %d finalize requests of %d orders, want %d of 1", got, len(ca.Orders()), test.finalize)
				}
			})
		})
	}
}

func TestABadCSRIsTold(t *testing.T) {
	for name, after := range map[string]string{"for an order that stays ready": StatusReady, "for an order that is spent": StatusInvalid} {
		f := newFakeCA()
		f.mux.HandleFunc("/finalize", answer(400, problemBody("badCSR", "weak key")))
		f.mux.HandleFunc("/order", answer(200, orderBody(after)))
		o := &Order{URL: fakeBase + "/order", Status: StatusReady, Finalize: fakeBase + "/finalize"}
		_, warnings, err := f.session(t).FinalizeFor(t.Context(), o, OrderRequest{Names: []string{"a.example"}, MustStaple: true}, testKey(t, P384))
		if p := wantProblem(t, err); p.Kind() != "badCSR" || warnings != nil {
			t.Errorf("%s: got %q, %v, want badCSR", name, warnings, err)
		}
	}
	f := newFakeCA()
	_, _, err := f.session(t).FinalizeFor(t.Context(), &Order{}, OrderRequest{}, testKey(t, P384))
	wantProblem(t, err)
	wantText(t, err, "without names")
}

func TestManyAndLongNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprintf("%s.n%d.example.com", strings.Repeat("a", 60), i))
		}
		if got := len(strings.Join(names, "")); got < 7<<10 {
			t.Fatalf("the names have %d bytes, want more than 7 KiB", got)
		}
		ca := &acmetest.CA{}
		defer ca.Close()
		u := newUser(t, ca, names...)
		chain, err := u.attempt(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
		}
		if leaf := mustParse(t, chain[0]); len(leaf.DNSNames) != 100 || leaf.Subject.CommonName != "" {
			t.Errorf("got %d names and the common name %q, want 100 and none", len(leaf.DNSNames), leaf.Subject.CommonName)
		}
		u.names, u.order = append(names, "one.example.com"), ""
		_, err = u.attempt(t.Context())
		if p := wantProblem(t, err); p.Kind() != "rejectedIdentifier" || !p.Permanent() {
			t.Errorf("with 101 names: got %v, want what the CA says", err)
		}
	})
}

func TestCertificatesForAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := profiles()
		defer ca.Close()
		u := newUser(t, ca, Identifiers([]string{"a.example", "2001:DB8:0::1", "::ffff:192.0.2.1"})...)
		u.want = OrderRequest{Known: shortLived}
		chain, err := u.attempt(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
		}
		leaf := mustParse(t, chain[0])
		if got, want := fmt.Sprint(leaf.DNSNames, leaf.IPAddresses), "[a.example] [192.0.2.1 2001:db8::1]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := leaf.NotAfter.Sub(leaf.NotBefore); got > 160*time.Hour {
			t.Errorf("got a lifetime of %v, want that of the profile for addresses", got)
		}
		for _, name := range []string{"2001:DB8::0:1", "192.0.2.1", "a.example"} {
			if _, err := CheckChain(chain, u.key, []string{name}, time.Now()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := CheckChain(chain, u.key, []string{"192.0.2.2"}, time.Now()); err == nil {
			t.Error("got no error for an address that is not in it, want one")
		}
		var got []string
		for _, v := range ca.Validations() {
			got = append(got, v.Name+" "+v.Type)
		}
		slices.Sort(got)
		if want := []string{"192.0.2.1 http-01", "2001:db8::1 http-01", "a.example http-01"}; !slices.Equal(got, want) {
			t.Errorf("got validations %q, want %q", got, want)
		}
	})
}

// heldKey is a key that is held elsewhere: it is no pointer, its public key is none either, and nobody gets at the private one.
type heldKey struct {
	inner crypto.Signer
	value bool
}

func (k heldKey) Public() crypto.PublicKey {
	switch pub := k.inner.Public().(type) {
	case *ecdsa.PublicKey:
		if k.value {
			return *pub
		}
	case *rsa.PublicKey:
		if k.value {
			return *pub
		}
	}
	return k.inner.Public()
}

func (k heldKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.inner.Sign(rand, digest, opts)
}

func TestKeysThatAreHeldElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, typ := range []KeyType{P256, RSA2048} {
			ca := &acmetest.CA{RenewalInfo: true}
			u := newUser(t, ca, "a.example")
			u.account, u.key = heldKey{inner: testKey(t, P384)}, heldKey{inner: testKey(t, typ)}
			u.want.Lifetime = time.Hour // newOrder is signed twice
			chain, err := u.attempt(t.Context())
			if err != nil {
				t.Fatalf("%s: %v\n%s", typ, err, strings.Join(ca.Trace(), "\n"))
			}
			for what, key := range map[string]crypto.PublicKey{
				"the signer": u.key, "its public key": u.key.Public(), "a public key that is no pointer": heldKey{testKey(t, typ), true}.Public(),
			} {
				if _, err := CheckChain(chain, key, u.names, time.Now()); err != nil {
					t.Errorf("%s, %s: %v", typ, what, err)
				}
			}
			if _, err := CheckChain(chain, testKey(t, P521), u.names, time.Now()); err == nil {
				t.Errorf("%s: got no error for another signer, want one", typ)
			}
			ca.Close()
		}
	})
}

// TestUnfairCAsAndAllWishes orders with everything that may be refused or ignored.
func TestUnfairCAsAndAllWishes(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	synctest.Test(t, func(t *testing.T) {
		for seed := range seeds {
			faults := acmetest.Everything(0.1)
			faults.Huge = 0
			ca := profiles()
			ca.Seed, ca.Faults, ca.RenewalInfo, ca.Alternates = seed, faults, true, 2
			ca.MustStaple = acmetest.MustStaple(seed % 3)
			u := newUser(t, ca, "a.example", "2001:db8::1", "192.0.2.1")
			u.want = OrderRequest{Known: shortLived, Profile: "tlsserver", MustStaple: true, Lifetime: time.Hour}
			u.root = "acmetest root 2"
			chain, err := u.persist(t.Context(), 60)
			if err != nil {
				t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(ca.Trace(), "\n"))
				ca.Close()
				continue
			}
			trimmed, _ := TrimChain(chain, time.Now())
			if warnings, err := CheckChain(trimmed, u.key, u.names, time.Now()); err != nil || len(warnings) > 0 {
				t.Errorf("seed %d: got %q, %v, want a chain without fault", seed, warnings, err)
			}
			if got := rootOf(trimmed); got != "acmetest root 2" && !slices.ContainsFunc(u.warnings, func(w string) bool { return strings.Contains(w, "no chain leads") }) {
				t.Errorf("seed %d: got a chain to %q without a warning", seed, got)
			}
			ca.Close()
		}
	})
}
