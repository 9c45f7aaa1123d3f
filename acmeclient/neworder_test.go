package acmeclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

var shortLived = *knownByName("letsencrypt")

// profiles is a CA with the profiles of Let's Encrypt.
func profiles() *acmetest.CA {
	return &acmetest.CA{
		HTTPPort: 1, IPAddresses: true, RefuseDates: true,
		Profiles: []acmetest.Profile{
			{Name: "classic", DNSOnly: true},
			{Name: "tlsserver", Lifetime: 45 * 24 * time.Hour, DNSOnly: true},
			{Name: "shortlived", Lifetime: 160 * time.Hour},
		},
	}
}

func registered(t testing.TB, ca *acmetest.CA) *Session {
	t.Helper()
	c := caClient(t, ca)
	a, err := c.Register(t.Context(), testKey(t, P256), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	return c.Session(testKey(t, P256), a.URL)
}

func TestTheProfileIsChosen(t *testing.T) {
	const day = 24 * time.Hour
	dns, ip := []string{"a.example"}, []string{"a.example", "192.0.2.1"}
	for _, test := range []struct {
		name    string
		request OrderRequest
		want    string
		warning string
	}{
		{"by the CA if nobody asks", OrderRequest{Names: dns}, "classic", ""},
		{"as asked", OrderRequest{Names: dns, Profile: "tlsserver"}, "tlsserver", ""},
		{"in the CA's spelling", OrderRequest{Names: dns, Profile: "TLSServer", ProfileRequired: true}, "tlsserver", ""},
		{"by the CA if what is asked is not listed", OrderRequest{Names: dns, Profile: "long"}, "classic", `does not offer the profile "long"; it offers classic, shortlived, tlsserver; ordering with its default`},
		{"by addresses", OrderRequest{Names: ip, Known: shortLived}, "shortlived", ""},
		{"by addresses in spite of what is asked", OrderRequest{Names: ip, Profile: "tlsserver", Known: shortLived}, "shortlived", `"tlsserver" does not take IP addresses; ordering with "shortlived"`},
		{"by addresses if what is asked is not listed", OrderRequest{Names: ip, Profile: "long", Known: shortLived}, "shortlived", "ordering with shortlived"},
		{"by the lifetime: the longest that is not longer", OrderRequest{Names: dns, Lifetime: 60 * day, Known: shortLived}, "tlsserver", ""},
		{"by the lifetime: the very one", OrderRequest{Names: dns, Lifetime: 90 * day, Known: shortLived}, "classic", ""},
		{"by the lifetime: the shortest if all are longer", OrderRequest{Names: dns, Lifetime: 2 * day, Known: shortLived}, "shortlived", ""},
		{"by addresses whatever the lifetime", OrderRequest{Names: ip, Lifetime: 90 * day, Known: shortLived}, "shortlived", ""},
		{"as asked whatever the lifetime", OrderRequest{Names: dns, Profile: "classic", Lifetime: 2 * day, Known: shortLived}, "classic", ""},
		{"not where nothing is known", OrderRequest{Names: dns, Lifetime: 7 * day, Known: KnownCA{Name: "other"}}, "classic", "does not let orders say how long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ca := profiles()
			defer ca.Close()
			o, err := registered(t, ca).NewOrder(t.Context(), test.request)
			if err != nil {
				t.Fatal(err)
			}
			if o.Profile != test.want || ca.Orders()[0].Profile != test.want {
				t.Errorf("got profile %q, and %q at the CA, want %q", o.Profile, ca.Orders()[0].Profile, test.want)
			}
			if got := strings.Join(o.Warnings, "\n"); !strings.Contains(got, test.warning) || (got == "") != (test.warning == "") {
				t.Errorf("got warning %q, want %q", got, test.warning)
			}
			if got := ca.Requests()["newOrder"]; got != 1 {
				t.Errorf("got %d requests, want 1\n%s", got, strings.Join(ca.Trace(), "\n"))
			}
		})
	}
}

