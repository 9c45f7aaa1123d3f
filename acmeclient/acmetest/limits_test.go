package acmetest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// limited runs a test with two accounts at a CA that has limits.
func limited(t *testing.T, ca *CA, run func(t *testing.T, s *site, a, b *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		ca.LookupTXT = s.lookupTXT
		defer ca.Close()
		run(t, s, registered(t, ca), registered(t, ca))
		if t.Failed() {
			t.Log(strings.Join(ca.Trace(), "\n"))
		}
	})
}

// fail orders a name and lets its validation fail.
func (w *wire) fail(t testing.TB, name string) {
	t.Helper()
	o := w.order(t, name)
	if o.status != http.StatusCreated {
		t.Fatalf("newOrder answered %d %s", o.status, o.body)
	}
	c := w.post(t, o.doc.Authorizations[0], nil).doc.Challenges[0]
	w.post(t, c.URL, map[string]any{})
	if a := w.post(t, o.location(), nil); !a.is(invalid) {
		t.Fatalf("the order is %v, want invalid: %s", a.doc.Status, a.body)
	}
}

// wantRefused checks an order that is over a limit: its words, and that the
// header and the words agree on when it would not be.
func wantRefused(t *testing.T, a *answer, words string, retry time.Duration) {
	t.Helper()
	wantProblem(t, a, http.StatusTooManyRequests, rateLimited)
	until := time.Now().Add(retry).UTC().Format("2006-01-02 15:04:05")
	if want := words + ", retry after " + until + " UTC"; a.doc.Detail != want {
		t.Errorf("got  %s\nwant %s", a.doc.Detail, want)
	}
	if got, want := a.header.Get("Retry-After"), fmt.Sprint(int(retry/time.Second)); got != want {
		t.Errorf("got Retry-After %q, want %q", got, want)
	}
}

// wantOrdered checks an order that is not over a limit.
func wantOrdered(t *testing.T, a *answer) {
	t.Helper()
	if a.status != http.StatusCreated {
		t.Fatalf("newOrder answered %d %s", a.status, a.body)
	}
}

