package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// macKey is the key of the external account kid.
func macKey(kid string) []byte { return []byte(kid + strings.Repeat("-", 32)) }

// binds makes the world's CA one where each account needs an external account
// of those, and each of those is good for one account.
func (w *world) binds(kids ...string) {
	w.ca.ExternalAccountsOnce = true
	w.ca.ExternalAccounts = make(map[string][]byte)
	for _, kid := range kids {
		w.ca.ExternalAccounts[kid] = macKey(kid)
	}
}

// boundTo is the world's CA with an external account.
func boundTo(kid string) md.CA {
	hmac := base64.RawURLEncoding.EncodeToString(macKey(kid))
	return md.CA{URL: "https://acme.test/directory", EAB: md.EAB{KeyID: kid, HMAC: md.NewSecret(hmac)}}
}

// boundDomain is a Domain at the world's CA with an external account.
func boundDomain(kid string, names ...string) md.Domain {
	return md.Domain{Names: names, CAs: []md.CA{boundTo(kid)}}
}

// renewed has a node renew a Domain, and fails if it cannot.
func (n *node) renewed(name string) {
	n.w.t.Helper()
	if err := n.m.Renew(context.Background(), name); err != nil {
		n.w.t.Fatalf("Renew of %s: %v", name, err)
	}
}

// externals are the external accounts that have an account each, oldest first.
func (w *world) externals() []string {
	var kids []string
	for _, a := range w.ca.Accounts() {
		kids = append(kids, a.External)
	}
	return kids
}

// Each operation of the first order at a CA whose external accounts are good
// for one account is broken: before and after its effect, with and without a
// crash. No external account is wasted: there is one account in the end, and
// since it is there, nobody has tried to bind another.
func TestFirstOrderWithAnExternalAccountBroken(t *testing.T) {
	var current *world
	o := ordeal{
		domain: boundDomain("one", "example.com"), certs: 1,
		before: func(w *world, _ func() *node) { current = w; w.binds("one") },
		manage: func(m *md.Manager) { m.HTTPClient = current.bindsOnce(m.HTTPClient) },
	}
	var storeOps, caOps int
	synctest.Test(t, func(t *testing.T) { storeOps, caOps = o.endure(t, breakage{}) })
	for _, crash := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			for n := 1; n <= min(storeOps, 30); n++ {
				o.breaks(t, breakage{"store", n, after, crash})
			}
			for n := 1; n <= caOps; n++ {
				o.breaks(t, breakage{"CA", n, after, crash})
			}
		}
	}
}

// bindsOnce is the way to a CA where an external account is used up by the
// first account, and that is told before anything else is looked at.
func (w *world) bindsOnce(base *http.Client) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			var jws struct{ Payload string }
			_ = json.Unmarshal(body, &jws)
			payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
			if bytes.Contains(payload, []byte("externalAccountBinding")) && len(w.ca.Accounts()) > 0 {
				w.t.Error("an external account was to be bound again")
			}
		}
		return base.Transport.RoundTrip(r)
	})}
}

