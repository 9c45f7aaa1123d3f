package acmetest

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"

	"golang.org/x/crypto/acme"
)

func TestAccounts(t *testing.T) {
	const terms = "https://acme.test/terms"
	ca := &CA{TermsOfService: terms}
	defer ca.Close()
	w := newWire(t, ca)
	if got := w.dir["meta"].(map[string]any)["termsOfService"]; got != terms {
		t.Errorf("the directory's terms are %v, want %v", got, terms)
	}
	newAccount := func(payload map[string]any) *answer {
		t.Helper()
		return w.post(t, w.url("newAccount"), payload)
	}

	wantProblem(t, newAccount(map[string]any{"onlyReturnExisting": true}), 400, accountDoesNotExist)
	a := newAccount(map[string]any{})
	wantProblem(t, a, 403, userActionRequired)
	if a.doc.Instance != terms || !slices.Contains(a.header.Values("Link"), "<"+terms+`>;rel="terms-of-service"`) {
		t.Errorf("the answer does not point to the terms: instance %q, links %q", a.doc.Instance, a.header.Values("Link"))
	}
	for contact, typ := range map[string]string{
		"tel:+123":                    unsupportedContact,
		"mailto:":                     invalidContact,
		"mailto:a@x.test,b@x.test":    invalidContact,
		"mailto:a@x.test?subject=hey": invalidContact,
		"mailto:Ann <a@x.test>":       invalidContact,
	} {
		wantProblem(t, newAccount(map[string]any{"termsOfServiceAgreed": true, "contact": []string{contact}}), 400, typ)
	}
	if got := len(ca.Accounts()); got != 0 {
		t.Fatalf("refused requests made %d accounts", got)
	}

	contact := []string{"mailto:a@x.test"}
	made := newAccount(map[string]any{"termsOfServiceAgreed": true, "contact": contact})
	if made.status != http.StatusCreated {
		t.Fatalf("newAccount answers %d %s", made.status, made.body)
	}
	for _, payload := range []map[string]any{{}, {"onlyReturnExisting": true}} {
		again := newAccount(payload)
		if again.status != http.StatusOK || again.location() != made.location() {
			t.Errorf("the same key gets %d %s, want 200 %s", again.status, again.location(), made.location())
		}
	}

	w.kid = made.location()
	w.post(t, w.kid, map[string]any{"contact": []string{"mailto:b@x.test"}})
	if got, want := ca.Accounts()[0].Contacts, []string{"mailto:b@x.test"}; !slices.Equal(got, want) {
		t.Errorf("contacts are %q, want %q", got, want)
	}
	wantProblem(t, w.post(t, w.kid, map[string]any{"contact": []string{"fax:1"}}), 400, unsupportedContact)
	wantProblem(t, w.post(t, w.kid, map[string]any{"status": "revoked"}), 400, malformed)
	if a := w.post(t, w.kid, map[string]any{"status": deactivated}); !a.is(deactivated) {
		t.Errorf("after deactivation the account is %v", a.doc.Status)
	}
	wantProblem(t, w.post(t, w.kid, nil), 401, unauthorized)
	w.kid = ""
	wantProblem(t, newAccount(map[string]any{"onlyReturnExisting": true}), 401, unauthorized)
}

func TestOrdersOfAnAccountAreListed(t *testing.T) {
	ca := &CA{LookupTXT: newSite().lookupTXT}
	defer ca.Close()
	w := registered(t, ca)
	want := []string{w.order(t, "a.test").location(), w.order(t, "b.test").location()}
	list := w.post(t, w.kid, nil).doc.Orders.(string)
	var got struct{ Orders []string }
	if err := json.Unmarshal(w.post(t, list, nil).body, &got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Orders, want) {
		t.Errorf("orders are %q, want %q", got.Orders, want)
	}
	other := registered(t, ca)
	wantProblem(t, other.post(t, list, nil), 403, unauthorized)
}

