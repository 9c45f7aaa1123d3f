package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewOrderSendsWhatIsAsked(t *testing.T) {
	for _, test := range []struct {
		name    string
		request OrderRequest
		dir     string
		want    string
	}{
		{"names", OrderRequest{Names: []string{"*.a.example", "192.0.2.1", "2001:DB8::1"}}, fakeDirectory,
			`{"identifiers":[{"type":"dns","value":"*.a.example"},{"type":"ip","value":"192.0.2.1"},{"type":"ip","value":"2001:db8::1"}]}`},
		{"a profile", OrderRequest{Names: []string{"a.example"}, Profile: "short"}, fakeDirectory,
			`{"identifiers":[{"type":"dns","value":"a.example"}],"profile":"short"}`},
		{"what it replaces", OrderRequest{Names: []string{"a.example"}, Profile: "short", Replaces: "x.y"}, fakeDirectory,
			`{"identifiers":[{"type":"dns","value":"a.example"}],"profile":"short","replaces":"x.y"}`},
		{"not what it replaces to a CA without renewal information", OrderRequest{Names: []string{"a.example"}, Replaces: "x.y"}, strings.Replace(fakeDirectory, "renewalInfo", "other", 1),
			`{"identifiers":[{"type":"dns","value":"a.example"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeCA()
			f.mux.HandleFunc("/dir", answer(200, test.dir))
			var got string
			f.mux.HandleFunc("/new-order", func(w http.ResponseWriter, r *http.Request) {
				got = payload(t, r)
				answer(201, orderBody(StatusPending), "Location: https://ca.test/order")(w, r)
			})
			c, err := New(CA{URL: fakeBase + "/dir"}, &http.Client{Transport: f}, nil)
			if err != nil {
				t.Fatal(err)
			}
			o, err := c.Session(testKey(t, P256), fakeBase+"/account/1").NewOrder(t.Context(), test.request)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got, want := fmt.Sprint(*o), "{https://ca.test/order pending [a.example] [https://ca.test/authz] https://ca.test/finalize  0001-01-01 00:00:00 +0000 UTC  <nil> false []}"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestNewOrderIsRepeatedWithoutReplacesIfThatIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   int // requests
	}{
		{"alreadyReplaced", 409, problemBody("alreadyReplaced", "twice"), 2},
		{"a conflict without a type", 409, "", 2},
		{"another account's certificate", 403, problemBody("unauthorized", "requester account did not request the certificate being replaced by this order"), 2},
		{"a server that breaks on it", 500, problemBody("serverInternal", "Error finding replaced order"), 2},
		{"a malformed certificate ID", 400, problemBody("malformed", "parsing ARI CertID failed"), 2},
		{"a server that breaks on it in its own words", 500, problemBody("serverInternal", "could not find an order for the given certificate"), 2},
		{"a name", 400, problemBody("rejectedIdentifier", "not that one"), 1},
		{"an outage", 503, "", 1},
		{"a limit", 429, problemBody("rateLimited", "too many replacements"), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeCA()
			var payloads []string
			f.mux.HandleFunc("/new-order", func(w http.ResponseWriter, r *http.Request) {
				p := payload(t, r)
				payloads = append(payloads, p)
				if strings.Contains(p, "replaces") {
					answer(test.status, test.body)(w, r)
					return
				}
				answer(201, orderBody(StatusReady), "Location: https://ca.test/order")(w, r)
			})
			_, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Replaces: "x.y"})
			if (err == nil) != (test.want == 2) || len(payloads) != test.want {
				t.Errorf("got requests %q and error %v, want %d", payloads, err, test.want)
			}
		})
	}
}

func TestNewOrderRefuses(t *testing.T) {
	f := newFakeCA()
	s := f.session(t)
	_, err := s.NewOrder(t.Context(), OrderRequest{})
	wantText(t, err, "no names")
	_, err = s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}, Profile: "long", ProfileRequired: true})
	wantText(t, err, "it offers short")
	if p := wantProblem(t, err); !p.Permanent() || p.Kind() != "invalidProfile" {
		t.Errorf("got %+v, want a permanent invalidProfile", p)
	}
	if got := f.count("POST /new-order"); got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
}

func TestUnusableOrdersAreRefused(t *testing.T) {
	for _, test := range []struct{ name, body, location, want string }{
		{"no Location", orderBody(StatusPending), "", "does not say the order's URL"},
		{"garbage", "<html>", "https://ca.test/order", "not JSON"},
		{"nothing", "", "https://ca.test/order", "not JSON"},
		{"no status", "{}", "https://ca.test/order", "no status"},
		{"a status that is a number", `{"status": 1}`, "https://ca.test/order", "no status"},
		{"very many authorizations", `{"status": "pending", "authorizations": [` + strings.Repeat(`"",`, maxAuthorizations) + `""]}`, "https://ca.test/order", "more than 1000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/new-order", answer(201, test.body, "Location: "+test.location))
				f.mux.HandleFunc("/order", answer(200, test.body))
				_, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}})
				wantText(t, err, test.want)
				wantProblem(t, err)
			})
		})
	}
}

func TestAnOrderWithAnUnreadableReplyIsLookedAt(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/new-order", answer(201, "<html>", "Location: https://ca.test/order"))
	f.mux.HandleFunc("/order", answer(200, orderBody(StatusReady)))
	o, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}})
	if err != nil || o.Status != StatusReady || o.URL != fakeBase+"/order" {
		t.Errorf("got %+v, %v, want the order", o, err)
	}
}

func TestAnOrderKeepsItsURLAndTime(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/order", answer(200, `{"status": "invalid", "expires": "2026-11-21T12:00:00Z", "error": `+problemBody("caa", "no")+`}`, "Location: https://ca.test/elsewhere"))
	f.mux.HandleFunc("/odd", answer(200, `{"status": "ready", "expires": "tomorrow", "identifiers": "none"}`))
	s := f.session(t)
	o, err := s.Order(t.Context(), fakeBase+"/order")
	if err != nil {
		t.Fatal(err)
	}
	if o.URL != fakeBase+"/order" || !o.Expires.Equal(testNow) || o.Problem == nil || o.Problem.Kind() != "caa" {
		t.Errorf("got %+v", o)
	}
	if o, err = s.Order(t.Context(), fakeBase+"/odd"); err != nil || o.Status != StatusReady || !o.Expires.IsZero() {
		t.Errorf("got %+v, %v, want what can be read", o, err)
	}
}

func TestWaitReadyAsksAgainAfterLongerAndLongerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		start := time.Now()
		var at []time.Duration
		f.mux.HandleFunc("/order", func(w http.ResponseWriter, r *http.Request) {
			at = append(at, time.Since(start))
			status := StatusPending
			if len(at) == 11 {
				status = StatusReady
			}
			answer(200, orderBody(status), "Retry-After: Sat, 01 Jan 1994 00:00:00 GMT")(w, r) // a date in the past is no reason to hurry
		})
		if _, err := f.session(t).WaitReady(t.Context(), fakeBase+"/order"); err != nil {
			t.Fatal(err)
		}
		const want = "[0s 25ms 75ms 175ms 375ms 775ms 1.575s 3.175s 6.375s 11.375s 16.375s]"
		if got := fmt.Sprint(at); got != want {
			t.Errorf("got requests at %s, want %s", got, want)
		}
	})
}

func TestWaitReadyObeysRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answers(reading{200, orderBody(StatusPending), []string{"Retry-After: 40"}}, reading{200, orderBody(StatusValid), nil}))
		start := time.Now()
		o, err := f.session(t).WaitReady(t.Context(), fakeBase+"/order")
		if err != nil || o.Status != StatusValid {
			t.Fatalf("got %v, %v", o, err)
		}
		if got := time.Since(start); got != 40*time.Second {
			t.Errorf("got %v, want 40s", got)
		}
	})
}

func TestALongWaitEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for header, want := range map[string]time.Duration{"61": 61 * time.Second, "86400": 24 * time.Hour, "Fri, 31 Dec 9999 23:59:59 GMT": maxRetryAfter} {
			f := newFakeCA()
			f.mux.HandleFunc("/order", answer(200, orderBody(StatusPending), "Retry-After: "+header))
			start := time.Now()
			_, err := f.session(t).WaitReady(t.Context(), fakeBase+"/order")
			if !errors.Is(err, ErrWait) {
				t.Fatalf("%s: got %v, want ErrWait", header, err)
			}
			p := wantProblem(t, err)
			if got := time.Until(p.RetryAt); got != want || p.Permanent() || time.Since(start) != 0 {
				t.Errorf("%s: got retry in %v after %v, want %v at once", header, got, time.Since(start), want)
			}
		}
	})
}

func TestWaitingForEverEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(200, orderBody(StatusPending)))
		start := time.Now()
		_, err := f.session(t).WaitReady(t.Context(), fakeBase+"/order")
		if !errors.Is(err, ErrWait) || wantProblem(t, err).RetryAt.Before(time.Now()) {
			t.Errorf("got %v, want ErrWait with a time to come", err)
		}
		if got := time.Since(start); got > maxWaits {
			t.Errorf("it took %v, want at most %v", got, maxWaits)
		}
		if got := f.count("POST /order"); got > 80 {
			t.Errorf("got %d requests, want not that many", got)
		}
	})
}

func TestWaitReadyFailsWithTheCAsReason(t *testing.T) {
	for _, test := range []struct{ body, want string }{
		{`{"status": "invalid", "error": ` + problemBody("caa", "CAA forbids") + `}`, "caa: CAA forbids"},
		{`{"status": "invalid"}`, "does not say why"},
		{`{"status": "lost\u202e"}`, `the order is "lost?"`},
	} {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(200, test.body))
		_, err := f.session(t).WaitReady(t.Context(), fakeBase+"/order")
		wantText(t, err, test.want)
		if p := wantProblem(t, err); p.URL != fakeBase+"/order" || p.Op == "" {
			t.Errorf("got %+v, want it to say what failed and where", p)
		}
	}
	f := newFakeCA()
	f.mux.HandleFunc("/order", answer(404, problemBody("malformed", "No such order")))
	_, err := f.session(t).WaitReady(t.Context(), fakeBase+"/order")
	if p := wantProblem(t, err); p.Status != 404 || p.Permanent() {
		t.Errorf("got %+v, want status 404, not permanent", p)
	}
}

func TestWaitingObeysTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(200, orderBody(StatusPending), "Retry-After: 30"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := f.session(t).WaitReady(ctx, fakeBase+"/order")
		if !errors.Is(err, ctx.Err()) || ctx.Err() == nil || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want the context's error after 1s", err, time.Since(start))
		}
		wantProblem(t, err)
	})
}
