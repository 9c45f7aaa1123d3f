package acmetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
)

func TestWrongCertificates(t *testing.T) {
	wrongs := map[Wrong]Faults{
		WrongKey: {WrongKey: 1}, WrongName: {WrongName: 1}, MissingName: {MissingName: 1},
		Expired: {Expired: 1}, NotYetValid: {NotYetValid: 1}, Foreign: {Foreign: 1},
	}
	for wrong, faults := range wrongs {
		t.Run("of the kind "+wrong.String()+" are refused by a careful client, and end", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				ca := &CA{Faults: faults, LookupTXT: s.lookupTXT}
				defer ca.Close()
				h := newHonest(t, ca, s, "mailto:a@x.test")
				if err := h.obtain(t.Context(), 5, "a.test", "b.test"); err != nil {
					t.Fatal(err)
				}
				var got []Wrong
				for _, c := range ca.Certificates() {
					got = append(got, c.Wrong)
				}
				if want := []Wrong{wrong, wrong, NotWrong}; !slices.Equal(got, want) {
					t.Errorf("the certificates are wrong in the ways %v, want %v", got, want)
				}
			})
		})
	}
}

// unfair runs a client against one kind of unfairness, and returns the CA and
// the client with all answers it got.
func unfair(t *testing.T, faults Faults, look func(ca *CA, h *honest, answers []*http.Response)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		ca := &CA{Faults: faults, LookupTXT: s.lookupTXT, RetryAfter: time.Second}
		defer ca.Close()
		h := newHonest(t, ca, s, "mailto:a@x.test")
		tap := &tap{inner: ca.Client().Transport}
		h.hc = &http.Client{Transport: tap}
		for range 3 {
			if err := h.obtain(t.Context(), 10, "a.test", "b.test", "c.test", "d.test"); err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
			}
		}
		look(ca, h, tap.seen)
	})
}

// tap keeps the answers that pass.
type tap struct {
	inner http.RoundTripper
	seen  []*http.Response
}

func (p *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := p.inner.RoundTrip(r)
	if err == nil {
		p.seen = append(p.seen, res)
	}
	return res, err
}

func TestOddURLs(t *testing.T) {
	unfair(t, Faults{OddURLs: 1}, func(ca *CA, _ *honest, seen []*http.Response) {
		forms := map[string]bool{}
		for _, r := range seen {
			u := r.Request.URL
			forms[fmt.Sprintf("query %v, escapes %v, deep %v", u.RawQuery != "", u.RawPath != "", strings.Count(u.Path, "/") > 10)] = true
			if _, err := url.Parse(u.String()); err != nil {
				t.Errorf("%v is not valid: %v", u, err)
			}
		}
		if len(forms) < 4 {
			t.Errorf("only %v were seen", forms)
		}
	})
}

func TestOddRetryAfter(t *testing.T) {
	unfair(t, Faults{RetryAfter: 1, SlowFinalize: 1, SlowValidation: 1, RateLimited: 1}, func(_ *CA, h *honest, _ []*http.Response) {
		var past, far, garbage, overflow bool
		for _, text := range h.waits {
			at, err := http.ParseTime(text)
			_, notNumber := strconv.Atoi(text)
			past = past || err == nil && at.Before(time.Now())
			far = far || err == nil && time.Until(at) > century/2
			garbage = garbage || text == "soon; or later"
			overflow = overflow || errors.Is(notNumber, strconv.ErrRange)
		}
		if !past || !far || !garbage || !overflow {
			t.Errorf("past %v, far %v, garbage %v, overflow %v: %q", past, far, garbage, overflow, h.waits)
		}
	})
}

func TestSlowAndLateFinalize(t *testing.T) {
	unfair(t, Faults{SlowFinalize: 1, LateFinalize: 1}, func(ca *CA, _ *honest, _ []*http.Response) {
		if got := ca.Requests()[kindOrder]; got <= 6 {
			t.Errorf("orders were looked at %d times, which is not slow", got)
		}
	})
}

func TestInstantFinalize(t *testing.T) {
	unfair(t, Faults{InstantFinalize: 1}, func(ca *CA, _ *honest, _ []*http.Response) {
		if got := ca.Requests()[kindOrder]; got != 6 {
			t.Errorf("orders were looked at %d times, want 6", got)
		}
	})
}

func TestSlowValidation(t *testing.T) {
	unfair(t, Faults{SlowValidation: 1}, func(ca *CA, _ *honest, _ []*http.Response) {
		if got := ca.Requests()[kindAuthz]; got <= 24 {
			t.Errorf("authorizations were looked at %d times, which is not slow", got)
		}
	})
}

func TestMissingLocations(t *testing.T) {
	unfair(t, Faults{NoLocation: 1}, func(ca *CA, _ *honest, seen []*http.Response) {
		for _, r := range seen {
			made := r.StatusCode == http.StatusCreated
			if got := r.Header.Get("Location") != ""; got != made {
				t.Errorf("%v has a Location: %v", r.Request.URL, got)
			}
		}
	})
}