func TestARequiredProfileIsNotDoneWithout(t *testing.T) {
	ca := profiles()
	defer ca.Close()
	s := registered(t, ca)
	_, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Profile: "long", ProfileRequired: true})
	if p := wantProblem(t, err); !p.Permanent() || p.Kind() != "invalidProfile" {
		t.Errorf("got %+v, want a permanent invalidProfile", p)
	}
	wantText(t, err, "it offers classic, shortlived, tlsserver")
	if got := ca.Requests()["newOrder"]; got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
	_, err = s.NewOrder(t.Context(), OrderRequest{Names: []string{"192.0.2.1"}, Profile: "tlsserver", ProfileRequired: true, Known: shortLived})
	if p := wantProblem(t, err); p.Kind() != "rejectedIdentifier" || p.Name != "192.0.2.1" {
		t.Errorf("got %+v, want what the CA says", p)
	}
}

func TestAProfileRetiredMeanwhile(t *testing.T) {
	for _, required := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ca := profiles()
			defer ca.Close()
			s := registered(t, ca)
			ca.RetireProfile("shortlived") // the directory is believed for an hour
			r := OrderRequest{Names: []string{"a.example"}, Profile: "shortlived", ProfileRequired: required}
			o, err := s.NewOrder(t.Context(), r)
			switch {
			case required:
				if p := wantProblem(t, err); p.Kind() != "invalidProfile" || !p.Permanent() {
					t.Errorf("got %v, want a permanent invalidProfile", err)
				}
			case err != nil || o.Profile != "classic" || len(o.Warnings) != 1:
				t.Errorf("got %+v, %v, want an order with the CA's default and a warning", o, err)
			}
			if d, err := s.client.Directory(t.Context()); err != nil || d.Profiles["shortlived"] != "" || len(d.Profiles) != 2 {
				t.Errorf("got profiles %v, %v, want those that are left", d.Profiles, err)
			}
		})
	}
}

func TestAProfileRetiredBeforeTheCSR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := profiles()
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		u.want.Profile = "shortlived"
		ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "finalize" {
				ca.RetireProfile("shortlived")
			}
			return acmetest.FaultNone
		}
		_, err := u.attempt(t.Context())
		if p := wantProblem(t, err); p.Kind() != "invalidProfile" {
			t.Fatalf("got %v, want invalidProfile", err)
		}
		u.order = ""
		if _, err := u.attempt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ca.Orders()[1].Profile; got != "classic" || ca.Requests()["newOrder"] != 2 {
			t.Errorf("got profile %q after %d requests, want what is left at once", got, ca.Requests()["newOrder"])
		}
	})
}

func TestTheLifetimeIsAskedForByNotAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		want := time.Now().Add(week).UTC()
		for _, test := range []struct {
			name     string
			refuse   bool
			known    KnownCA
			requests int
			notAfter bool
		}{
			{"where it is honoured", false, KnownCA{}, 1, true},
			{"where it is known to be honoured", false, KnownCA{Name: "google", NotAfter: true}, 1, true},
			{"and left out where it is refused", true, KnownCA{}, 2, false},
			{"but not where that is known to be futile", true, KnownCA{Name: "zerossl"}, 1, false},
		} {
			ca := &acmetest.CA{HTTPPort: 1, RefuseDates: test.refuse}
			o, err := registered(t, ca).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Lifetime: week, Known: test.known})
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if got := ca.Requests()["newOrder"]; got != test.requests {
				t.Errorf("%s: got %d requests, want %d", test.name, got, test.requests)
			}
			if got := ca.Orders()[0].NotAfter; got.Equal(want) != test.notAfter {
				t.Errorf("%s: got an order until %v, want %v: %v", test.name, got, want, test.notAfter)
			}
			if got := len(o.Warnings) == 0; got != test.notAfter {
				t.Errorf("%s: got warnings %q", test.name, o.Warnings)
			}
			ca.Close()
		}
	})
}

