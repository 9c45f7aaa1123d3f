package acmeclient

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// caClient returns a Client for an acmetest.CA, in process.
func caClient(t testing.TB, ca *acmetest.CA) *Client {
	t.Helper()
	c, err := New(CA{URL: ca.DirectoryURL()}, ca.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRegisterMakesOrFindsTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{TermsOfService: "https://acme.test/terms"}
		defer ca.Close()
		c, key := caClient(t, ca), testKey(t, P256)

		if _, err := c.Lookup(t.Context(), key); !errors.Is(err, ErrNoAccount) {
			t.Errorf("lookup before: got %v, want ErrNoAccount", err)
		} else if p := wantProblem(t, err); p.Permanent() {
			t.Error("lookup before: got permanent, want not")
		}
		if _, err := c.Register(t.Context(), key, nil, false); !errors.Is(err, ErrTerms) || !strings.Contains(err.Error(), "https://acme.test/terms") {
			t.Errorf("without agreeing: got %v, want ErrTerms with the URL", err)
		} else if p := wantProblem(t, err); !p.Permanent() {
			t.Error("without agreeing: got not permanent, want it")
		}
		if got := ca.Requests()["newAccount"]; got != 1 { // the lookup
			t.Errorf("got %d requests, want 1: nothing is sent without agreeing", got)
		}

		first, err := c.Register(t.Context(), key, []string{"a@b.example", "mailto:c@d.example"}, true)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"mailto:a@b.example", "mailto:c@d.example"}; !slices.Equal(first.Contacts, want) || first.URL != ca.Accounts()[0].URL {
			t.Errorf("got %v, want %q and %v", first, ca.Accounts()[0].URL, want)
		}
		again, err := c.Register(t.Context(), key, nil, true)
		if err != nil || again.URL != first.URL || !slices.Equal(again.Contacts, first.Contacts) {
			t.Errorf("registering again: got %v, %v, want %v", again, err, first)
		}
		found, err := c.Lookup(t.Context(), key)
		if err != nil || found.URL != first.URL {
			t.Errorf("lookup: got %v, %v, want %v", found, err, first)
		}
		if got := len(ca.Accounts()); got != 1 {
			t.Errorf("got %d accounts, want 1", got)
		}
	})
}

func TestAnAccountWithoutLocationIsLookedUp(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/account", answers(
		reading{201, `{"status": "valid"}`, nil},
		reading{200, `{"status": "valid", "contact": ["mailto:a@b.example"]}`, []string{"Location: /account/1"}},
	))
	a, err := f.client(t).Register(t.Context(), testKey(t, P256), nil, false)
	if err != nil || a.URL != "https://ca.test/account/1" || len(a.Contacts) != 1 {
		t.Errorf("got %v, %v, want the relative Location as absolute URL", a, err)
	}
}

func TestUnusableAccountsAreRefused(t *testing.T) {
	for _, test := range []struct {
		name      string
		reply     reading
		want      string
		wantIs    error
		permanent bool
	}{
		{"no Location", reading{200, `{"status": "valid"}`, nil}, "does not say the account's URL", nil, false},
		{"a plain http URL", reading{200, `{"status": "valid"}`, []string{"Location: http://ca.test/account/1"}}, "is not https", nil, false},
		{"a very long URL", reading{200, `{"status": "valid"}`, []string{"Location: https://ca.test/" + strings.Repeat("a", maxURL)}}, "does not say", nil, false},
		{"a deactivated account", reading{200, `{"status": "deactivated"}`, []string{"Location: https://ca.test/account/1"}}, "a new key", ErrAccountClosed, true},
		{"a revoked account", reading{200, `{"status": "revoked"}`, []string{"Location: https://ca.test/account/1"}}, "revoked", ErrAccountClosed, true},
		{"garbage", reading{200, `<html>`, []string{"Location: https://ca.test/account/1"}}, "not JSON", nil, false},
		{"a lost reply", reading{}, errLost.Error(), errLost, false},
		{"a refusal", reading{403, problemBody("externalAccountRequired", "sign up first"), nil}, "sign up first", nil, true},
		{"no such account", reading{400, problemBody("AccountDoesNotExist", "who?"), nil}, "who?", ErrNoAccount, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeCA()
			f.mux.HandleFunc("/account", answers(test.reply))
			_, err := f.client(t).Lookup(t.Context(), testKey(t, P256))
			wantText(t, err, test.want)
			if test.wantIs != nil && !errors.Is(err, test.wantIs) {
				t.Errorf("got %v, want one that wraps %v", err, test.wantIs)
			}
			if got := wantProblem(t, err).Permanent(); got != test.permanent {
				t.Errorf("got permanent %v, want %v", got, test.permanent)
			}
		})
	}
}

func TestRegisterPassesOnWhatTheCARefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/account", answer(http.StatusBadRequest, problemBody("invalidContact", "no such mailbox")))
		_, err := f.client(t).Register(t.Context(), testKey(t, P256), []string{"x@y.example"}, true)
		if p := wantProblem(t, err); !p.Permanent() || p.Kind() != "invalidContact" || p.Op != "register an account" {
			t.Errorf("got %+v, want invalidContact", p)
		}
		f = newFakeCA()
		f.mux.HandleFunc("/dir", answer(500, ""))
		c, err := New(CA{URL: fakeBase + "/dir"}, &http.Client{Transport: f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Register(t.Context(), testKey(t, P256), nil, true)
		if p := wantProblem(t, err); p.Status != 500 {
			t.Errorf("got %+v, want status 500", p)
		}
	})
}

func TestASessionWithoutAccountAsksNothing(t *testing.T) {
	f := newFakeCA()
	s := f.client(t).Session(testKey(t, P256), "")
	_, err := s.Order(t.Context(), fakeBase+"/order")
	wantText(t, err, "no account URL")
	_, err = s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}})
	wantText(t, err, "no account URL")
	if got := strings.Join(f.trace(), " "); got != "GET /directory" {
		t.Errorf("got requests %q, want at most the directory", got)
	}
}