func TestExtraCertificates(t *testing.T) {
	unfair(t, Faults{Extra: 1}, func(ca *CA, h *honest, _ []*http.Response) {
		a, err := h.try(context.Background(), ca.Certificates()[0].URL, nil, alter{})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(parseChain(t, a.body)); got != 3 {
			t.Errorf("the chain has %d certificates, want 3", got)
		}
	})
}

func TestUnfairOrders(t *testing.T) {
	s := newSite()
	ca := &CA{
		Faults:    Faults{Shuffle: 1, ReuseOrder: 1, OddChallenges: 1, FinalizeAgain: 1},
		LookupTXT: s.lookupTXT, HTTP: s, TLS: s.tlsConfig(),
	}
	defer ca.Close()
	w := registered(t, ca)
	names := []string{"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"}
	o := w.order(t, names...)

	var listed []string
	for _, id := range o.doc.Identifiers {
		listed = append(listed, id.Value)
	}
	if slices.Equal(listed, names) {
		t.Error("the identifiers are not shuffled")
	}
	if got := slices.Sorted(slices.Values(listed)); !slices.Equal(got, names) {
		t.Errorf("shuffling made %q of %q", got, names)
	}
	a := w.post(t, o.doc.Authorizations[0], nil)
	var types []string
	for _, c := range a.doc.Challenges {
		types = append(types, c.Type)
		if c.Type == "dns-persist-01" {
			if c.Token != "" {
				t.Error("dns-persist-01 has a token")
			}
			wantProblem(t, w.post(t, c.URL, map[string]any{}), 400, malformed)
		}
	}
	if got, want := len(types), 5; got != want {
		t.Errorf("the challenges are %q, want %d", types, want)
	}
	if again := w.order(t, names...); again.location() != o.location() {
		t.Error("a pending order is not reused")
	}

	o = w.ready(t, s, "a.test")
	csr := map[string]any{"csr": digest64()} // no longer looked at
	wantProblem(t, w.post(t, o.doc.Finalize, csr), 400, badCSR)
	w.issueReady(t, o, "a.test")
	if a := w.post(t, o.doc.Finalize, csr); a.status != http.StatusOK || !a.is(valid) {
		t.Errorf("a second finalize answers %d %s", a.status, a.body)
	}
	if again := w.order(t, "a.test"); again.location() == o.location() {
		t.Error("a valid order is reused")
	}
}

func TestOddProblems(t *testing.T) {
	ca := &CA{Faults: Faults{OddProblems: 1}}
	defer ca.Close()
	a := registered(t, ca).order(t)
	if a.problem() != malformed || len(a.doc.Detail) < 100_000 || !strings.ContainsFunc(a.doc.Detail, unicode.IsControl) ||
		!strings.ContainsRune(a.doc.Detail, '\u202e') {
		t.Errorf("the problem is not odd: %.200q", a.doc.Detail)
	}
}

func TestRetryForms(t *testing.T) {
	now := time.Now()
	tests := map[RetryForm]func(string) bool{
		RetrySeconds:  func(s string) bool { return s == "90" },
		RetryDate:     func(s string) bool { at, err := http.ParseTime(s); return err == nil && at.After(now) },
		RetryNone:     func(s string) bool { return s == "" },
		RetryPast:     func(s string) bool { at, err := http.ParseTime(s); return err == nil && at.Before(now) },
		RetryFar:      func(s string) bool { at, err := http.ParseTime(s); return err == nil && at.Year() > now.Year()+90 },
		RetryOverflow: func(s string) bool { return len(s) == 30 },
		RetryGarbage:  func(s string) bool { return s != "" && s[0] == 's' },
	}
	for form, fits := range tests {
		t.Run(fmt.Sprintf("include %d", form), func(t *testing.T) {
			ca := &CA{RetryForm: form, RetryAfter: 90 * time.Second, LookupTXT: newSite().lookupTXT, Fault: func(op Op) Fault {
				if op.Kind == kindKeyChange {
					return Fault429
				}
				return FaultNone
			}}
			defer ca.Close()
			w := registered(t, ca)
			o := w.order(t, "a.test")
			if got := o.header.Get("Retry-After"); !fits(got) {
				t.Errorf("a pending order says %q", got)
			}
			limited := w.post(t, w.url("keyChange"), map[string]any{})
			wantProblem(t, limited, 429, rateLimited)
			if got := limited.header.Get("Retry-After"); !fits(got) {
				t.Errorf("429 says %q", got)
			}
		})
	}
	fair := &CA{LookupTXT: newSite().lookupTXT}
	defer fair.Close()
	if got := registered(t, fair).order(t, "a.test").header.Get("Retry-After"); got != "" {
		t.Errorf("the zero CA says %q, want nothing", got)
	}
}

func TestGarbageTakesManyForms(t *testing.T) {
	ca := &CA{Fault: func(op Op) Fault { return FaultGarbage }}
	defer ca.Close()
	forms := map[string]bool{}
	for range 100 {
		res, err := ca.Client().Get(ca.DirectoryURL())
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ NewNonce string }
		err = json.NewDecoder(res.Body).Decode(&doc)
		res.Body.Close()
		if doc.NewNonce != "" {
			t.Errorf("garbage says %+v", doc)
		}
		forms[fmt.Sprint(err)] = true
	}
	if len(forms) < 5 {
		t.Errorf("garbage takes only the forms %v", forms)
	}
}