// TestWhatIsRefusedIsLeftOut tries every set of wishes at CAs that refuse some of them in all kinds of words: what the CA would take is sent in
// the end, and what was left out is told.
func TestWhatIsRefusedIsLeftOut(t *testing.T) {
	type refusal struct {
		status int
		body   string
	}
	words := map[string][]refusal{
		"profile":  {{400, problemBody("invalidProfile", "not for you")}},
		"notAfter": {{400, problemBody("malformed", "NotBefore and NotAfter are not supported")}, {400, problemBody("malformed", "bad order")}, {403, ""}, {400, problemBody("badRequest", "no 'not after'")}},
		"replaces": {{409, problemBody("alreadyReplaced", "twice")}, {409, ""}, {400, problemBody("malformed", "ARI CertID")}, {500, problemBody("serverInternal", "oops")}, {403, problemBody("unauthorized", "another account's")}},
	}
	all := []string{"profile", "notAfter", "replaces"}
	for refused := range 8 {
		for variant := range 20 {
			takes := map[string]bool{}
			f := newFakeCA()
			requests := 0
			var last map[string]any
			f.mux.HandleFunc("/new-order", func(w http.ResponseWriter, r *http.Request) {
				requests++
				last = nil
				if err := json.Unmarshal([]byte(payload(t, r)), &last); err != nil {
					t.Error(err)
				}
				for i, field := range all {
					takes[field] = refused&(1<<i) == 0
					if v := words[field]; !takes[field] && last[field] != nil {
						say := v[variant%len(v)]
						answer(say.status, say.body)(w, r)
						return
					}
				}
				answer(201, orderBody(StatusReady), "Location: https://ca.test/order")(w, r)
			})
			what := fmt.Sprintf("refused %03b in words %d", refused, variant)
			o, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Profile: "short", Lifetime: time.Hour, Replaces: "x.y"})
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			for _, field := range all {
				if got := last[field] != nil; got != takes[field] {
					t.Errorf("%s: got %s sent %v, want %v", what, field, got, takes[field])
				}
			}
			if o.ReplacesRefused == takes["replaces"] {
				t.Errorf("%s: got ReplacesRefused %v", what, o.ReplacesRefused)
			}
			told := slices.DeleteFunc([]string{"profile", "notAfter"}, func(field string) bool { return takes[field] })
			if len(o.Warnings) != len(told) || requests > 5 {
				t.Errorf("%s: got warnings %q after %d requests, want %d", what, o.Warnings, requests, len(told))
			}
		}
	}
}

func TestOrdersThatAreRefusedForOtherReasonsAreNotRepeated(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
	}{
		{429, problemBody("rateLimited", "too many")},
		{400, problemBody("rejectedIdentifier", "notAfter.example is not for you")},
		{400, problemBody("accountDoesNotExist", "who?")},
		{403, problemBody("userActionRequired", "read this")},
		{401, problemBody("unauthorized", "the account is deactivated")},
		{403, problemBody("unauthorized", `Account is not valid, has status "deactivated"`)},
		{503, ""},
	} {
		f := newFakeCA()
		f.mux.HandleFunc("/new-order", answer(test.status, test.body))
		_, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Profile: "short", Lifetime: time.Hour, Replaces: "x.y"})
		wantProblem(t, err)
		if got := f.count("POST /new-order"); got != 1 {
			t.Errorf("%d %s: got %d requests, want 1", test.status, test.body, got)
		}
	}
}

func TestAnotherProfileThanAskedIsTold(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/new-order", answer(201, `{"status": "ready", "profile": "long\u202e", "identifiers": [{"type":"ip","value":"2001:DB8:0::1"},{"type":"dns","value":"A.example"}]}`, "Location: https://ca.test/order"))
	o, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Profile: "short"})
	if err != nil || o.Profile != "long?" || len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], `"long?", not "short"`) {
		t.Errorf("got %+v, %v, want a warning", o, err)
	}
	if want := []string{"2001:db8::1", "a.example"}; !slices.Equal(o.Names, want) {
		t.Errorf("got names %q, want %q", o.Names, want)
	}
}