func TestKeyChangeByXCrypto(t *testing.T) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT}
	defer ca.Close()
	old, fresh := ecdsaKey(t), ecdsaKey(t)
	c := newClient(t, ca, ca.Client(), old)
	url := ca.Accounts()[0].URL
	if err := c.AccountKeyRollover(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if got, want := ca.Accounts()[0].Thumbprint, thumbprint(fresh.Public()); got != want {
		t.Errorf("the account's key is %s, want %s", got, want)
	}
	check(t, ca, obtain(t, c, s, typeDNS01, nil, "example.com"), "example.com")
	stale := &acme.Client{Key: old, HTTPClient: ca.Client(), DirectoryURL: ca.DirectoryURL()}
	if _, err := stale.GetReg(t.Context(), ""); !errors.Is(err, acme.ErrNoAccount) {
		t.Errorf("the old key gives %v, want ErrNoAccount", err)
	}
	if got := ca.Accounts(); len(got) != 1 || got[0].URL != url {
		t.Errorf("accounts are %v, want the one at %s", got, url)
	}
}

func TestRefusedKeyChanges(t *testing.T) {
	ca := &CA{}
	defer ca.Close()
	w, other := registered(t, ca), registered(t, ca)
	fresh := ecdsaKey(t)
	url := w.url("keyChange")
	right := func() (header, payload map[string]any) {
		return map[string]any{"alg": "ES256", "url": url, "jwk": jwkOf(fresh)},
			map[string]any{"account": w.kid, "oldKey": jwkOf(w.key)}
	}
	tests := []struct {
		name   string
		change func(header, payload map[string]any)
		status int
	}{
		{"name another account", func(_, p map[string]any) { p["account"] = other.kid }, 400},
		{"name another old key", func(_, p map[string]any) { p["oldKey"] = jwkOf(other.key) }, 400},
		{"name no old key", func(_, p map[string]any) { delete(p, "oldKey") }, 400},
		{"are for another url", func(h, _ map[string]any) { h["url"] = w.kid }, 400},
		{"have an inner nonce", func(h, _ map[string]any) { h["nonce"] = "AAAA" }, 400},
		{"have an inner kid", func(h, _ map[string]any) { h["kid"] = w.kid }, 400},
		{"are not signed by the key they bring", func(h, _ map[string]any) { h["jwk"] = jwkOf(ecdsaKey(t)) }, 400},
		{"bring a broken key", func(h, _ map[string]any) { h["jwk"] = map[string]any{"kty": "EC"} }, 400},
	}
	for _, tt := range tests {
		t.Run("are those that "+tt.name, func(t *testing.T) {
			header, payload := right()
			tt.change(header, payload)
			a := w.post(t, url, signed(fresh, header, payload))
			if a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
	t.Run("are those to the key of an account", func(t *testing.T) {
		header, payload := right()
		header["jwk"] = jwkOf(other.key)
		a := w.post(t, url, signed(other.key, header, payload))
		wantProblem(t, a, http.StatusConflict, malformed)
		if a.location() != other.kid {
			t.Errorf("Location is %q, want %q", a.location(), other.kid)
		}
	})
	header, payload := right()
	if a := w.post(t, url, signed(fresh, header, payload)); a.status != http.StatusOK {
		t.Errorf("a right key change answers %d %s", a.status, a.body)
	}
}

func TestChangedTerms(t *testing.T) {
	const fresh = "https://acme.test/terms-2"
	ca := &CA{TermsOfService: "https://acme.test/terms", HTTPPort: 1}
	defer ca.Close()
	w := registered(t, ca)
	ca.ChangeTerms(fresh)
	a := w.order(t, "a.test")
	wantProblem(t, a, 403, userActionRequired)
	if a.doc.Instance != fresh {
		t.Errorf("the answer points to %q, want %q", a.doc.Instance, fresh)
	}
	w.post(t, w.kid, map[string]any{"termsOfServiceAgreed": true})
	if a := w.order(t, "a.test"); a.status != http.StatusCreated {
		t.Errorf("after agreement newOrder answers %d %s", a.status, a.body)
	}
}

func TestForgottenAccounts(t *testing.T) {
	ca := &CA{HTTPPort: 1}
	defer ca.Close()
	w := registered(t, ca)
	ca.ForgetAccounts()
	wantProblem(t, w.order(t, "a.test"), 400, accountDoesNotExist)
	old := w.kid
	w.kid = ""
	a := w.post(t, w.url("newAccount"), map[string]any{})
	if a.status != http.StatusCreated || a.location() == old {
		t.Errorf("the key gets %d %s, want another account than %s", a.status, a.location(), old)
	}
}
