package acmeclient

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

func TestRevoke(t *testing.T) {
	for _, typ := range []KeyType{P256, P384, P521, RSA2048} {
		t.Run("with an account key "+string(typ), func(t *testing.T) {
			revokeAtAcmetest(t, typ, P256, func(ctx context.Context, u *user, der []byte, reason Reason) error {
				return u.client.Session(u.account, u.url).Revoke(ctx, der, reason)
			})
		})
		t.Run("with the certificate's key "+string(typ), func(t *testing.T) {
			revokeAtAcmetest(t, P256, typ, func(ctx context.Context, u *user, der []byte, reason Reason) error {
				return u.client.RevokeWithKey(ctx, u.key, der, reason)
			})
		})
	}
}

func revokeAtAcmetest(t *testing.T, account, key KeyType, revoke func(context.Context, *user, []byte, Reason) error) {
	t.Helper()
	if account == key {
		key = P384 // no CA takes an account's key for a certificate
	}
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{}
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		u.account, u.key = testKey(t, account), testKey(t, key)
		chain, err := u.attempt(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds it revoked
			if err := revoke(t.Context(), u, chain[0], Superseded); err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
			}
		}
		if c := ca.Certificates()[0]; c.Revoked.IsZero() || c.Reason != int(Superseded) {
			t.Errorf("got it revoked at %v with reason %d, want reason %d", c.Revoked, c.Reason, Superseded)
		}
		if got, want := ca.Requests()["revoke"], 2; got != want {
			t.Errorf("got %d requests, want %d", got, want)
		}
	})
}

func TestRevokeSurvivesALostReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{Fault: func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "revoke" && op.Nth == 1 {
				return acmetest.FaultAfter
			}
			return acmetest.FaultNone
		}}
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		chain, err := u.attempt(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := u.client.Session(u.account, u.url)
		if err := s.Revoke(t.Context(), chain[0], Unspecified); err == nil {
			t.Error("got no error for a lost reply")
		}
		if err := s.Revoke(t.Context(), chain[0], Unspecified); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

func TestRevokeRefusesWhatNoCAWouldTake(t *testing.T) {
	ca := &acmetest.CA{}
	defer ca.Close()
	u := newUser(t, ca, "a.example")
	chain, err := u.attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := u.client.Session(u.account, u.url)
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"a reason of a CA", s.Revoke(t.Context(), chain[0], 9), "the revocation reason 9 cannot be given"},
		{"a reason below zero", s.Revoke(t.Context(), chain[0], -1), "cannot be given"},
		{"no certificate", s.Revoke(t.Context(), nil, 0), "not a certificate in DER"},
		{"garbage", u.client.RevokeWithKey(t.Context(), u.key, []byte("x"), 0), "not a certificate in DER"},
		{"another key", u.client.RevokeWithKey(t.Context(), testKey(t, P256), chain[0], 0), "the key is not the one of the certificate"},
		{"no account", u.client.Session(u.account, "").Revoke(t.Context(), chain[0], 0), "no account URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantProblem(t, test.err)
			wantText(t, test.err, "cannot revoke the certificate")
			wantText(t, test.err, test.want)
		})
	}
	if got := ca.Requests()["revoke"]; got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
}

func TestRevokeTellsTheCAsRefusal(t *testing.T) {
	leaf := issuedFor(t, testKey(t, P384))
	f := newFakeCA()
	f.mux.HandleFunc("/directory2", answer(200, strings.Replace(fakeDirectory, `"newOrder"`, `"revokeCert": "https://ca.test/revoke", "newOrder"`, 1)))
	var sent string
	f.mux.HandleFunc("/revoke", func(w http.ResponseWriter, r *http.Request) {
		sent = payload(t, r)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, problemBody("unauthorized", "not yours"))
	})
	c, err := New(CA{URL: fakeBase + "/directory2"}, &http.Client{Transport: f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = c.RevokeWithKey(t.Context(), testKey(t, P384), leaf, KeyCompromise)
	wantText(t, err, "unauthorized: not yours")
	if !strings.Contains(sent, `"reason":1`) {
		t.Errorf("got request %s, want reason 1", sent)
	}
	err = f.session(t).Revoke(t.Context(), leaf, KeyCompromise)
	wantText(t, err, "no URL for it (revokeCert, RFC 8555 §7.1.1)")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.RevokeWithKey(ctx, testKey(t, P384), leaf, KeyCompromise); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

func issuedFor(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	ca := &acmetest.CA{}
	defer ca.Close()
	u := newUser(t, ca, "a.example")
	u.key = key
	chain, err := u.attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

func TestReasons(t *testing.T) {
	for reason, want := range map[Reason]string{
		Unspecified: "unspecified", KeyCompromise: "keyCompromise", AffiliationChanged: "affiliationChanged",
		Superseded: "superseded", CessationOfOperation: "cessationOfOperation",
	} {
		if got := reason.String(); got != want || reason.Check() != nil {
			t.Errorf("got %s, %v, want %s", got, reason.Check(), want)
		}
	}
	for _, reason := range []Reason{-1, 2, 6, 7, 8, 9, 10, 11} {
		if reason.Check() == nil || !strings.HasPrefix(reason.String(), "Reason(") {
			t.Errorf("%d is taken for a reason: %v", int(reason), reason)
		}
	}
}
