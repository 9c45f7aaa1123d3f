package acmeclient

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeCA answers what a test wants it to, without checking anything. It is for what a CA must not do; acmetest is for what it may.
type fakeCA struct {
	mux *http.ServeMux

	mu       sync.Mutex // guards all below
	requests []string   // "POST /order"
	nonces   int        // handed out
}

const fakeBase = "https://ca.test"

const fakeDirectory = `{
	"newNonce": "https://ca.test/nonce", "newAccount": "https://ca.test/account", "newOrder": "https://ca.test/new-order",
	"renewalInfo": "https://ca.test/ari",
	"meta": {"profiles": {"short": "https://ca.test/short"}}
}`

// newFakeCA returns a CA with a directory and nonces.
func newFakeCA() *fakeCA {
	f := &fakeCA{mux: http.NewServeMux()}
	f.mux.HandleFunc("/directory", answer(200, fakeDirectory))
	f.mux.HandleFunc("/nonce", func(w http.ResponseWriter, r *http.Request) { f.addNonce(w.Header()) })
	return f
}

func (f *fakeCA) addNonce(h http.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nonces++
	h.Set("Replay-Nonce", fmt.Sprintf("nonce-%d", f.nonces))
}

// RoundTrip serves a request in process. Replies to POST have a nonce.
func (f *fakeCA) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.requests = append(f.requests, req.Method+" "+req.URL.Path)
	f.mu.Unlock()
	w := httptest.NewRecorder()
	if req.Method == http.MethodPost {
		f.addNonce(w.Header())
	}
	var lost error
	func() {
		defer func() {
			if v := recover(); v != nil {
				lost, _ = v.(error)
			}
		}()
		f.mux.ServeHTTP(w, req)
	}()
	if lost != nil {
		return nil, lost
	}
	res := w.Result()
	res.Request = req
	return res, nil
}

var errLost = errors.New("connection reset by test")

// count returns how often method and path were asked for.
func (f *fakeCA) count(request string) int {
	n := 0
	for _, r := range f.trace() {
		if r == request {
			n++
		}
	}
	return n
}

func (f *fakeCA) trace() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// client returns a Client for the fake.
func (f *fakeCA) client(t testing.TB) *Client {
	t.Helper()
	c, err := New(CA{URL: fakeBase + "/directory"}, &http.Client{Transport: f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// session returns a Session with an account at the fake.
func (f *fakeCA) session(t testing.TB) *Session {
	t.Helper()
	return f.client(t).Session(testKey(t, P256), fakeBase+"/account/1")
}

// answer returns a handler that gives always the same; headers are "Name: value".
func answer(status int, body string, headers ...string) http.HandlerFunc {
	return answers(reading{status, body, headers})
}

type reading struct {
	status  int // 0: the reply is lost
	body    string
	headers []string
}

// answers returns a handler that gives one reading after the other, and then the last again and again.
func answers(readings ...reading) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		a := readings[min(n, len(readings)-1)]
		n++
		mu.Unlock()
		if a.status == 0 {
			panic(errLost)
		}
		for _, h := range a.headers {
			k, v, _ := strings.Cut(h, ": ")
			w.Header().Add(k, v)
		}
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	}
}

// orderBody is an order at the fake with that status.
func orderBody(status string) string {
	body := map[string]any{
		"status":         status,
		"identifiers":    []any{map[string]string{"type": "dns", "value": "a.example"}},
		"authorizations": []string{fakeBase + "/authz"},
		"finalize":       fakeBase + "/finalize",
	}
	if status == StatusValid {
		body["certificate"] = fakeBase + "/cert"
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func problemBody(kind, detail string) string {
	b, err := json.Marshal(map[string]string{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// payload returns what a signed request says.
func payload(t testing.TB, r *http.Request) string {
	t.Helper()
	var jws flatJWS
	if err := json.NewDecoder(r.Body).Decode(&jws); err != nil {
		t.Error(err)
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(jws.Payload)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// testKeys makes each key once, because RSA keys are slow to make.
var testKeys = struct {
	sync.Mutex
	made map[KeyType]crypto.Signer
}{made: map[KeyType]crypto.Signer{}}

func testKey(t testing.TB, typ KeyType) crypto.Signer {
	t.Helper()
	testKeys.Lock()
	defer testKeys.Unlock()
	if key := testKeys.made[typ]; key != nil {
		return key
	}
	key, err := typ.Generate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	testKeys.made[typ] = key
	return key
}

// wantProblem returns the *Problem in err.
func wantProblem(t testing.TB, err error) *Problem {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) {
		t.Fatalf("got error %v, want a *Problem", err)
	}
	return p
}

func wantText(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