func TestAccountsByExternalAccount(t *testing.T) {
	t.Run("are shared by Domains with the same, and differ for others", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.binds("one", "two")
			n := w.start(w.manager(boundDomain("one", "a.example"), boundDomain("two", "b.example"), boundDomain("one", "c.example")))
			n.ready(time.Minute)
			n.stopped()
			if got := w.externals(); len(got) != 2 || !slices.Contains(got, "one") || !slices.Contains(got, "two") {
				t.Errorf("the accounts are of %q, want one each of one and two", got)
			}
			if got := w.keys("accounts/"); len(got) != 2 {
				t.Errorf("the Store has the accounts %q, want two", got)
			}
		})
	})
	t.Run("are found again when the former external account comes back", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.binds("one", "two")
			for i, kid := range []string{"one", "two", "one", "two"} {
				n := w.start(w.manager(boundDomain(kid, "example.com")))
				n.ready(time.Minute)
				if i > 0 {
					time.Sleep(day) // certificates are not ordered too often
					n.renewed("example.com")
				}
				n.stopped()
			}
			if got := w.externals(); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("the accounts are of %q, want one and two", got)
			}
			byAccount := make(map[string]int)
			for _, o := range w.ca.Orders() {
				byAccount[o.Account]++
			}
			if len(byAccount) != 2 {
				t.Errorf("orders by account: %v, want some by each of two", byAccount)
			}
		})
	})
	t.Run("have limits of their own", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.binds("one", "two")
			var first atomic.Bool
			w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
				if op.Kind == "newOrder" && !first.Swap(true) {
					return acmetest.Fault429
				}
				return acmetest.FaultNone
			}
			n := w.start(w.manager(boundDomain("one", "a.example")))
			time.Sleep(time.Minute)
			if err := n.m.Update(context.Background(), []md.Domain{boundDomain("one", "a.example"), boundDomain("two", "b.example")}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := n.m.Ready(ctx, "b.example"); err != nil {
				t.Errorf("the Domain with the other account: %v", err)
			}
			if state := n.report("a.example").State; state == status.Good {
				t.Errorf("the Domain whose account is limited is %v", state)
			}
			n.stopped()
		})
	})
	t.Run("are registered with the EAB of a file that comes late, and not before", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.binds("one")
			file := filepath.Join(t.TempDir(), "eab.json")
			d := md.Domain{Names: []string{"example.com"}, CAs: []md.CA{{URL: "https://acme.test/directory", EAB: md.EAB{File: file}}}}
			n := w.start(w.manager(d))
			time.Sleep(time.Minute)
			if r := n.report("example.com").Renewal; r == nil || !strings.Contains(r.LastError, "EAB file") {
				t.Errorf("the status does not tell of the file: %+v", r)
			}
			if got := w.ca.Requests()["newAccount"]; got != 0 {
				t.Errorf("%d requests for an account without the EAB, want none", got)
			}
			text := fmt.Sprintf(`{"kid": "one", "hmac": %q}`, base64.StdEncoding.EncodeToString(macKey("one")))
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			n.ready(day)
			n.stopped()
			if got := w.externals(); !slices.Equal(got, []string{"one"}) {
				t.Errorf("the accounts are of %q, want one", got)
			}
		})
	})
	t.Run("go on when a wrong HMAC is mended", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.binds("one")
			wrong := boundDomain("one", "example.com")
			wrong.CAs[0].EAB.HMAC = md.NewSecret(base64.StdEncoding.EncodeToString(macKey("another")))
			n := w.start(w.manager(wrong))
			time.Sleep(time.Minute)
			if got := len(w.ca.Accounts()); got != 0 {
				t.Errorf("%d accounts with a wrong HMAC", got)
			}
			if err := n.m.Update(context.Background(), []md.Domain{boundDomain("one", "example.com")}); err != nil {
				t.Fatal(err)
			}
			n.ready(time.Minute) // without waiting for the back-off
			n.stopped()
			if got := w.keys("accounts/"); len(got) != 1 {
				t.Errorf("the Store has the accounts %q, want one", got)
			}
		})
	})
}

// An AccountKey is used, and never written.
func TestAccountKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.binds("one")
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d := boundDomain("one", "example.com")
		d.CAs[0].AccountKey = key
		for range 2 {
			n := w.start(w.manager(d))
			n.ready(time.Minute)
			time.Sleep(day)
			n.renewed("example.com")
			if _, err := n.m.ExportAccount(context.Background(), d.CAs[0]); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("ExportAccount: got error %v, want ErrUnsupported", err)
			}
			if err := n.m.RollAccountKey(context.Background(), d.CAs[0]); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("RollAccountKey: got error %v, want ErrUnsupported", err)
			}
			n.stopped()
			time.Sleep(day)
		}
		if got := w.ca.Accounts(); len(got) != 1 {
			t.Errorf("the CA has the accounts %+v, want one", got)
		}
		if got := w.keys("accounts/"); len(got) != 1 {
			t.Errorf("the Store has the accounts %q, want one", got)
		}
		for _, name := range w.keys("accounts/") {
			value, _, err := w.store.Get(context.Background(), name)
			if err != nil || bytes.Contains(value, []byte("PRIVATE KEY")) {
				t.Errorf("%s: %v, or it has a private key", name, err)
			}
		}
	})
}

