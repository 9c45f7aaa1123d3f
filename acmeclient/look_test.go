package acmeclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lookCase is one of the requests that change nothing.
type lookCase struct {
	name string
	path string   // what is looked at
	good string   // answer
	head []string // its headers
	look func(ctx context.Context, s *Session) error
}

func lookCases() []lookCase {
	const look = fakeBase + "/look"
	processing := &Order{URL: look, Status: StatusProcessing}
	valid := &Order{URL: fakeBase + "/order", Status: StatusValid, Certificate: look}
	return []lookCase{
		{name: "an order", path: "POST /look", good: orderBody(StatusReady), look: func(ctx context.Context, s *Session) error {
			_, err := s.Order(ctx, look)
			return err
		}},
		{name: "an order that is waited for", path: "POST /look", good: orderBody(StatusReady), look: func(ctx context.Context, s *Session) error {
			_, err := s.WaitReady(ctx, look)
			return err
		}},
		{name: "an order that is finalized", path: "POST /look", good: orderBody(StatusValid), look: func(ctx context.Context, s *Session) error {
			_, err := s.Finalize(ctx, processing, nil)
			return err
		}},
		{name: "an authorization", path: "POST /look", good: authzBody(StatusValid), look: func(ctx context.Context, s *Session) error {
			_, err := s.Authorization(ctx, look)
			return err
		}},
		{name: "an authorization that is waited for", path: "POST /look", good: authzBody(StatusValid), look: func(ctx context.Context, s *Session) error {
			_, err := s.WaitAuthorization(ctx, look)
			return err
		}},
		{name: "a certificate", path: "POST /look", good: pemChain([]byte("leaf")), look: func(ctx context.Context, s *Session) error {
			_, _, err := s.Certificate(ctx, valid)
			return err
		}},
		{name: "the directory", path: "GET /directory", good: fakeDirectory, look: func(ctx context.Context, s *Session) error {
			_, err := s.client.Directory(ctx)
			return err
		}},
		{name: "the directory before a request", path: "GET /directory", good: fakeDirectory, look: func(ctx context.Context, s *Session) error {
			_, err := s.Order(ctx, fakeBase+"/order")
			return err
		}},
		{name: "a nonce", path: "HEAD /nonce", head: []string{"Replay-Nonce: abc"}, look: func(ctx context.Context, s *Session) error {
			_, err := s.Order(ctx, fakeBase+"/order")
			return err
		}},
		{name: "a nonce for a request with an effect", path: "HEAD /nonce", head: []string{"Replay-Nonce: abc"}, look: func(ctx context.Context, s *Session) error {
			_, err := s.NewOrder(ctx, OrderRequest{Names: []string{"a.example"}})
			return err
		}},
		{name: "renewal information", path: "GET /ari/" + testCertID, good: testWindow, look: func(ctx context.Context, s *Session) error {
			_, err := s.client.RenewalInfo(ctx, testCertID)
			return err
		}},
	}
}

// ca returns a CA that gives these answers to the look, and good ones to all else.
func (c lookCase) ca(readings ...reading) *fakeCA {
	f := &fakeCA{mux: http.NewServeMux()}
	_, path, _ := strings.Cut(c.path, " ")
	f.mux.HandleFunc(path, answers(readings...))
	if path != "/directory" {
		f.mux.HandleFunc("/directory", answer(200, fakeDirectory))
	}
	if path != "/nonce" {
		f.mux.HandleFunc("/nonce", func(w http.ResponseWriter, r *http.Request) { f.addNonce(w.Header()) })
	}
	f.mux.HandleFunc("/order", answer(200, orderBody(StatusReady)))
	f.mux.HandleFunc("/new-order", answer(201, orderBody(StatusPending), "Location: https://ca.test/order"))
	return f
}

