package acmeclient

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// What Let's Encrypt says.
const (
	newOrders      = "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-21 13:00:36 UTC: see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account"
	registrations  = "too many new registrations (10) from this IP address in the last 3h0m0s, retry after 2026-11-21 13:18:00 UTC"
	registrations6 = "too many new registrations (500) from this /48 subnet of IPv6 addresses in the last 3h0m0s, retry after 2026-11-21 13:18:00 UTC"
	perDomain      = `too many certificates (50) already issued for "example.com" in the last 168h0m0s, retry after 2026-11-21 15:22:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-registered-domain`
	perNetwork     = `too many certificates (50) already issued for "2001:db8::/64" in the last 168h0m0s, retry after 2026-11-21 15:22:00 UTC`
	exactSet       = "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-11-22 22:00:00 UTC"
	exactDomains   = "too many certificates (5) already issued for this exact set of domains in the last 168 hours: example.com,www.example.com: see https://letsencrypt.org/docs/duplicate-certificate-limit/"
	failedAuthz    = `too many failed authorizations (5) for "example.com" in the last 1h0m0s, retry after 2026-11-21 12:12:00 UTC: see https://letsencrypt.org/docs/rate-limits/#authorization-failures-per-identifier-per-account`
	failedOld      = "too many failed authorizations recently: see https://letsencrypt.org/docs/failed-validation-limit/"
	paused         = "Your account is temporarily prevented from requesting certificates for example.com, b.example and possibly others. Please visit: https://portal.letsencrypt.org/sfe/v1/unpause?jwt=eyJhbGci.eyJpc3Mi.c2ln"
)