// What a former account has ordered is revoked with that account, whatever the
// Domain orders with by now; or with its own key, if the account is gone.
func TestRevokingWhatAFormerAccountHasOrdered(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyed := boundDomain("two", "example.com")
	keyed.CAs[0].AccountKey = key
	for _, test := range []struct {
		name          string
		former, other md.Domain
		deactivate    bool
	}{
		{"of another external account", boundDomain("one", "example.com"), boundDomain("two", "example.com"), false},
		{"before there was an AccountKey", boundDomain("one", "example.com"), keyed, false},
		{"with an AccountKey that is gone", keyed, boundDomain("one", "example.com"), false},
		{"and was deactivated", boundDomain("one", "example.com"), boundDomain("two", "example.com"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.binds("one", "two")
				n := w.start(w.manager(test.former))
				n.ready(time.Minute)
				n.stopped()
				time.Sleep(day)
				n = w.start(w.manager(test.other))
				if test.deactivate {
					if err := n.m.DeactivateAccount(context.Background(), test.former.CAs[0]); err != nil {
						t.Fatal(err)
					}
				}
				if err := n.m.Revoke(context.Background(), "example.com", md.Superseded); err != nil {
					t.Errorf("Revoke: %v", err)
				}
				n.stopped()
				if got := w.ca.Certificates(); len(got) != 2 || got[0].Revoked.IsZero() || !got[1].Revoked.IsZero() {
					t.Errorf("%d certificates, want two of which the first is revoked", len(got))
				}
				if got := len(w.ca.Accounts()); got != 2 {
					t.Errorf("%d accounts, want 2", got)
				}
			})
		})
	}
}

func TestAccountKeyOfAClosedAccount(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ca := md.CA{URL: w.ca.DirectoryURL(), AccountKey: key}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, CAs: []md.CA{ca}}))
		n.ready(time.Minute)
		if err := n.m.DeactivateAccount(context.Background(), ca); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		err = n.m.Renew(context.Background(), "example.com")
		if err == nil || !strings.Contains(err.Error(), "needs another AccountKey") {
			t.Errorf("Renew: got error %v, want one that asks for another AccountKey", err)
		}
		n.stopped()
	})
}

// A Store that loses the account while a process runs is given it again: the
// external account is used up.
func TestLostAccountIsPutBack(t *testing.T) {
	for what, lose := range map[string]func(w *world){
		"is gone": func(w *world) { w.wipe("accounts/") },
		"is broken": func(w *world) {
			for _, key := range w.keys("accounts/") {
				if _, err := w.store.Put(context.Background(), key, []byte("junk"), store.Any); err != nil {
					w.t.Fatal(err)
				}
			}
		},
	} {
		t.Run("that "+what, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.binds("one")
				n := w.start(w.manager(boundDomain("one", "example.com")))
				n.ready(time.Minute)
				time.Sleep(day)
				lose(w)
				n.renewed("example.com")
				if _, err := w.manager().ExportAccount(context.Background(), boundTo("one")); err != nil {
					t.Errorf("ExportAccount by another process: %v", err)
				}
				n.stopped()
			})
		})
	}
}

func TestContacts(t *testing.T) {
	contact := func(name, address string) md.Domain {
		return md.Domain{Names: []string{name}, Contacts: []string{address}}
	}
	told := func(w *world) []string { return w.ca.Accounts()[0].Contacts }
	t.Run("are those of the first Domain, and told when they change", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			n := w.start(w.manager(md.Domain{Names: []string{"a.example"}}, contact("c.example", "c@example.com"), contact("b.example", "b@example.com")))
			n.ready(time.Minute)
			if got := told(w); !slices.Equal(got, []string{"mailto:b@example.com"}) {
				t.Errorf("the CA was told %q, want those of b.example", got)
			}
			time.Sleep(day)
			if err := n.m.Update(context.Background(), []md.Domain{contact("b.example", "new@example.com"), contact("c.example", "c@example.com")}); err != nil {
				t.Fatal(err)
			}
			n.renewed("c.example")
			n.renewed("b.example")
			if got := told(w); !slices.Equal(got, []string{"mailto:new@example.com"}) {
				t.Errorf("the CA was told %q, want the other address", got)
			}
			if got := w.ca.Requests()["account"]; got != 1 {
				t.Errorf("it was told %d times, want once", got)
			}
			n.stopped()
		})
	})
	t.Run("that cannot be told do not keep a certificate from being had", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			refused := on()
			w.ca.Fault = faultOn("account", acmetest.Fault500, refused)
			n := w.start(w.manager(contact("example.com", "a@example.com")))
			n.ready(time.Minute)
			time.Sleep(day)
			if err := n.m.Update(context.Background(), []md.Domain{contact("example.com", "b@example.com"), {Names: []string{"b.example"}}}); err != nil {
				t.Fatal(err)
			}
			n.ready(time.Minute)
			n.renewed("example.com") // within an hour: the CA is left alone
			if got := w.ca.Requests()["account"]; got != 1 {
				t.Errorf("it was told %d times within an hour, want once", got)
			}
			refused.Store(false)
			time.Sleep(day)
			n.renewed("example.com")
			if got := told(w); !slices.Equal(got, []string{"mailto:b@example.com"}) {
				t.Errorf("the CA was told %q, want the other address", got)
			}
			n.stopped()
		})
	})
}

