package acmeclient

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

func TestContactsAreReplaced(t *testing.T) {
	ca := &acmetest.CA{Faults: acmetest.Faults{OddURLs: 1}}
	defer ca.Close()
	s := registered(t, ca)
	for _, test := range []struct{ given, want []string }{
		{[]string{"a@b.example", "mailto:c@d.example"}, []string{"mailto:a@b.example", "mailto:c@d.example"}},
		{[]string{"e@f.example"}, []string{"mailto:e@f.example"}},
		{nil, []string{}},
	} {
		a, err := s.UpdateContacts(t.Context(), test.given)
		if err != nil {
			t.Fatal(err)
		}
		if got := ca.Accounts()[0].Contacts; !slices.Equal(got, test.want) {
			t.Errorf("got contacts %q at the CA, want %q", got, test.want)
		}
		if !slices.Equal(a.Contacts, test.want) || a.URL != ca.Accounts()[0].URL {
			t.Errorf("got %+v, want contacts %q", a, test.want)
		}
	}
	_, err := s.UpdateContacts(t.Context(), []string{"tel:1"})
	if p := wantProblem(t, err); p.Kind() != "unsupportedContact" || !p.Permanent() {
		t.Errorf("got %+v, want unsupportedContact", p)
	}
	_, err = s.client.Session(testKey(t, P256), "").UpdateContacts(t.Context(), nil)
	wantText(t, err, "no account URL")
}

func TestChangedTermsAreTold(t *testing.T) {
	const terms = "https://acme.test/terms-2"
	ca := &acmetest.CA{TermsOfService: "https://acme.test/terms", HTTPPort: 1}
	defer ca.Close()
	s := registered(t, ca)
	ca.ChangeTerms(terms)
	_, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Replaces: "x.y"})
	if p := wantProblem(t, err); p.Kind() != "userActionRequired" || p.Instance != terms || !p.Permanent() {
		t.Errorf("got %+v, want a permanent userActionRequired with %s", p, terms)
	}
	wantText(t, err, "see "+terms)
	if _, err := s.AgreeToTerms(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}}); err != nil {
		t.Errorf("after agreeing: %v", err)
	}

	f := newFakeCA()
	f.mux.HandleFunc("/new-order", answer(403, problemBody("userActionRequired", "terms"), "Link: <"+terms+`>;rel="terms-of-service"`))
	_, err = f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}})
	if p := wantProblem(t, err); p.Instance != terms {
		t.Errorf("without instance: got %+v, want the link", p)
	}
}

func TestClosedAndVanishedAccountsAreRecognised(t *testing.T) {
	ca := &acmetest.CA{HTTPPort: 1}
	defer ca.Close()
	s := registered(t, ca)
	order := func() error {
		_, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}})
		return err
	}
	ca.ForgetAccounts()
	if err := order(); !errors.Is(err, ErrNoAccount) || errors.Is(err, ErrAccountClosed) || wantProblem(t, err).Permanent() {
		t.Errorf("of a vanished account: got %v, want ErrNoAccount", err)
	}
	if _, err := s.client.Lookup(t.Context(), s.key); !errors.Is(err, ErrNoAccount) {
		t.Errorf("looking up a vanished account: got %v, want ErrNoAccount", err)
	}

	s = registered(t, ca)
	for range 2 {
		if err := s.Deactivate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, lookErr := s.client.Lookup(t.Context(), s.key)
	_, registerErr := s.client.Register(t.Context(), s.key, nil, true)
	_, updateErr := s.UpdateContacts(t.Context(), nil)
	for what, err := range map[string]error{"ordering": order(), "looking up": lookErr, "registering": registerErr, "updating": updateErr} {
		if !errors.Is(err, ErrAccountClosed) || errors.Is(err, ErrNoAccount) || !wantProblem(t, err).Permanent() {
			t.Errorf("%s with a closed account: got %v, want a permanent ErrAccountClosed", what, err)
		}
	}
	wantText(t, registerErr, "a new key makes a new account")
	if err := s.client.Session(testKey(t, P256), "").Deactivate(t.Context()); err == nil {
		t.Error("deactivating without account: got no error, want one")
	}
}