// posts counts all signed requests but those for the look.
func (c lookCase) posts(f *fakeCA) int {
	n := 0
	for _, r := range f.trace() {
		if strings.HasPrefix(r, "POST ") && r != c.path {
			n++
		}
	}
	return n
}

// failings are what a look may end with that is worth another.
var failings = map[string]reading{
	"is lost":              {},
	"is answered with 500": {500, problemBody("serverInternal", "oops"), nil},
	"is answered with 503": {503, "<html>", []string{"Retry-After: Sat, 01 Jan 1994 00:00:00 GMT"}},
	"is answered with what is something else": {200, "<html>", nil},
	"is answered with nothing":                {200, "", nil},
	"is answered with null":                   {200, "null", nil},
}

func TestALookThatFailsIsRepeated(t *testing.T) {
	for _, c := range lookCases() {
		for what, failing := range failings {
			t.Run(c.name+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for n := range 3 {
						readings := append([]reading{failing, failing}[:n:n], reading{200, c.good, c.head})
						f := c.ca(readings...)
						start := time.Now()
						if err := c.look(t.Context(), f.session(t)); err != nil {
							t.Fatalf("%d times: %v", n, err)
						}
						if got := f.count(c.path); got != n+1 {
							t.Errorf("%d times: got %d requests, want %d: %q", n, got, n+1, f.trace())
						}
						want := []time.Duration{0, 100 * time.Millisecond, 600 * time.Millisecond}[n]
						if got := time.Since(start); got != want && c.name != "an order that is finalized" {
							t.Errorf("%d times: it took %v, want %v", n, got, want)
						}
					}
				})
			})
		}
	}
}

func TestALookThatFailsThreeTimesIsAProblem(t *testing.T) {
	for _, c := range lookCases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := c.ca(reading{}, reading{200, "", nil}, reading{502, "the last", nil}, reading{200, c.good, c.head})
				p := wantProblem(t, c.look(t.Context(), f.session(t)))
				if got, want := p.URL, fakeBase+c.path[strings.Index(c.path, "/"):]; p.Status != 502 || got != want {
					t.Errorf("got %+v, want status 502 of %s", p, want)
				}
				if p.Detail != "the last" && !strings.HasPrefix(c.path, "HEAD") {
					t.Errorf("got %q, want the last", p.Detail)
				}
				if got := f.count(c.path); got != 3 {
					t.Errorf("got %d requests, want 3: %q", got, f.trace())
				}
				if got := c.posts(f); got != 0 {
					t.Errorf("got %d requests with the look's failure, want none: %q", got, f.trace())
				}
			})
		})
	}
}

func TestALookIsNotRepeatedWhereTheCAHasAnswered(t *testing.T) {
	for what, refusal := range map[string]reading{
		"that there is a limit":        {429, problemBody("rateLimited", "slow down"), nil},
		"that there is a limit, oddly": {503, problemBody("rateLimited", "slow down"), nil},
		"when to come back":            {503, "", []string{"Retry-After: 7"}},
		"when to come back, in words":  {500, problemBody("serverInternal", "retry after 2000-01-01 07:00:00 UTC"), nil},
		"with garbage, and when":       {200, "", []string{"Retry-After: 7"}},
		"that it is not there":         {404, problemBody("malformed", "gone"), nil},
		"that it is not allowed":       {403, problemBody("unauthorized", "no"), nil},
		"from elsewhere":               {302, "", []string{"Location: https://elsewhere.test/"}},
		"with no end":                  {200, strings.Repeat(" ", maxBody+1), nil},
	} {
		for _, c := range lookCases() {
			if strings.HasPrefix(c.path, "HEAD") && (strings.Contains(what, "oddly") || strings.Contains(what, "words")) {
				continue // replies to HEAD have no body
			}
			t.Run(c.name+": "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := c.ca(refusal)
					err := c.look(t.Context(), f.session(t))
					p := wantProblem(t, err)
					if got := f.count(c.path); got != 1 {
						t.Errorf("got %d requests, want 1: %v", got, err)
					}
					if refusal.headers != nil && refusal.status == 503 && time.Until(p.RetryAt) <= 0 {
						t.Errorf("got %+v, want it to say when", p)
					}
				})
			})
		}
	}
}