func TestChangedTerms(t *testing.T) {
	const former, terms = "https://acme.test/terms/1", "https://acme.test/terms/2"
	for _, accept := range []bool{true, false} {
		t.Run(fmt.Sprintf("with AcceptTerms %v", accept), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.ca.TermsOfService = former
				n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
				n.ready(time.Minute)
				n.stopped()
				w.ca.ChangeTerms(terms)
				time.Sleep(day)
				told := make(chan md.Event, 100)
				m := w.manager(md.Domain{Names: []string{"example.com"}})
				m.AcceptTerms = accept
				m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error { told <- e; return nil })
				n = w.start(m)
				err := n.m.Renew(context.Background(), "example.com")
				if accept {
					if err != nil {
						t.Errorf("Renew: %v, want that the terms are agreed to", err)
					}
					n.stopped()
					return
				}
				want := "terms not accepted: " + terms
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Renew: got %v, want %q in it", err, want)
				}
				if r := n.report("example.com").Renewal; r == nil || !strings.Contains(r.LastError, want) {
					t.Errorf("the status does not say %q: %+v", want, r)
				}
				if !w.logged(want) {
					t.Errorf("the log does not say %q", want)
				}
				n.stopped()
				close(told)
				var texts []string
				for e := range told {
					if e.Err != nil {
						texts = append(texts, e.Err.Error())
					}
				}
				if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, terms) }) {
					t.Errorf("the events %q do not name the terms", texts)
				}
			})
		})
	}
	t.Run("that a first account would need are named", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.ca.TermsOfService = former
			m := w.manager(md.Domain{Names: []string{"example.com"}})
			m.AcceptTerms = false
			n := w.start(m)
			err := m.Ready(context.Background())
			if want := "terms not accepted: " + former; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Ready: got %v, want %q in it", err, want)
			}
			n.stopped()
		})
	})
}

func TestDeactivatedAccountIsReplaced(t *testing.T) {
	for _, where := range []string{"here", "by another process", "while the Store has lost it"} {
		t.Run(where, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				d := md.Domain{Names: []string{"example.com"}}
				ca := md.CA{URL: w.ca.DirectoryURL()}
				n := w.start(w.manager(d))
				n.ready(time.Minute)
				time.Sleep(day)
				by := n.m
				if where != "here" {
					by = w.manager()
				}
				if err := by.DeactivateAccount(context.Background(), ca); err != nil {
					t.Fatalf("DeactivateAccount: %v", err)
				}
				if where == "while the Store has lost it" {
					w.wipe("accounts/")
				} else if got := w.keys("accounts/"); len(got) != 0 {
					t.Errorf("the Store still has %q", got)
				}
				if err := by.DeactivateAccount(context.Background(), ca); !errors.Is(err, md.ErrNoAccount) {
					t.Errorf("once more: got error %v, want ErrNoAccount", err)
				}
				n.renewed("example.com")
				var states []string
				for _, a := range w.ca.Accounts() {
					states = append(states, a.Status)
				}
				if !slices.Equal(states, []string{"deactivated", "valid"}) {
					t.Errorf("the accounts are %q, want that the second is valid", states)
				}
				time.Sleep(day)
				n.renewed("example.com")
				n.stopped()
			})
		})
	}
}

