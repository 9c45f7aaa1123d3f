package acmeclient

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// finalizeTest is a CA that gives these answers, and what is to come of it.
type finalizeTest struct {
	name     string
	status   string // of the order that Finalize gets; empty: ready
	finalize []reading
	order    []reading
	want     string // in the error; empty: the order becomes valid
	requests string // as letters: f finalize, o order
	took     time.Duration
}

func isOrder(status string, headers ...string) reading {
	return reading{200, orderBody(status), headers}
}

func TestFinalize(t *testing.T) {
	notReady := reading{403, problemBody("orderNotReady", "not yet"), nil}
	for _, test := range []finalizeTest{
		{name: "an order that is valid at once is not polled", finalize: []reading{isOrder(StatusValid)}, requests: "f"},
		{name: "a processing order is polled", finalize: []reading{isOrder(StatusProcessing)}, order: []reading{isOrder(StatusProcessing), isOrder(StatusValid)}, requests: "foo", took: 75 * time.Millisecond},
		{name: "Retry-After of the finalize reply is obeyed", finalize: []reading{isOrder(StatusProcessing, "Retry-After: 3")}, order: []reading{isOrder(StatusValid)}, requests: "fo", took: 3 * time.Second},
		{name: "a pending order is waited for", status: StatusPending, finalize: []reading{isOrder(StatusValid)}, order: []reading{isOrder(StatusPending), isOrder(StatusReady)}, requests: "oof", took: 75 * time.Millisecond},
		{name: "a processing order is not finalized again", status: StatusProcessing, order: []reading{isOrder(StatusValid)}, requests: "o", took: firstPause},
		{name: "a valid order is not finalized", status: StatusValid},
		{name: "an order that shows ready for a while is finalized once", finalize: []reading{isOrder(StatusReady)}, order: []reading{isOrder(StatusReady), isOrder(StatusReady), isOrder(StatusProcessing), isOrder(StatusValid)}, requests: "foooo", took: 375 * time.Millisecond},
		{name: "an order that stays ready is finalized a second time", finalize: []reading{isOrder(StatusReady), isOrder(StatusValid)}, order: []reading{isOrder(StatusReady)}, requests: "fooooooof", took: 3175 * time.Millisecond},
		{name: "an order that stays ready for ever is not finalized a third time", finalize: []reading{isOrder(StatusReady)}, order: []reading{isOrder(StatusReady)}, want: ErrWait.Error(), requests: "f+f+"},
		{name: "a lost reply is looked for: processing", finalize: []reading{{}}, order: []reading{isOrder(StatusProcessing), isOrder(StatusValid)}, requests: "foo", took: firstPause},
		{name: "a lost reply is looked for: valid", finalize: []reading{{}}, order: []reading{isOrder(StatusValid)}, requests: "fo"},
		{name: "a lost request is sent again", finalize: []reading{{}, isOrder(StatusValid)}, order: []reading{isOrder(StatusReady)}, requests: "foooooooof", took: 3175 * time.Millisecond},
		{name: "a request that is lost twice is an error", finalize: []reading{{}}, order: []reading{isOrder(StatusReady)}, want: errLost.Error(), requests: "foooooooofo"},
		{name: "a lost reply from a CA that is gone", finalize: []reading{{}}, order: []reading{{}}, want: errLost.Error(), requests: "fooo"},
		{name: "a lost reply and an order that failed", finalize: []reading{{}}, order: []reading{{200, `{"status": "invalid", "error": ` + problemBody("caa", "no") + `}`, nil}}, want: "caa: no", requests: "fo"},
		{name: "an unreadable reply is looked for", finalize: []reading{{200, "<html>", nil}}, order: []reading{isOrder(StatusValid)}, requests: "fo"},
		{name: "orderNotReady for an order that is valid", finalize: []reading{notReady}, order: []reading{isOrder(StatusValid)}, requests: "fo"},
		{name: "orderNotReady for an order that becomes ready", finalize: []reading{notReady, isOrder(StatusValid)}, order: []reading{isOrder(StatusPending), isOrder(StatusReady)}, requests: "foof", took: firstPause},
		{name: "malformed for an order that is valid", finalize: []reading{{400, problemBody("malformed", "already finalized"), nil}}, order: []reading{isOrder(StatusValid)}, requests: "fo"},
		{name: "a server error after which the order is processing", finalize: []reading{{500, "", nil}}, order: []reading{isOrder(StatusProcessing), isOrder(StatusValid)}, requests: "foo", took: firstPause},
		{name: "a server error after which the order is ready", finalize: []reading{{500, "oops", []string{"Retry-After: 60"}}}, order: []reading{isOrder(StatusReady)}, want: "oops", requests: "fo"},
		{name: "a bad CSR", finalize: []reading{{400, problemBody("badCSR", "weak key"), nil}}, order: []reading{isOrder(StatusReady)}, want: "badCSR: weak key", requests: "fo"},
		{name: "a limit", finalize: []reading{{429, problemBody("rateLimited", "slow down"), []string{"Retry-After: 3600"}}}, want: "slow down", requests: "f"},
		{name: "an order that fails", finalize: []reading{isOrder(StatusProcessing)}, order: []reading{{200, `{"status": "invalid", "error": ` + problemBody("caa", "no") + `}`, nil}}, want: "caa: no", requests: "fo", took: firstPause},
		{name: "an order that fails at once", finalize: []reading{{200, `{"status": "invalid"}`, nil}}, want: "does not say why", requests: "f"},
		{name: "an order that is invalid already", status: StatusInvalid, want: "does not say why"},
		{name: "an order in an unknown state", status: "lost", want: `the order is "lost"`},
		{name: "a valid order without certificate", finalize: []reading{{200, `{"status": "valid"}`, nil}}, want: "does not say where the certificate is", requests: "f"},
		{name: "a CA that needs more than a minute", finalize: []reading{isOrder(StatusProcessing, "Retry-After: 3600")}, want: ErrWait.Error(), requests: "f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkFinalize(t, test) })
		})
	}
}