func TestARequestWithAnEffectIsNotRepeated(t *testing.T) {
	order := func(status string) *Order {
		return &Order{URL: fakeBase + "/order", Status: status, Finalize: fakeBase + "/effect"}
	}
	for name, do := range map[string]func(ctx context.Context, s *Session) error{
		"newAccount": func(ctx context.Context, s *Session) error {
			_, err := s.client.Register(ctx, s.key, nil, true)
			return err
		},
		"the search for an account": func(ctx context.Context, s *Session) error {
			_, err := s.client.Lookup(ctx, s.key)
			return err
		},
		"newOrder": func(ctx context.Context, s *Session) error {
			_, err := s.NewOrder(ctx, OrderRequest{Names: []string{"a.example"}})
			return err
		},
		"finalize": func(ctx context.Context, s *Session) error {
			_, err := s.Finalize(ctx, order(StatusReady), nil)
			return err
		},
		"contacts": func(ctx context.Context, s *Session) error {
			_, err := s.UpdateContacts(ctx, nil)
			return err
		},
		"revocation": func(ctx context.Context, s *Session) error {
			return s.Revoke(ctx, newAuthority(t, "x", nil, nil).der, Superseded)
		},
	} {
		for what, failing := range map[string]reading{"is lost": {}, "is answered with 500": {500, "", nil}, "is answered with garbage": {200, "<html>", nil}} {
			t.Run(name+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFakeCA()
					f.mux = http.NewServeMux()
					f.mux.HandleFunc("/directory", answer(200, `{"newNonce": "https://ca.test/nonce", "newAccount": "https://ca.test/effect",
						"newOrder": "https://ca.test/effect", "revokeCert": "https://ca.test/effect"}`))
					f.mux.HandleFunc("/nonce", func(w http.ResponseWriter, r *http.Request) { f.addNonce(w.Header()) })
					f.mux.HandleFunc("/effect", answers(failing))
					f.mux.HandleFunc("/order", answer(200, orderBody(StatusInvalid)))
					err := do(t.Context(), f.client(t).Session(testKey(t, P256), fakeBase+"/effect"))
					if err == nil && !(name == "revocation" && failing.status == 200) {
						t.Error("got no error, want one")
					}
					want := 1
					if name == "newAccount" && failing.status == 200 {
						want = 2 // the account's URL was not in it: it is looked up
					}
					if got := f.count("POST /effect"); got != want {
						t.Errorf("got %d requests, want %d: %v", got, want, err)
					}
				})
			})
		}
	}
}

func TestARepeatedLookEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(500, "oops"))
		s := f.session(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		time.AfterFunc(350*time.Millisecond, cancel)
		_, err := s.Order(ctx, fakeBase+"/order")
		if wantProblem(t, err); !errors.Is(err, context.Canceled) || time.Since(start) != 350*time.Millisecond {
			t.Errorf("got %v after %v, want context.Canceled after 350ms", err, time.Since(start))
		}
		if got := f.count("POST /order"); got != 2 {
			t.Errorf("got %d requests, want 2", got)
		}

		ctx, cancel = context.WithCancel(t.Context())
		f.mux.HandleFunc("/last", func(w http.ResponseWriter, r *http.Request) { cancel(); answer(500, "oops")(w, r) })
		_, err = s.Order(ctx, fakeBase+"/last")
		if p := wantProblem(t, err); p.Status != 500 {
			t.Errorf("got %v, want what the CA has said last", err)
		}

		ctx, cancel = context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		start = time.Now()
		_, err = s.Order(ctx, fakeBase+"/order")
		if p := wantProblem(t, err); p.Status != 500 || time.Since(start) != 100*time.Millisecond {
			t.Errorf("got %v after %v, want the CA's problem after 100ms: there is no time for more", err, time.Since(start))
		}
		if got := f.count("POST /order"); got != 4 {
			t.Errorf("got %d requests, want 4", got)
		}
	})
}