// wipe removes all keys below prefix.
func (w *world) wipe(prefix string) {
	w.t.Helper()
	for _, key := range w.keys(prefix) {
		if err := w.store.Delete(context.Background(), key, store.Any); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestRollAccountKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		other := w.manager()
		if err := other.RollAccountKey(context.Background(), ca); !errors.Is(err, md.ErrNoAccount) {
			t.Errorf("without an account: got error %v, want ErrNoAccount", err)
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		former := w.ca.Accounts()[0].Thumbprint
		time.Sleep(day)
		if err := other.RollAccountKey(context.Background(), ca); err != nil {
			t.Fatal(err)
		}
		if got := w.ca.Accounts()[0].Thumbprint; got == former {
			t.Error("the account has the same key as before")
		}
		n.renewed("example.com") // by a process that has not been told
		n.stopped()
		if got := len(w.ca.Accounts()); got != 1 {
			t.Errorf("%d accounts, want 1", got)
		}
	})
}

// Each operation of a change of keys is broken, before and after its effect;
// then another process orders, and changes the key again.
func TestRollAccountKeyBroken(t *testing.T) {
	var storeOps, caOps int
	synctest.Test(t, func(t *testing.T) { storeOps, caOps = rollBroken(t, breakage{}) })
	if storeOps < 4 || caOps < 2 {
		t.Fatalf("%d operations of the Store and %d of the CA: it does not change a key", storeOps, caOps)
	}
	for _, crash := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			for n := 1; n <= storeOps; n++ {
				b := breakage{"store", n, after, crash}
				t.Run(b.String(), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { rollBroken(t, b) }) })
			}
			for n := 1; n <= caOps; n++ {
				b := breakage{"CA", n, after, crash}
				t.Run(b.String(), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { rollBroken(t, b) }) })
			}
		}
	}
}

func rollBroken(t *testing.T, b breakage) (storeOps, caOps int) {
	w := newWorld(t)
	ca := md.CA{URL: w.ca.DirectoryURL()}
	n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
	n.ready(time.Minute)
	time.Sleep(day)
	n.stopped()
	former := w.ca.Accounts()[0].Thumbprint

	line := newLifeline()
	faulty := &storetest.Faulty{Store: w.store}
	faulty.Fault = func(op storetest.Op) storetest.Fault {
		switch {
		case line.cut.Load():
			return storetest.FaultBefore
		case b.where != "store" || op.N != b.n:
			return storetest.FaultNone
		}
		if b.crash {
			defer line.sever()
		}
		if b.after {
			return storetest.FaultAfter
		}
		return storetest.FaultBefore
	}
	before := w.requests()
	w.ca.Fault = b.atCA(line)
	m := w.manager()
	m.Store, m.HTTPClient = faulty, line.client(m.HTTPClient)
	err := m.RollAccountKey(context.Background(), ca)
	storeOps, caOps = faulty.Count(), w.requests()-before
	w.ca.Fault = nil
	if err == nil && w.ca.Accounts()[0].Thumbprint == former {
		t.Error("RollAccountKey returned nil, but the CA has the former key")
	}

	n = w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
	n.renewed("example.com")
	if err := n.m.RollAccountKey(context.Background(), ca); err != nil {
		t.Errorf("the next change: %v", err)
	}
	time.Sleep(day)
	n.renewed("example.com")
	n.stopped()
	if got := w.ca.Accounts(); len(got) != 1 || got[0].Thumbprint == former {
		t.Errorf("the accounts are %+v, want one, with another key", got)
	}
	return storeOps, caOps
}

// atCA breaks the Nth request from now on.
func (b breakage) atCA(line *lifeline) func(acmetest.Op) acmetest.Fault {
	var requests atomic.Int64
	return func(acmetest.Op) acmetest.Fault {
		if n := int(requests.Add(1)); b.where != "CA" || n != b.n {
			return acmetest.FaultNone
		}
		if b.crash {
			defer line.sever()
		}
		if b.after {
			return acmetest.FaultAfter
		}
		return acmetest.FaultBefore
	}
}

// requests is how many requests the world's CA has had.
func (w *world) requests() int {
	n := 0
	for _, of := range w.ca.Requests() {
		n += of
	}
	return n
}

