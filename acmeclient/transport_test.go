package acmeclient

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestURLsThatTheCAGivesMustBeHTTPS(t *testing.T) {
	for _, url := range []string{"http://ca.test/order", "http://127.0.0.1/order", "ftp://ca.test/order", "/order", "", "https://u:secret@ca.test/order"} {
		f := newFakeCA()
		_, err := f.session(t).Order(t.Context(), url)
		wantText(t, err, "which the CA gave")
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
		if got := f.count("POST /order"); got != 0 {
			t.Errorf("%q: got %d requests, want none", url, got)
		}
	}
}

func TestPlainHTTPOnLoopbackIfAllowed(t *testing.T) {
	server := httptest.NewServer(answer(200, `{"newNonce": "http://localhost/n", "newAccount": "http://[::1]/a", "newOrder": "http://127.0.0.1:1/o"}`))
	defer server.Close()
	c, err := New(CA{URL: server.URL, PlainLoopback: true}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Directory(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(status, "", "Location: https://elsewhere.test/order"))
		_, err := f.session(t).Order(t.Context(), fakeBase+"/order")
		wantText(t, err, "https://elsewhere.test/order")
		if got, want := strings.Join(f.trace(), " "), "GET /directory HEAD /nonce POST /order"; got != want {
			t.Errorf("%d: got requests %q, want %q", status, got, want)
		}
	}
}

func TestHugeRepliesAreRefused(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/order", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, orderBody(StatusReady))
		w.Write(bytes.Repeat([]byte(" "), maxBody))
	})
	f.mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		body := orderBody(StatusReady)
		io.WriteString(w, body)
		w.Write(bytes.Repeat([]byte(" "), maxBody-len(body)))
	})
	s := f.session(t)
	_, err := s.Order(t.Context(), fakeBase+"/order")
	wantText(t, err, fmt.Sprintf("larger than %d bytes", maxBody))
	if p := wantProblem(t, err); p.Permanent() {
		t.Error("got permanent, want not")
	}
	if _, err := s.Order(t.Context(), fakeBase+"/large"); err != nil {
		t.Errorf("a reply of the largest size: %v", err)
	}
}

func TestAReplyThatBreaksOffIsAnError(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "{")
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	defer server.Close()
	c, err := New(CA{URL: server.URL, PlainLoopback: true}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Directory(t.Context())
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
	}
	wantText(t, err, "broke off")
}

func TestAnAccountKeyThatACMECannotUseIsAnError(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeCA()
	_, err = f.client(t).Register(t.Context(), key, nil, true)
	wantText(t, err, "only RSA and ECDSA are supported")
	wantProblem(t, err)
	a, err := (&Session{key: key}).decodeAuthorization("look", fakeBase, &reply{body: []byte(authzBody(StatusPending, `{"type": "http-01", "token": "abc"}`))})
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, a.Challenges[0].Problem, "only RSA and ECDSA are supported")
}

func TestHugeRequestsAreRefused(t *testing.T) {
	f := newFakeCA()
	req, err := http.NewRequest(http.MethodPost, fakeBase+"/order", bytes.NewReader(make([]byte, maxBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.client(t).transport.RoundTrip(req)
	wantText(t, err, "the request is larger")
}

func TestARequestThatHangsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(r.Context().Err())
		})
		start := time.Now()
		_, err := f.session(t).Order(t.Context(), fakeBase+"/order")
		wantText(t, err, "no complete answer within 3m0s")
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want no error of a context: the caller's has not ended", err)
		}
		if got, want := time.Since(start), 3*requestLimit+600*time.Millisecond; got != want {
			t.Errorf("got %v, want %v: a look is repeated twice", got, want)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = f.session(t).Order(ctx, fakeBase+"/order")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		wantProblem(t, err)
	})
}