func TestAChainThatBreaksOffIsAskedForAgain(t *testing.T) {
	issuer := newAuthority(t, "issuer", nil, nil)
	whole := pemChain(issuer.leaf(t, testKey(t, P256).Public(), nil), issuer.der)
	second := strings.LastIndex(whole, "-----BEGIN")
	order := &Order{Status: StatusValid, Certificate: fakeBase + "/cert"}
	for _, end := range []int{second + 6, second + 15, second + 200, len(whole) - 10} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeCA()
			f.mux.HandleFunc("/cert", answers(reading{200, whole[:end], nil}, reading{200, whole, nil}))
			chain, warnings, err := f.session(t).Certificate(t.Context(), order)
			if err != nil || len(chain) != 2 || len(warnings) != 0 || f.count("POST /cert") != 2 {
				t.Errorf("cut at %d: got %d certificates, %q, %v after %d requests, want 2 after 2", end, len(chain), warnings, err, f.count("POST /cert"))
			}
			f = newFakeCA()
			f.mux.HandleFunc("/cert", answer(200, whole[:end]))
			chain, warnings, err = f.session(t).Certificate(t.Context(), order)
			if err != nil || len(chain) != 1 || len(warnings) != 1 || f.count("POST /cert") != 3 {
				t.Errorf("cut at %d each time: got %d certificates, %q, %v after %d requests, want 1 and a warning after 3", end, len(chain), warnings, err, f.count("POST /cert"))
			}
			f = newFakeCA()
			f.mux.HandleFunc("/cert", answers(reading{200, whole[:end], nil}, reading{}))
			if chain, _, err = f.session(t).Certificate(t.Context(), order); err == nil {
				t.Errorf("cut at %d, then lost: got %d certificates, want an error: another attempt may get all", end, len(chain))
			}
		})
	}
}

func TestAlternateChainsAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, right := alternateCA(t, 1)
		f.mux.HandleFunc("/alt/0", answers(reading{}, reading{500, "", nil}, reading{200, right, nil}))
		chain, _, err := f.session(t).ChainTo(t.Context(), &Order{Status: StatusValid, Certificate: fakeBase + "/cert"}, "wanted")
		if err != nil || rootOf(chain) != "wanted" || f.count("POST /alt/0") != 3 {
			t.Errorf("got a chain to %q, %v, after %d requests, want it after 3", rootOf(chain), err, f.count("POST /alt/0"))
		}
	})
}

func TestLostRequestsThatWillBeLostAgainAreNotRepeated(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int // requests
	}{
		{syscall.ECONNRESET, 3},
		{&net.DNSError{Err: "server misbehaving", IsTemporary: true}, 3},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, 1},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 1},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			c, err := New(CA{URL: fakeBase + "/directory"}, &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				n++
				return nil, test.err
			})}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = c.Directory(t.Context()); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if n != test.want {
				t.Errorf("%v: got %d requests, want %d", test.err, n, test.want)
			}
		})
	}
}

func TestEachRepetitionIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		f := newFakeCA()
		f.mux.HandleFunc("/order", answers(reading{}, reading{500, "oops", nil}, reading{200, orderBody(StatusReady), nil}))
		c, err := New(CA{URL: fakeBase + "/directory"}, &http.Client{Transport: f}, slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Session(testKey(t, P256), fakeBase+"/account/1").Order(t.Context(), fakeBase+"/order"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(b.String(), `level=DEBUG msg="asking the CA again" url=https://ca.test/order in=`); got != 2 {
			t.Errorf("got %d lines, want 2:\n%s", got, &b)
		}
	})
}
