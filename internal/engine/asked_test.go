package engine

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// fakeCA answers each path with what is left for it, the last again and again;
// it has a directory, and knows nothing else.
type fakeCA map[string][]string

const fakeDirectory = `{"newNonce": "https://ca.test/nonce", "newAccount": "https://ca.test/account",
	"newOrder": "https://ca.test/new-order", "renewalInfo": "https://ca.test/ari"}`

func (f fakeCA) RoundTrip(r *http.Request) (*http.Response, error) {
	reply := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r, Header: http.Header{
			"Replay-Nonce": {"nonce"}, "Location": {r.URL.String() + "/1"}, "Content-Type": {"application/json"},
		}}, nil
	}
	if r.URL.Path == "/" || r.URL.Path == "" {
		return reply(http.StatusOK, fakeDirectory)
	}
	if r.URL.Path == "/nonce" {
		return reply(http.StatusOK, "")
	}
	left := f[r.URL.Path]
	if len(left) == 0 {
		return reply(http.StatusNotFound, `{"type": "urn:ietf:params:acme:error:malformed"}`)
	}
	if len(left) > 1 {
		f[r.URL.Path] = left[1:]
	}
	if kind, refused := strings.CutPrefix(left[0], "!"); refused {
		return reply(http.StatusBadRequest, fmt.Sprintf(`{"type": "urn:ietf:params:acme:error:%s"}`, kind))
	}
	return reply(http.StatusOK, left[0])
}

// asks returns an attempt that asks a CA, and what issues for it.
func asks(t *testing.T, f fakeCA) *acmeIssuer {
	t.Helper()
	a := newAttempt()
	a.e.cfg.HTTPClient = &http.Client{Transport: f}
	a.ca = a.def.CAs[0]
	a.ca.Limits.Failures = acmeclient.Rate{Count: 5, Per: time.Hour}
	is := &acmeIssuer{attempt: a, spent: make(map[string]bool)}
	client, err := a.e.client(a.ca)
	if err != nil {
		t.Fatal(err)
	}
	is.account = knownAccount{key: newTestKey(t), url: "https://ca.test/account/1"}
	is.session = client.Session(is.account.key, is.account.url)
	return is
}

func newTestKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := accountKeyType.Generate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// limitAt is what the ledger of a CA has of a name.
func (a *attempt) limitAt(t *testing.T, ca acmeclient.CA, name string) record.Limit {
	t.Helper()
	ref := refOf(ca)
	limit, _, err := a.e.records.Limit(t.Context(), ref.ca, ref.id, name)
	if err != nil {
		t.Fatal(err)
	}
	return limit
}

// wantFailures checks how many failed validations of example.com are counted.
func (a *attempt) wantFailures(t *testing.T, want int) {
	t.Helper()
	left := time.Until(a.limitAt(t, a.ca, "example.com").Failures) // 12 minutes each
	if got := int(max(left+time.Minute, 0) / (12 * time.Minute)); got != want {
		t.Errorf("%d failed validations are counted, want %d", got, want)
	}
}

const invalidAuthorization = `{"status": "invalid", "identifier": {"type": "dns", "value": "example.com"},
	"challenges": [{"type": "http-01", "url": "https://ca.test/challenge", "status": "invalid", "token": "t"}]}`

// A validation that has failed while nobody was there counts at the CA: so it
// counts here, and once.
func TestFailuresThatNobodySaw(t *testing.T) {
	t.Run("an authorization of an order that is still pending", func(t *testing.T) {
		is := asks(t, fakeCA{"/authz": {invalidAuthorization}})
		order := &acmeclient.Order{URL: "https://ca.test/order", Authorizations: []string{"https://ca.test/authz"}}
		for range 3 { // as often as no other order can be made
			if _, err := is.pending(t.Context(), order); !errors.Is(err, errSpent) {
				t.Errorf("pending = %v, want that the order is spent", err)
			}
		}
		is.wantFailures(t, 1)
	})
	t.Run("an authorization that was pending when the order could not be looked at", func(t *testing.T) {
		is := asks(t, fakeCA{"/authz": {strings.ReplaceAll(invalidAuthorization, "invalid", "pending"), invalidAuthorization}})
		order := &acmeclient.Order{URL: "https://ca.test/order", Authorizations: []string{"https://ca.test/authz"}}
		proofs := []*proof{{authz: &acmeclient.Authorization{URL: "https://ca.test/authz", Name: "example.com"}, choices: make([]choice, 1)}}
		busy := &acmeclient.Problem{Status: http.StatusTooManyRequests}
		if err := is.whyNotReady(t.Context(), proofs, busy); !errors.Is(err, busy) {
			t.Errorf("whyNotReady = %v, want what the CA said", err)
		}
		is.wantFailures(t, 0)
		if _, err := is.pending(t.Context(), order); !errors.Is(err, errSpent) {
			t.Errorf("pending = %v, want that the order is spent", err)
		}
		is.wantFailures(t, 1)
	})
	t.Run("an order that has become invalid", func(t *testing.T) {
		is := asks(t, fakeCA{"/authz": {invalidAuthorization}, "/order/P-256": {`{"status": "invalid",
			"identifiers": [{"type": "dns", "value": "example.com"}], "authorizations": ["https://ca.test/authz"],
			"finalize": "https://ca.test/finalize"}`}})
		c := ordered(t, "P-256")
		c.CA, c.Account = is.ca.URL, is.account.url
		is.stages(t, one(c))
		for range 3 { // as often as no other order can be made
			if _, order, err := is.resume(t.Context(), "P-256"); order != nil || err != nil {
				t.Errorf("resume = %v, %v, want no order", order, err)
			}
		}
		is.wantFailures(t, 1)
	})
}