func TestTheTimeoutOfTheHTTPClientBoundsRequests(t *testing.T) {
	c, err := New(CA{}, &http.Client{Timeout: time.Second, Transport: newFakeCA()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.transport.limit; got != time.Second {
		t.Errorf("got %v, want 1s", got)
	}
}

func TestNoncesThatAServerAtFaultRefusesEndTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(500, problemBody("badNonce", "stale")))
		_, err := f.session(t).Order(t.Context(), fakeBase+"/order")
		if p := wantProblem(t, err); p.Kind() != "badNonce" {
			t.Errorf("got %v, want badNonce", err)
		}
		if got := f.count("POST /order"); got != 1+maxBadNonces {
			t.Errorf("got %d requests, want %d, and the look not repeated besides", got, 1+maxBadNonces)
		}
	})
}

func TestNoncesAreNotWasted(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/order", answer(200, orderBody(StatusReady)))
	c := f.client(t)
	key := testKey(t, P256)
	for range 3 { // each a session of its own
		if _, err := c.Session(key, fakeBase+"/account/1").Order(t.Context(), fakeBase+"/order"); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := strings.Join(f.trace(), " "), "GET /directory HEAD /nonce POST /order POST /order POST /order"; got != want {
		t.Errorf("got requests %q, want %q", got, want)
	}
}

func TestARefusedNonceIsReplacedByTheOneThatCameWithTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		refusal := reading{400, problemBody("badNonce", "stale"), nil}
		f.mux.HandleFunc("/order", answers(refusal, refusal, refusal, reading{200, orderBody(StatusReady), nil}))
		s := f.session(t)
		s.client.transport.nonces.put("old", time.Now())
		s.client.transport.nonces.put("older", time.Now())
		if _, err := s.Order(t.Context(), fakeBase+"/order"); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(f.trace(), " "), "GET /directory POST /order POST /order POST /order POST /order"; got != want {
			t.Errorf("got requests %q, want %q", got, want)
		}
		if got := s.client.transport.nonces.take(time.Now()); got != "nonce-4" {
			t.Errorf("got nonce %q left, want nonce-4, from the last reply", got)
		}
	})
}

func TestNoncesThatAreAlwaysRefusedEndTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/order", answer(400, problemBody("badNonce", "no")))
		_, err := f.session(t).Order(t.Context(), fakeBase+"/order")
		if got := wantProblem(t, err).Kind(); got != "badNonce" {
			t.Errorf("got kind %q, want badNonce", got)
		}
		if got, want := f.count("POST /order"), 1+maxBadNonces; got != want {
			t.Errorf("got %d requests, want %d", got, want)
		}
	})
}

func TestACAWithoutNoncesIsAnError(t *testing.T) {
	for name, test := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"no nonce":         {answer(200, ""), "without one"},
		"an invalid nonce": {answer(200, "", "Replay-Nonce: a b"), "without one"},
		"an error":         {answer(503, "", "Retry-After: 7"), "503"},
		"a lost reply":     {answers(reading{}), errLost.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/none", test.h)
				f.mux.HandleFunc("/dir", answer(200, strings.Replace(fakeDirectory, "/nonce", "/none", 1)))
				c, err := New(CA{URL: fakeBase + "/dir"}, &http.Client{Transport: f}, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Session(testKey(t, P256), fakeBase+"/account/1").Order(t.Context(), fakeBase+"/order")
				wantText(t, err, test.want)
				if p := wantProblem(t, err); name == "an error" && p.RetryAt.IsZero() {
					t.Errorf("got %v, want it to say when to ask again", p)
				}
			})
		})
	}
}