func TestScope(t *testing.T) {
	none, account := Scope{}, Scope{Kind: ScopeAccount}
	about := func(names ...string) Scope { return Scope{ScopeName, names} }
	limited := func(detail string) Problem { return Problem{Status: 429, Type: urn + "rateLimited", Detail: detail} }
	names := []string{"example.com", "*.example.com", "www.Example.com", "b.example", "2001:db8::1", "localhost"}
	for _, test := range []struct {
		name string
		p    Problem
		want Scope
	}{
		{"new orders", limited(newOrders), account},
		{"new accounts of an address", limited(registrations), account},
		{"new accounts of a network", limited(registrations6), account},
		{"a registered domain", limited(perDomain), about("example.com", "*.example.com", "www.Example.com")},
		{"a network", limited(perNetwork), about("2001:db8::1")},
		{"an exact set", limited(exactSet), about(names...)},
		{"an exact set that is listed", limited(exactDomains), about(names...)},
		{"failed authorizations", limited(failedAuthz), about("example.com", "*.example.com")},
		{"failed authorizations of nobody in particular", limited(failedOld), about(names...)},
		{"paused names", limited(paused), about("example.com", "*.example.com", "b.example")},
		{"paused names that are not told", limited("Your account is temporarily prevented from requesting certificates for too many names. Please visit: https://x.test/"), about(names...)},

		{"unknown words", limited("slow down, please"), account},
		{"no words", limited(""), account},
		{"unknown words with a name", limited("EXAMPLE.COM: you are asking too often."), about("example.com", "*.example.com")},
		{"unknown words with a parent", limited("zone example: quota of b.example. exceeded"), about("b.example")},
		{"an address", limited("quota for [2001:0db8:0::1] exceeded"), about("2001:db8::1")},
		{"a name without dots in quotes", limited(`quota for "localhost" exceeded`), about("localhost")},
		{"a name without dots that is a word", limited("quota of localhost exceeded"), account},
		{"a name that is only part of another", limited("quota of notexample.com exceeded"), account},
		{"another's name", limited("quota of example.org exceeded"), account},
		{"a name in a URL", limited("see https://example.com/b.example"), account},
		{"a name in a URL's query", limited("see https://x.test/?name=b.example&like=example.com"), account},
		{"another type and the right status", Problem{Status: 429, Type: "https://ca.test/tired", Detail: "b.example again?"}, about("b.example")},
		{"no type and the right status", Problem{Status: 429}, account},
		{"the right type with another status", Problem{Status: 403, Type: "urn:acme:error:RateLimited", Detail: failedAuthz}, about("example.com", "*.example.com")},
		{"the error of an order", Problem{Type: urn + "rateLimited", Detail: exactSet}, about(names...)},

		{"a subproblem", Problem{Status: 429, Type: urn + "rateLimited", Detail: newOrders, Subproblems: []Subproblem{{Name: "B.example", Type: urn + "rateLimited"}}}, about("b.example")},
		{"one subproblem of several", Problem{Status: 403, Type: urn + "compound",
			Subproblems: []Subproblem{{Name: "example.com", Type: urn + "dns"}, {Name: "b.example", Type: urn + "rateLimited"}}}, about("b.example")},
		{"subproblems of another's name", Problem{Status: 429, Type: urn + "rateLimited", Subproblems: []Subproblem{{Name: "c.example", Type: urn + "rateLimited"}}}, account},

		{"an overloaded CA", Problem{Status: 503}, account},
		{"a broken CA that says when", Problem{Status: 500, RetryAt: testNow}, account},
		{"a broken CA", Problem{Status: 500, Type: urn + "serverInternal"}, none},
		{"a refusal", Problem{Status: 403, Type: urn + "rejectedIdentifier", Detail: "not example.com"}, none},
		{"a failed validation", Problem{Type: urn + "dns", Detail: "no such host example.com"}, none},
		{"waiting", Problem{RetryAt: testNow, Err: ErrWait}, none},
		{"the network", Problem{Err: errLost}, none},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.p.Scope(names)
			if got.Kind != test.want.Kind || !slices.Equal(got.Names, test.want.Names) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestScopeOfARequestWithoutNames(t *testing.T) {
	p := &Problem{Status: 429, Type: urn + "rateLimited", Detail: exactSet}
	if got := p.Scope(nil); got.Kind != ScopeAccount || got.Names != nil {
		t.Errorf("got %v, want the account", got)
	}
	got := []string{}
	for k := range ScopeKind(4) {
		got = append(got, k.String())
	}
	if want := []string{"none", "account", "name", "unknown"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzScope(f *testing.F) {
	for _, detail := range []string{newOrders, registrations, perDomain, perNetwork, exactSet, exactDomains, failedAuthz, failedOld, paused, `"" "::/0" 1.2.3.4/99 https://`} {
		f.Add(detail, 429, "rateLimited", "example.com", "2001:db8::1")
	}
	f.Fuzz(func(t *testing.T, detail string, status int, kind, a, b string) {
		p := &Problem{Status: status, Type: urn + kind, Detail: clean(detail, maxDetail)}
		names := []string{a, b}
		scope := p.Scope(names)
		if (scope.Kind == ScopeName) != (len(scope.Names) > 0) {
			t.Errorf("got %v with %q", scope.Kind, scope.Names)
		}
		for _, name := range scope.Names {
			if !slices.Contains(names, name) {
				t.Errorf("got the name %q, which is not one of %q", name, names)
			}
		}
		if at := p.RetryTime(testNow); !at.IsZero() && (!at.After(testNow) || at.After(testNow.Add(maxSaidRetry))) {
			t.Errorf("got %v, want none or one within a week", at)
		}
		if page := p.UnpauseURL(); page != "" && (!strings.HasPrefix(strings.ToLower(page), "https://") || clean(page, maxURL) != page) {
			t.Errorf("got page %q", page)
		}
	})
}

func TestRetryTime(t *testing.T) {
	at := func(d time.Duration) time.Time { return testNow.Add(d) } // testNow is 2026-11-21 12:00:00 UTC
	for _, test := range []struct {
		name string
		p    Problem
		want time.Time
	}{
		{"what the header says", Problem{RetryAt: at(time.Minute), Detail: newOrders}, at(time.Minute)},
		{"what a header in the past says", Problem{RetryAt: at(-time.Minute), Detail: newOrders}, time.Time{}},
		{"what the detail says", Problem{Detail: newOrders}, at(time.Hour + 36*time.Second)},
		{"what the detail says otherwise", Problem{Detail: "Retry after 2026-11-21T12:00:01Z."}, at(time.Second)},
		{"the latest of several", Problem{Detail: "retry after 2026-11-21 14:00:00 UTC or retry after 2026-11-21 13:00:00 UTC"}, at(2 * time.Hour)},
		{"the latest of several in another order", Problem{Detail: "retry after 2026-11-21 13:00:00 UTC or retry after 2026-11-21 14:00:00 UTC"}, at(2 * time.Hour)},
		{"a time in the past", Problem{Detail: "retry after 2026-11-21 12:00:00 UTC"}, time.Time{}},
		{"a time too far away", Problem{Detail: "retry after 9999-12-31 23:59:59 UTC"}, at(7 * 24 * time.Hour)},
		{"no time", Problem{Detail: "retry after 2026-13-41 25:00:00 UTC"}, time.Time{}},
		{"another zone", Problem{Detail: "retry after 2026-11-21 14:00:00 PST"}, time.Time{}},
		{"nothing", Problem{}, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.p.RetryTime(testNow); !got.Equal(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestUnpauseURL(t *testing.T) {
	text := func(rest string) string {
		return "Your account is temporarily prevented from requesting certificates for a.example and possibly others. Please visit: " + rest
	}
	long := "https://x.test/?jwt=" + strings.Repeat("a", 1900)
	for _, test := range []struct{ name, detail, want string }{
		{"Let's Encrypt's", paused, "https://portal.letsencrypt.org/sfe/v1/unpause?jwt=eyJhbGci.eyJpc3Mi.c2ln"},
		{"in a sentence", text("https://x.test/?jwt=a.b.c. Thank you"), "https://x.test/?jwt=a.b.c"},
		{"long", text(long), long},
		{"too long", text(long + strings.Repeat("a", 300)), ""},
		{"cut off", text(strings.Repeat(" ", maxDetail-len(text(""))-30) + "https://x.test/?jwt=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), ""},
		{"not https", text("http://x.test/"), ""},
		{"absent", text("the office"), ""},
		{"no URL", text("https://%zz"), ""},
		{"of another problem", "please visit https://x.test/", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &Problem{Status: 429, Type: urn + "rateLimited", Detail: clean(test.detail, maxDetail)}
			if got := p.UnpauseURL(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestAboutName(t *testing.T) {
	sub := func(kinds ...string) (subs []Subproblem) {
		for _, k := range kinds {
			subs = append(subs, Subproblem{Name: "a.example", Type: urn + k})
		}
		return subs
	}
	for _, test := range []struct {
		name string
		p    Problem
		want bool
	}{
		{"dns", Problem{Status: 400, Type: urn + "dns"}, true},
		{"connection", Problem{Type: urn + "connection"}, true},
		{"tls", Problem{Type: urn + "TLS"}, true},
		{"incorrectResponse", Problem{Type: urn + "incorrectResponse"}, true},
		{"rejectedIdentifier", Problem{Status: 403, Type: urn + "rejectedIdentifier"}, true},
		{"unauthorized of a validation", Problem{Type: urn + "unauthorized"}, true},
		{"unauthorized of a request", Problem{Status: 403, Type: urn + "unauthorized"}, false},
		{"compound with a name's", Problem{Status: 403, Type: urn + "compound", Subproblems: sub("caa", "dns")}, true},
		{"compound with unauthorized", Problem{Status: 403, Type: urn + "compound", Subproblems: sub("unauthorized")}, true},
		{"compound with the CA's", Problem{Status: 403, Type: urn + "compound", Subproblems: sub("caa", "unsupportedIdentifier")}, false},
		{"caa", Problem{Type: urn + "caa"}, false},
		{"a limit", Problem{Status: 429, Type: urn + "rateLimited", Detail: failedAuthz}, false},
		{"a broken CA", Problem{Status: 500, Type: urn + "serverInternal"}, false},
		{"the request", Problem{Status: 400, Type: urn + "badCSR"}, false},
		{"the network", Problem{Type: urn + "dns", Err: errLost}, false},
		{"nothing", Problem{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.p.AboutName(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func ExampleProblem_Scope() {
	p := &Problem{Type: "urn:ietf:params:acme:error:rateLimited",
		Detail: `too many failed authorizations (5) for "b.example" in the last 1h0m0s, retry after 2026-11-21 12:12:00 UTC`}
	scope := p.Scope([]string{"a.example", "b.example"})
	fmt.Println(scope.Kind, scope.Names)
	fmt.Println(p.RetryTime(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)))
	// Output:
	// name [b.example]
	// 2026-11-21 12:12:00 +0000 UTC
}

func TestScopeOfWhatAcmetestRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{
			Limits: acmetest.Limits{
				Orders:       acmetest.Rate{Count: 20, Per: time.Hour},
				Failures:     acmetest.Rate{Count: 2, Per: 2 * time.Hour},
				Certificates: acmetest.Rate{Count: 1, Per: 24 * time.Hour},
			},
			PauseAfter: 3,
		}
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		if _, err := u.attempt(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := u.client.Session(u.account, u.url)
		refused := func(what string, names []string, want Scope, retry time.Duration) {
			t.Helper()
			_, err := s.NewOrder(t.Context(), OrderRequest{Names: names})
			p := wantProblem(t, err)
			if got := p.Scope(names); got.Kind != want.Kind || !slices.Equal(got.Names, want.Names) {
				t.Errorf("%s: got %v, want %v: %v", what, got, want, err)
			}
			said := *p
			said.RetryAt = time.Time{}
			for _, p := range []*Problem{p, &said} { // the header's time, and the detail's, which is rounded up to a second
				late := p.RetryTime(time.Now()).Sub(time.Now().Add(retry))
				if isZero := p.RetryTime(time.Now()).IsZero(); isZero != (retry == 0) || !isZero && (late < 0 || late >= time.Second) {
					t.Errorf("%s: got RetryTime %v, want it in %v", what, p.RetryTime(time.Now()), retry)
				}
			}
			if (p.UnpauseURL() != "") != (retry == 0) {
				t.Errorf("%s: got UnpauseURL %q", what, p.UnpauseURL())
			}
		}
		fail := func(name string) {
			t.Helper()
			o, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{name}})
			if err != nil {
				t.Fatal(err)
			}
			a, err := s.Authorization(t.Context(), o.Authorizations[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Accept(t.Context(), a.Challenges[0]); err != nil { // without an answer to it
				t.Fatal(err)
			}
			_, err = s.WaitAuthorization(t.Context(), a.URL)
			if p := wantProblem(t, err); !p.AboutName() || p.Scope([]string{name}).Kind != ScopeNone {
				t.Errorf("got %v, want one about the name, and no limit", err)
			}
		}
		refused("the same names", []string{"a.example"}, Scope{ScopeName, []string{"a.example"}}, 24*time.Hour)
		fail("b.example")
		fail("b.example")
		refused("a name that fails", []string{"a.example", "b.example"}, Scope{ScopeName, []string{"b.example"}}, time.Hour)
		time.Sleep(time.Hour)
		fail("b.example")
		refused("a paused name", []string{"b.example", "a.example"}, Scope{ScopeName, []string{"b.example"}}, 0)
		for i := range 20 {
			if _, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{fmt.Sprintf("n%d.example", i)}}); err != nil && i < 19 {
				t.Fatal(err)
			}
		}
		refused("too many orders", []string{"c.example"}, Scope{Kind: ScopeAccount}, 3*time.Minute)
	})
}