func TestWhatIsUnauthorizedIsNotAlwaysTheAccount(t *testing.T) {
	for _, test := range []struct {
		status int
		detail string
		want   bool
	}{
		{401, "", true},
		{403, `Account is not valid, has status "deactivated"`, true},
		{403, "An account with the provided public key exists but is revoked", true},
		{403, "this is the order of another account", false},
		{403, "the authorization is deactivated", false},
		{401, "the external account binding has a wrong signature", false},
		{403, "externalAccountBinding: the account is deactivated", false},
	} {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(test.status, problemBody("unauthorized", test.detail)))
		_, err := f.session(t).Order(t.Context(), fakeBase+"/order")
		if got := errors.Is(err, ErrAccountClosed); got != test.want || wantProblem(t, err).Permanent() != test.want {
			t.Errorf("%d %q: got closed %v, want %v", test.status, test.detail, got, test.want)
		}
	}
}

func TestTheAccountKeyIsChanged(t *testing.T) {
	for _, typ := range []KeyType{P384, P521, RSA2048} {
		ca := &acmetest.CA{HTTPPort: 1}
		s := registered(t, ca)
		fresh := testKey(t, typ)
		if err := s.ChangeKey(t.Context(), fresh); err != nil {
			t.Fatalf("%s: %v\n%s", typ, err, strings.Join(ca.Trace(), "\n"))
		}
		// The session goes on with it, also where requests are signed again.
		if _, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}}); err != nil {
			t.Errorf("%s: ordering: %v", typ, err)
		}
		if _, err := s.UpdateContacts(t.Context(), []string{"a@b.example"}); err != nil {
			t.Errorf("%s: updating: %v", typ, err)
		}
		a, err := s.client.Lookup(t.Context(), fresh)
		if err != nil || a.URL != ca.Accounts()[0].URL || len(ca.Accounts()) != 1 {
			t.Errorf("%s: got %+v, %v, want the account", typ, a, err)
		}
		if _, err := s.client.Lookup(t.Context(), testKey(t, P256)); !errors.Is(err, ErrNoAccount) {
			t.Errorf("%s: with the former key: got %v, want ErrNoAccount", typ, err)
		}
		ca.Close()
	}
}

func TestKeysThatAreNotTaken(t *testing.T) {
	ca := &acmetest.CA{}
	defer ca.Close()
	s := registered(t, ca)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	before := len(ca.Trace())
	wantText(t, s.ChangeKey(t.Context(), edwards), "cannot be an account key")
	wantText(t, s.ChangeKey(t.Context(), s.key), "the account has already")
	if got := len(ca.Trace()); got != before {
		t.Errorf("got %d requests, want none", got-before)
	}
	other := testKey(t, P384)
	if _, err := s.client.Register(t.Context(), other, nil, true); err != nil {
		t.Fatal(err)
	}
	if p := wantProblem(t, s.ChangeKey(t.Context(), other)); p.Status != 409 {
		t.Errorf("with the key of another account: got %+v, want a conflict", p)
	}
	if s.key != testKey(t, P256) {
		t.Error("the session has another key after a refusal")
	}

	f := newFakeCA() // without keyChange
	if err := f.session(t).ChangeKey(t.Context(), other); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
	without := s.client.Session(testKey(t, P256), "")
	wantText(t, without.ChangeKey(t.Context(), testKey(t, P521)), "no account URL")
}