func TestLimitsAndOutagesAreNotRetriedWithinACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			status int
			header string
			want   time.Duration
		}{
			{429, "Retry-After: 3600", time.Hour},
			{429, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", maxRetryAfter},
			{429, "Retry-After: Sat, 01 Jan 1994 00:00:00 GMT", 0},
			{429, "X-None: 1", 0},
			{500, "Retry-After: 60", time.Minute},
			{503, "Retry-After: -1", 0},
		} {
			f := newFakeCA()
			f.mux.HandleFunc("/new-order", answer(test.status, problemBody("rateLimited", "too many"), test.header, `Link: <https://ca.test/limits>;rel="help"`))
			start := time.Now()
			_, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}})
			p := wantProblem(t, err)
			if got := f.count("POST /new-order"); got != 1 {
				t.Errorf("%d %s: got %d requests, want 1", test.status, test.header, got)
			}
			if time.Since(start) != 0 {
				t.Errorf("%d %s: it took %v, want no time", test.status, test.header, time.Since(start))
			}
			var got time.Duration
			if !p.RetryAt.IsZero() {
				got = time.Until(p.RetryAt)
			}
			if got != test.want || p.Permanent() || p.Help != "https://ca.test/limits" || p.Name != "a.example" {
				t.Errorf("%d %s: got %+v in %v, want in %v, not permanent, with help and name", test.status, test.header, p, got, test.want)
			}
		}
	})
}

func TestRetryAfterIsMadeHarmlessBeforeXCryptoSeesIt(t *testing.T) {
	for header, want := range map[string]string{"Sat, 01 Jan 1994 00:00:00 GMT": "", "garbage": "", "9999999999999": "172800", "5": "5"} {
		r := &reply{status: 503, header: http.Header{"Retry-After": {header}}, at: testNow}
		if got := r.response(nil).Header.Get("Retry-After"); got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}

func TestRequestsSayWhoAsksAndAreLogged(t *testing.T) {
	f := newFakeCA()
	var agents []string
	f.mux.HandleFunc("/order", func(w http.ResponseWriter, r *http.Request) {
		agents = append(agents, r.UserAgent())
		answer(200, orderBody(StatusReady))(w, r)
	})
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c, err := New(CA{URL: fakeBase + "/directory"}, &http.Client{Transport: f}, log)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Session(testKey(t, P256), fakeBase+"/account/1")
	if _, err := s.Order(t.Context(), fakeBase+"/order"); err != nil {
		t.Fatal(err)
	}
	if len(agents) != 1 || !strings.HasPrefix(agents[0], "manageddomains-md") {
		t.Errorf("got User-Agent %q, want manageddomains-md", agents)
	}
	if !strings.Contains(text.String(), "url=https://ca.test/order status=200") {
		t.Errorf("got log %s, want the request in it", text.String())
	}
}

func TestNewUsesTheGivenTransport(t *testing.T) {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(&x509.Certificate{Raw: []byte("root")})
	withRoots := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: others}}
	for _, test := range []struct {
		name      string
		base      *http.Client
		roots     *x509.CertPool
		wantRoots *x509.CertPool
		same      bool // the transport itself, not a copy
	}{
		{"none: its own", nil, roots, roots, false},
		{"a plain one with roots: a copy", &http.Client{Transport: &http.Transport{}}, roots, roots, false},
		{"a plain one without roots: itself", &http.Client{Transport: &http.Transport{}}, nil, nil, true},
		{"one that has roots: itself", &http.Client{Transport: withRoots}, roots, others, true},
		{"the zero http.Client: a copy of the default", &http.Client{}, roots, roots, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := New(CA{Roots: test.roots}, test.base, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			got, ok := c.transport.base.(*http.Transport)
			if !ok {
				t.Fatalf("got %T, want *http.Transport", c.transport.base)
			}
			var gotRoots *x509.CertPool
			if got.TLSClientConfig != nil {
				gotRoots = got.TLSClientConfig.RootCAs
			}
			if gotRoots != test.wantRoots {
				t.Errorf("got other roots than wanted")
			}
			if same := test.base != nil && got == test.base.Transport; same != test.same {
				t.Errorf("got the transport itself: %v, want %v", same, test.same)
			}
			if got == http.DefaultTransport {
				t.Error("got http.DefaultTransport itself, want a copy")
			}
		})
	}
	c, err := New(CA{Name: "LetsEncrypt"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.CA(), (CA{Name: "letsencrypt", URL: letsEncryptURL}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := New(CA{Name: "nobody"}, nil, nil); err == nil {
		t.Error("got no error for an unknown CA, want one")
	}
}