func TestLimits(t *testing.T) {
	t.Run("bound the orders of an account", func(t *testing.T) {
		ca := &CA{Limits: Limits{Orders: Rate{3, 3 * time.Hour}}}
		limited(t, ca, func(t *testing.T, _ *site, a, b *wire) {
			for i := range 3 {
				wantOrdered(t, a.order(t, fmt.Sprintf("n%d.test", i)))
			}
			for range 2 { // a refused order is not counted
				wantRefused(t, a.order(t, "a.test"), "too many new orders (3) from this account in the last 3h0m0s", time.Hour)
			}
			wantOrdered(t, b.order(t, "a.test"))
			time.Sleep(time.Hour - time.Second)
			wantRefused(t, a.order(t, "a.test"), "too many new orders (3) from this account in the last 3h0m0s", time.Second)
			time.Sleep(time.Second)
			wantOrdered(t, a.order(t, "a.test"))
			wantRefused(t, a.order(t, "a.test"), "too many new orders (3) from this account in the last 3h0m0s", time.Hour)
			time.Sleep(100 * time.Hour) // it does not save up more than three
			for range 3 {
				wantOrdered(t, a.order(t, "a.test"))
			}
			wantRefused(t, a.order(t, "a.test"), "too many new orders (3) from this account in the last 3h0m0s", time.Hour)
			if got, want := len(ca.Refused()), 5; got != want {
				t.Errorf("got %d refusals, want %d: %v", got, want, ca.Refused())
			}
		})
	})
	t.Run("bound the failures of a name and account", func(t *testing.T) {
		limited(t, &CA{Limits: Limits{Failures: Rate{2, time.Hour}}}, func(t *testing.T, s *site, a, b *wire) {
			a.fail(t, "a.test")
			a.fail(t, "a.test")
			words := `too many failed authorizations (2) for "a.test" in the last 1h0m0s`
			wantRefused(t, a.order(t, "a.test"), words, 30*time.Minute)
			wantRefused(t, a.order(t, "b.test", "a.test"), words, 30*time.Minute)
			wantOrdered(t, a.order(t, "b.test"))
			wantOrdered(t, a.order(t, "*.a.test"))
			wantOrdered(t, b.order(t, "a.test"))
			time.Sleep(30 * time.Minute)
			a.ready(t, s, "a.test") // success takes nothing
			wantOrdered(t, a.order(t, "a.test"))
		})
	})
	t.Run("bound the certificates for the same names", func(t *testing.T) {
		limited(t, &CA{Limits: Limits{Certificates: Rate{2, 7 * 24 * time.Hour}}}, func(t *testing.T, s *site, a, b *wire) {
			a.issue(t, s, ecdsaKey(t), "a.test", "b.test")
			wantOrdered(t, a.order(t, "a.test", "b.test")) // without a certificate
			b.issue(t, s, ecdsaKey(t), "b.test", "a.test")
			words := "too many certificates (2) already issued for this exact set of identifiers in the last 168h0m0s"
			wantRefused(t, a.order(t, "B.test", "a.test"), words, 84*time.Hour)
			wantOrdered(t, a.order(t, "a.test"))
			time.Sleep(84 * time.Hour)
			wantOrdered(t, a.order(t, "a.test", "b.test"))
		})
	})
	t.Run("tell of the one that lasts longest", func(t *testing.T) {
		ca := &CA{Limits: Limits{Orders: Rate{1, time.Minute}, Failures: Rate{1, time.Hour}}}
		limited(t, ca, func(t *testing.T, _ *site, a, _ *wire) {
			a.fail(t, "a.test")
			wantRefused(t, a.order(t, "a.test"), `too many failed authorizations (1) for "a.test" in the last 1h0m0s`, time.Hour)
			wantRefused(t, a.order(t, "b.test"), "too many new orders (1) from this account in the last 1m0s", time.Minute)
			refused := ca.Refused()
			want := Refusal{"failures", a.kid, []string{"a.test"}, time.Now(), time.Now().Add(time.Hour)}
			if len(refused) != 2 || refused[1].Limit != "orders" || refused[0].String() != want.String() || !refused[0].RetryAt.Equal(want.RetryAt) {
				t.Errorf("got %v, want %v and one for orders", refused, want)
			}
		})
	})
	t.Run("are told in the chosen form", func(t *testing.T) {
		limited(t, &CA{Limits: Limits{Orders: Rate{1, time.Hour}}, RetryForm: RetryDate}, func(t *testing.T, _ *site, a, _ *wire) {
			a.order(t, "a.test")
			got := a.order(t, "a.test").header.Get("Retry-After")
			if at, err := http.ParseTime(got); err != nil || at.Before(time.Now().Add(time.Hour)) {
				t.Errorf("got Retry-After %q, want a date in an hour", got)
			}
		})
	})
	t.Run("are none at first", func(t *testing.T) {
		ca := &CA{}
		limited(t, ca, func(t *testing.T, _ *site, a, _ *wire) {
			for range 400 {
				wantOrdered(t, a.order(t, "a.test"))
			}
			if got := ca.Refused(); got != nil {
				t.Errorf("got refusals %v", got)
			}
		})
	})
}

func TestPause(t *testing.T) {
	ca := &CA{PauseAfter: 2}
	limited(t, ca, func(t *testing.T, s *site, a, b *wire) {
		a.fail(t, "a.test")
		a.ready(t, s, "a.test") // begins the count again
		clear(s.txt)
		a.fail(t, "a.test")
		a.fail(t, "a.test")
		for range 2 {
			refused := a.order(t, "b.test", "a.test")
			wantProblem(t, refused, http.StatusTooManyRequests, rateLimited)
			const words = "Your account is temporarily prevented from requesting certificates for a.test and possibly others. Please visit: https://acme.test/unpause?jwt="
			if !strings.HasPrefix(refused.doc.Detail, words) || refused.header.Get("Retry-After") != "" {
				t.Errorf("got %q, Retry-After %q", refused.doc.Detail, refused.header.Get("Retry-After"))
			}
			time.Sleep(365 * 24 * time.Hour) // no time ends it
		}
		wantOrdered(t, a.order(t, "b.test"))
		wantOrdered(t, b.order(t, "a.test"))
		ca.Unpause(b.kid, "a.test")
		ca.Unpause(a.kid, "b.test")
		wantProblem(t, a.order(t, "a.test"), http.StatusTooManyRequests, rateLimited)
		ca.Unpause(a.kid, "a.test")
		wantOrdered(t, a.order(t, "a.test"))
		a.fail(t, "a.test")
		a.fail(t, "a.test")
		ca.Unpause("", "a.test")
		wantOrdered(t, a.order(t, "a.test"))

		var limits []string
		for _, r := range ca.Refused() {
			limits = append(limits, r.Limit)
			if !r.RetryAt.IsZero() || r.Account != a.kid {
				t.Errorf("got %+v, want no time and the account", r)
			}
		}
		if want := []string{"paused", "paused", "paused"}; !slices.Equal(limits, want) {
			t.Errorf("got refusals %q, want %q", limits, want)
		}
	})
}