// rollOver changes the key as one does who keeps the candidate first, and may be cut off anywhere. It returns the key that is in use then.
func rollOver(ctx context.Context, c *Client, url string, old, candidate crypto.Signer) (crypto.Signer, error) {
	key, err := c.KeyOf(ctx, url, candidate, old)
	if err != nil || key == candidate {
		return key, err
	}
	if err := c.Session(key, url).ChangeKey(ctx, candidate); err != nil {
		return nil, err
	}
	return candidate, nil
}

// TestAKeyChangeSurvivesEveryFault breaks each request of a change, before and after its effect, and takes it up again with what was kept.
func TestAKeyChangeSurvivesEveryFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, candidate := testKey(t, P256), testKey(t, P384)
		const requests = 4 // one more than it takes
		for n := range requests {
			for _, fault := range []acmetest.Fault{acmetest.FaultBefore, acmetest.FaultAfter, acmetest.Fault500, acmetest.Fault429, acmetest.FaultGarbage, acmetest.FaultBadNonce} {
				broken := 0
				ca := &acmetest.CA{Fault: func(op acmetest.Op) acmetest.Fault {
					if op.Kind != "directory" && op.N == broken {
						return fault
					}
					return acmetest.FaultNone
				}}
				s := registered(t, ca)
				broken = len(ca.Trace()) + 1 + n
				what := fmt.Sprintf("request %d %v", n, fault)
				key, err := rollOver(t.Context(), s.client, s.account, old, candidate)
				if err != nil {
					wantProblem(t, err)
					if key, err = rollOver(t.Context(), s.client, s.account, old, candidate); err != nil {
						t.Errorf("%s: again: %v\n%s", what, err, strings.Join(ca.Trace(), "\n"))
					}
				}
				broken = 0 // what follows only looks
				a, err := s.client.Lookup(t.Context(), candidate)
				if key != candidate || err != nil || a.URL != s.account || len(ca.Accounts()) != 1 {
					t.Errorf("%s: got account %+v, %v, want the one with the candidate\n%s", what, a, err, strings.Join(ca.Trace(), "\n"))
				}
				ca.Close()
			}
		}
	})
}

func TestALostReplyToAKeyChangeIsLookedUp(t *testing.T) {
	ca := &acmetest.CA{Fault: func(op acmetest.Op) acmetest.Fault {
		if op.Kind == "keyChange" {
			return acmetest.FaultAfter
		}
		return acmetest.FaultNone
	}}
	defer ca.Close()
	s := registered(t, ca)
	if err := s.ChangeKey(t.Context(), testKey(t, P384)); err != nil {
		t.Errorf("got %v, want it to be found out\n%s", err, strings.Join(ca.Trace(), "\n"))
	}
	if s.key != testKey(t, P384) {
		t.Error("the session does not go on with the key that the CA has")
	}
}

func TestKeyOfTellsWhatItCannotFind(t *testing.T) {
	ca := &acmetest.CA{}
	defer ca.Close()
	s := registered(t, ca)
	other := testKey(t, P384)
	if _, err := s.client.KeyOf(t.Context(), s.account, other); !errors.Is(err, ErrNoAccount) {
		t.Errorf("got %v, want ErrNoAccount", err)
	}
	if _, err := s.client.Register(t.Context(), other, nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.KeyOf(t.Context(), s.account, other); !errors.Is(err, ErrNoAccount) {
		t.Errorf("with the key of another account: got %v, want ErrNoAccount", err)
	}
	if key, err := s.client.KeyOf(t.Context(), s.account, other, s.key); err != nil || key != s.key {
		t.Errorf("got %v, %v, want the second", key, err)
	}
	if err := s.Deactivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.KeyOf(t.Context(), s.account, s.key, other); !errors.Is(err, ErrAccountClosed) {
		t.Errorf("of a closed account: got %v, want ErrAccountClosed", err)
	}
	ca.SetDown(true)
	if _, err := s.client.KeyOf(t.Context(), s.account, s.key); errors.Is(err, ErrNoAccount) || err == nil {
		t.Errorf("of a CA that is down: got %v, want what is wrong", err)
	}
}