// What a CA's test endpoint says of its limits holds for the test endpoint.
func TestLimitsOfARehearsal(t *testing.T) {
	is := asks(t, nil)
	test := acmeclient.CA{URL: "https://staging.test"}
	limited := &acmeclient.Problem{Status: http.StatusTooManyRequests, Type: "urn:ietf:params:acme:error:rateLimited",
		Detail: "too many new orders", RetryAt: time.Now().Add(2 * time.Hour)}
	is.fail(t.Context(), &rehearsalError{ca: test, err: limited}, time.Now())
	for _, name := range []string{record.AccountLimit, "example.com"} {
		if limit := is.limitAt(t, is.ca, name); limit != (record.Limit{}) {
			t.Errorf("the CA itself is blocked for %s: %v", name, limit)
		}
	}
	err := blockedAt(t.Context(), is, test)
	if !errors.As(err, new(*blockedError)) {
		t.Errorf("open = %v, want that the test endpoint is blocked", err)
	}
}

func blockedAt(ctx context.Context, is *acmeIssuer, ca acmeclient.CA) error {
	_, err := is.ledger(ca).open(ctx, is.def.Names, false)
	return err
}

// What a former CA has issued is used only if it is what is wanted, and for the
// key that there is.
func TestFormerCertificatesAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(is *acmeIssuer, c *record.Credential){
		"it lacks a name":       func(is *acmeIssuer, _ *record.Credential) { is.def.Names = append(is.def.Names, "www.example.com") },
		"it is for another key": func(_ *acmeIssuer, c *record.Credential) { c.Key = ordered(t, "P-256").Key },
		"":                      func(*acmeIssuer, *record.Credential) {},
	} {
		former, _ := newSet(t, 80*24*time.Hour)
		former.Credentials[0].Order = "https://former.test/order"
		is := asks(t, nil)
		spoil(is, &former.Credentials[0])
		is.stages(t, former)
		_, ok, err := is.giveUp(t.Context(), "P-256")
		if want := name == ""; ok != want || err != nil {
			t.Errorf("%s: giveUp = %v, %v, want %v", name, ok, err, want)
		}
		if !ok {
			is.wantArchived(t, former)
		}
	}
}

// A CA that knows an account by the key that was to be its next one is asked
// with that from then on: the former key opens nothing any more.
func TestLookUpTakesTheKeyThatTheCAKnows(t *testing.T) {
	is := asks(t, fakeCA{"/account": {"!accountDoesNotExist", `{"status": "valid"}`}})
	a, err := record.NewAccount(newTestKey(t))
	if err != nil {
		t.Fatal(err)
	}
	next := newTestKey(t)
	if err := a.SetCandidate(next); err != nil {
		t.Fatal(err)
	}
	client, err := is.e.client(is.ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := is.e.lookUp(t.Context(), client, a); err != nil || a.URL != "https://ca.test/account/1" {
		t.Fatalf("lookUp = %v, and the account is %q", err, a.URL)
	}
	if key, err := a.Signer(); err != nil || !sameKey(key, next) || a.Candidate != nil {
		t.Errorf("the account keeps its former key (%v)", err)
	}
}

// Errors in a row have a CA asked less often for its renewal information: they
// are in a row no more when it has answered.
func TestRenewalInformationAfterErrors(t *testing.T) {
	is := asks(t, fakeCA{})
	set, id := newSet(t, 80*24*time.Hour)
	c := certificatesOf(set)[0]
	now := time.Now()
	is.ca.URL = is.def.CAs[0].URL
	info := is.renewalInfo(t.Context(), c, record.RenewalInfo{Errors: 4}, now)
	if info.Errors != 5 {
		t.Errorf("%d errors in a row, want 5", info.Errors)
	}
	is.e.cfg.HTTPClient.Transport.(fakeCA)["/ari/"+id] = []string{fmt.Sprintf(
		`{"suggestedWindow": {"start": %q, "end": %q}}`, now.Add(time.Hour).Format(time.RFC3339), now.Add(48*time.Hour).Format(time.RFC3339))}
	if info = is.renewalInfo(t.Context(), c, info, now); info.Errors != 0 || info.At.IsZero() {
		t.Errorf("%d errors in a row, and %v is drawn, want none and a moment", info.Errors, info.At)
	}
}