func TestAccountThatVanishedWhileItsKeyWasChanged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		refused := on()
		w.change(func() { w.ca.Fault = faultOn("keyChange", acmetest.Fault500, refused) })
		if err := w.manager().RollAccountKey(context.Background(), md.CA{URL: w.ca.DirectoryURL()}); err == nil {
			t.Error("RollAccountKey: got no error from a CA that fails")
		}
		w.ca.ForgetAccounts()
		time.Sleep(day)
		n.renewed("example.com")
		n.stopped()
	})
}

// The key was changed by somebody else, or the Store is that of a former time.
func TestAccountWhoseKeyIsAnother(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		account, err := n.m.ExportAccount(context.Background(), ca)
		if err != nil {
			t.Fatal(err)
		}
		other := w.manager()
		other.Store = new(store.Memory)
		if err := other.ImportAccount(context.Background(), ca, account, false); err != nil {
			t.Fatal(err)
		}
		if err := other.RollAccountKey(context.Background(), ca); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		n.renewed("example.com") // with an account of its own
		n.stopped()
		if got := len(w.ca.Accounts()); got != 2 {
			t.Errorf("%d accounts, want 2", got)
		}
	})
}

// Keys are changed while orders are under way in another process.
func TestRollAccountKeyWhileOrdersAreMade(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		rolled := make(chan error, 1)
		var begun atomic.Bool
		other := w.manager()
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && !begun.Swap(true) {
				rolled <- other.RollAccountKey(context.Background(), ca)
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute) // and not after a failure
		if err := <-rolled; err != nil {
			t.Errorf("RollAccountKey: %v", err)
		}
		if w.logged("renewal failed") {
			t.Error("the order failed because of the change")
		}
		n.stopped()
	})
}

func TestExportAndImport(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		w.binds("one")
		d := boundDomain("one", "example.com")
		n := w.start(w.manager(d))
		if _, err := w.manager().ExportAccount(ctx, md.CA{URL: w.ca.DirectoryURL()}); !errors.Is(err, md.ErrNoAccount) {
			t.Errorf("without an account: got error %v, want ErrNoAccount", err)
		}
		n.ready(time.Minute)
		n.stopped()
		account, err := n.m.ExportAccount(ctx, d.CAs[0])
		if err != nil {
			t.Fatal(err)
		}

		to := w.manager(d)
		to.Store = new(store.Memory)
		if err := to.ImportAccount(ctx, boundTo("one"), bytes.ReplaceAll(account, []byte("\n"), []byte("\r\n")), false); err != nil {
			t.Fatalf("ImportAccount: %v", err)
		}
		if err := to.ImportAccount(ctx, boundTo("one"), account, false); err != nil {
			t.Errorf("the same once more: %v", err)
		}
		n = w.start(to)
		n.ready(time.Minute)
		if got := w.externals(); !slices.Equal(got, []string{"one"}) {
			t.Errorf("the accounts are of %q, want the one that was imported", got)
		}
		n.stopped()

		_, key, _ := strings.Cut(string(account), "-----END MD ACCOUNT-----\n")
		third := w.manager()
		third.Store = new(store.Memory)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := third.ImportAccount(ctx, boundTo("one"), pemOf(t, other), false); err != nil {
			t.Fatal(err)
		}
		if err := third.ImportAccount(ctx, boundTo("one"), []byte(key), false); !errors.Is(err, md.ErrTaken) {
			t.Errorf("over another: got error %v, want ErrTaken", err)
		}
		if err := third.ImportAccount(ctx, boundTo("one"), []byte(key), true); err != nil {
			t.Errorf("over another, as it was told to: %v", err)
		}
		if err := third.RollAccountKey(ctx, boundTo("one")); err != nil { // it is found by its key
			t.Errorf("RollAccountKey after the import of a key: %v", err)
		}
		second := md.CA{URL: secondURL + "/directory"}
		if err := third.ImportAccount(ctx, second, account, false); err == nil || !strings.Contains(err.Error(), "acme.test") {
			t.Errorf("an account of another CA: got error %v, want one that names it", err)
		}
	})
}

// pemOf is a private key in PEM.
func pemOf(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
