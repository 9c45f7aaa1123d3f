package acmeclient

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

const bindingSecret = "0123456789abcdef0123456789abcdef"

// bindingCA wants external accounts, each for one use.
func bindingCA() *acmetest.CA {
	return &acmetest.CA{ExternalAccounts: map[string][]byte{"kid-1": []byte(bindingSecret)}, ExternalAccountsOnce: true}
}

func binding(kid, secret string) EAB {
	return EAB{KeyID: kid, HMAC: NewSecret(base64.RawURLEncoding.EncodeToString([]byte(secret)))}
}

func boundClient(t testing.TB, ca *acmetest.CA, eab EAB) *Client {
	t.Helper()
	c, err := New(CA{URL: ca.DirectoryURL(), EAB: eab}, ca.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnExternalAccountIsNotUsedTwice(t *testing.T) {
	ca := bindingCA()
	defer ca.Close()
	ca.Fault = func(op acmetest.Op) acmetest.Fault {
		if op.Kind == "newAccount" && op.Nth == 1 {
			return acmetest.FaultAfter // the account is made, and nobody is told
		}
		return acmetest.FaultNone
	}
	c, key := boundClient(t, ca, binding("kid-1", bindingSecret)), testKey(t, P256)
	if _, err := c.Register(t.Context(), key, nil, true); err == nil {
		t.Fatal("got no error from a lost reply, want one")
	}
	found, err := c.Lookup(t.Context(), key)
	if err != nil || len(ca.Accounts()) != 1 || ca.Accounts()[0].External != "kid-1" {
		t.Fatalf("got %v, %v, want the account of kid-1", found, err)
	}
	again, err := c.Register(t.Context(), key, nil, true)
	if err != nil || again.URL != found.URL {
		t.Errorf("the same key: got %v, %v, want %v", again, err, found)
	}
	_, err = c.Register(t.Context(), testKey(t, P384), nil, true)
	if p := wantProblem(t, err); p.Kind() != "unauthorized" || errors.Is(err, ErrAccountClosed) {
		t.Errorf("another key: got %v, want that the external account has been used", err)
	}
}

func TestExternalAccountsThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		eab  EAB
		want string
	}{
		"none":              {EAB{}, "externalAccountRequired"},
		"a wrong key":       {binding("kid-1", bindingSecret+"x"), "has a wrong signature"},
		"an unknown one":    {binding("kid-2", bindingSecret), `no external account "kid-2"`},
		"one still in file": {EAB{File: "eab.json"}, "has not been read"},
	} {
		t.Run(name, func(t *testing.T) {
			ca := bindingCA()
			defer ca.Close()
			_, err := boundClient(t, ca, test.eab).Register(t.Context(), testKey(t, P256), nil, true)
			wantProblem(t, err)
			wantText(t, err, test.want)
			if errors.Is(err, ErrAccountClosed) || strings.Contains(err.Error(), test.eab.HMAC.Reveal()) && !test.eab.HMAC.IsZero() {
				t.Errorf("got %v, want nothing about a closed account, and no secret", err)
			}
		})
	}
}

func TestUnauthorizedIsAboutTheBindingIfThereIsOne(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/account", answer(401, problemBody("unauthorized", "")))
	c, err := New(CA{URL: fakeBase + "/directory", EAB: binding("kid-1", bindingSecret)}, &http.Client{Transport: f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Register(t.Context(), testKey(t, P256), nil, true); errors.Is(err, ErrAccountClosed) {
		t.Errorf("got %v, want nothing about a closed account", err)
	}
	if _, err := c.Lookup(t.Context(), testKey(t, P256)); !errors.Is(err, ErrAccountClosed) {
		t.Errorf("looking up, without binding: got %v, want ErrAccountClosed", err)
	}
}