func checkFinalize(t *testing.T, test finalizeTest) {
	f := newFakeCA()
	if test.finalize != nil {
		f.mux.HandleFunc("/finalize", answers(test.finalize...))
	}
	if test.order != nil {
		f.mux.HandleFunc("/order", answers(test.order...))
	}
	status := test.status
	if status == "" {
		status = StatusReady
	}
	o := &Order{URL: fakeBase + "/order", Status: status, Finalize: fakeBase + "/finalize"}
	if status == StatusValid {
		o.Certificate = fakeBase + "/cert"
	}
	before := *o
	start := time.Now()
	got, err := f.session(t).Finalize(t.Context(), o, []byte("csr"))
	took := time.Since(start)
	if test.want == "" {
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != StatusValid || got.Certificate != fakeBase+"/cert" || got.URL != o.URL {
			t.Errorf("got %+v, want a valid order", got)
		}
	} else {
		wantText(t, err, test.want)
		wantProblem(t, err)
		if got != nil {
			t.Errorf("got %+v with the error", got)
		}
	}
	if o.URL != before.URL || o.Status != before.Status || o.Certificate != before.Certificate {
		t.Errorf("the order has changed: got %+v, want %+v", *o, before)
	}
	checkRequests(t, f, test.requests)
	if !strings.Contains(test.requests, "+") && test.want == "" && took != test.took {
		t.Errorf("it took %v, want %v", took, test.took)
	}
}

// checkRequests compares the requests to the order; "+" stands for any number of looks at the order.
func checkRequests(t *testing.T, f *fakeCA, want string) {
	t.Helper()
	var got strings.Builder
	for _, r := range f.trace() {
		switch r {
		case "POST /finalize":
			got.WriteByte('f')
		case "POST /order":
			got.WriteByte('o')
		}
	}
	g := got.String()
	if strings.Contains(want, "+") {
		g = strings.ReplaceAll(strings.ReplaceAll(g, "o", "+"), "++", "+")
		for strings.Contains(g, "++") {
			g = strings.ReplaceAll(g, "++", "+")
		}
	}
	if g != want {
		t.Errorf("got requests %q, want %q", g, want)
	}
}

func TestFinalizeRefusesURLsThatAreNotHTTPS(t *testing.T) {
	f := newFakeCA()
	for _, url := range []string{"", "http://ca.test/finalize", "/finalize"} {
		_, err := f.session(t).Finalize(t.Context(), &Order{URL: fakeBase + "/order", Status: StatusReady, Finalize: url}, nil)
		wantText(t, err, "where the CA wants the CSR")
		wantProblem(t, err)
	}
	if got := f.trace(); len(got) != 0 {
		t.Errorf("got requests %q, want none", got)
	}
}

func TestFinalizeGoesOnAfterErrWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/finalize", answer(200, orderBody(StatusProcessing), "Retry-After: 7200"))
		f.mux.HandleFunc("/order", answers(isOrder(StatusProcessing), isOrder(StatusValid)))
		o := &Order{URL: fakeBase + "/order", Status: StatusReady, Finalize: fakeBase + "/finalize"}
		_, err := f.session(t).Finalize(t.Context(), o, []byte("csr"))
		if !errors.Is(err, ErrWait) {
			t.Fatalf("got %v, want ErrWait", err)
		}
		time.Sleep(time.Until(wantProblem(t, err).RetryAt))
		s := f.session(t)
		o, err = s.Order(t.Context(), o.URL)
		if err != nil {
			t.Fatal(err)
		}
		if o, err = s.Finalize(t.Context(), o, []byte("csr")); err != nil || o.Status != StatusValid {
			t.Errorf("got %+v, %v, want a valid order", o, err)
		}
		checkRequests(t, f, "foo")
	})
}

func TestFinalizeSendsTheCSROnlyToItsURL(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/finalize", func(w http.ResponseWriter, r *http.Request) {
		if got, want := payload(t, r), `{"csr":"Y3Ny"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		answer(200, orderBody(StatusValid), "Location: https://ca.test/cert")(w, r) // an old habit: it is not where the order is
	})
	o, err := f.session(t).Finalize(t.Context(), &Order{URL: fakeBase + "/order", Status: StatusReady, Finalize: fakeBase + "/finalize"}, []byte("csr"))
	if err != nil || o.URL != fakeBase+"/order" {
		t.Errorf("got %+v, %v, want the order's URL to stay", o, err)
	}
	if got, want := strings.Join(f.trace(), " "), "GET /directory HEAD /nonce POST /finalize"; got != want {
		t.Errorf("got requests %q, want %q", got, want)
	}
}
