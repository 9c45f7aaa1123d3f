package acmetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

// wire speaks ACME by hand, so that tests can say anything.
type wire struct {
	hc  *http.Client
	key *ecdsa.PrivateKey
	kid string
	dir map[string]any
}

// answer is what the CA said.
type answer struct {
	status int
	header http.Header
	body   []byte
	doc    struct {
		Type           string
		Detail         string
		Instance       string
		Status         any
		Algorithms     []string
		Subproblems    []struct{ Type, Detail string }
		Authorizations []string
		Identifiers    []struct{ Value string }
		Finalize       string
		Certificate    string
		Challenges     []struct{ Type, URL, Token, Status string }
		Orders         any
		Wildcard       bool
		Profile        string
	}
}

func (a *answer) problem() string  { return strings.TrimPrefix(a.doc.Type, problemPrefix) }
func (a *answer) is(s string) bool { return a.doc.Status == s }
func (a *answer) location() string { return a.header.Get("Location") }

// maxBody is how much of an answer the wire reads.
const maxBody = 256 << 10

// do sends a request and reads the answer, bounded in time and size.
func (w *wire) do(ctx context.Context, method, url string, body []byte) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	rq.Header.Set("Content-Type", "application/jose+json")
	res, err := w.hc.Do(rq)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1)); err != nil {
		return nil, err
	}
	if len(a.body) > maxBody {
		return nil, errors.New("the answer is too large")
	}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(a.body, &a.doc); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// alter changes a JWS before and after it is signed.
type alter struct {
	protected func(map[string]any)
	outer     func(map[string]any)
	body      func([]byte) []byte
}

// sign makes a JWS. A nil payload is POST-as-GET.
func (w *wire) sign(nonce, url string, payload any, by alter) []byte {
	protected := map[string]any{"alg": "ES256", "nonce": nonce, "url": url}
	if w.kid != "" {
		protected["kid"] = w.kid
	} else {
		protected["jwk"] = jwkOf(w.key)
	}
	if by.protected != nil {
		by.protected(protected)
	}
	outer := signed(w.key, protected, payload)
	if by.outer != nil {
		by.outer(outer)
	}
	body := mustJSON(outer)
	if by.body != nil {
		body = by.body(body)
	}
	return body
}

func signed(key *ecdsa.PrivateKey, protected map[string]any, payload any) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	p, d := enc(mustJSON(protected)), ""
	if payload != nil {
		d = enc(mustJSON(payload))
	}
	m := map[string]any{"protected": p, "payload": d}
	resign(key, m)
	return m
}

func jwkOf(key *ecdsa.PrivateKey) map[string]any {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]any{"kty": "EC", "crv": "P-256", "x": enc(point[1:33]), "y": enc(point[33:])}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// try posts once, with a nonce of its own.
func (w *wire) try(ctx context.Context, url string, payload any, by alter) (*answer, error) {
	n, err := w.do(ctx, http.MethodHead, w.dir["newNonce"].(string), nil)
	if err != nil {
		return nil, err
	}
	nonce := n.header.Get("Replay-Nonce")
	if n.status != http.StatusOK || nonce == "" {
		return nil, errors.New("no nonce")
	}
	return w.do(ctx, http.MethodPost, url, w.sign(nonce, url, payload, by))
}

// post posts to a CA without faults.
func (w *wire) post(t testing.TB, url string, payload any, by ...alter) *answer {
	t.Helper()
	a, err := w.try(t.Context(), url, payload, append(by, alter{})[0])
	if err != nil {
		t.Fatalf("POST %s: %v", url, err)
	}
	return a
}

func (w *wire) url(kind string) string { return w.dir[kind].(string) }

// newWire reads the directory.
func newWire(t testing.TB, ca *CA) *wire {
	t.Helper()
	w := &wire{hc: ca.Client(), key: ecdsaKey(t)}
	if err := w.discover(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *wire) discover(ctx context.Context, ca *CA) error {
	a, err := w.do(ctx, http.MethodGet, ca.DirectoryURL(), nil)
	if err != nil {
		return err
	}
	var dir map[string]any
	if err := json.Unmarshal(a.body, &dir); err != nil {
		return err
	}
	if _, ok := dir["newNonce"].(string); !ok || a.status != http.StatusOK {
		return errors.New("not a directory")
	}
	w.dir = dir
	return nil
}

// registered is a wire with an account.
func registered(t testing.TB, ca *CA) *wire {
	t.Helper()
	w := newWire(t, ca)
	a := w.post(t, w.url("newAccount"), map[string]any{"termsOfServiceAgreed": true})
	if a.status != http.StatusCreated {
		t.Fatalf("newAccount answered %d %s", a.status, a.body)
	}
	w.kid = a.location()
	return w
}

// order makes an order.
func (w *wire) order(t testing.TB, names ...string) *answer {
	t.Helper()
	return w.post(t, w.url("newOrder"), orderFor(names...))
}

func orderFor(names ...string) map[string]any {
	var ids []map[string]string
	for _, n := range names {
		ids = append(ids, map[string]string{"type": "dns", "value": n})
	}
	return map[string]any{"identifiers": ids}
}

func wantProblem(t testing.TB, a *answer, status int, typ string) {
	t.Helper()
	if a.status != status || a.problem() != typ {
		t.Errorf("got %d %q, want %d %q; the answer is %.300s", a.status, a.problem(), status, typ, a.body)
	}
	if a.header.Get("Replay-Nonce") == "" {
		t.Error("the answer has no Replay-Nonce")
	}
	if got, want := a.header.Get("Content-Type"), "application/problem+json"; got != want {
		t.Errorf("the content type is %q, want %q", got, want)
	}
}

// ready makes an order whose names are validated by dns-01.
func (w *wire) ready(t testing.TB, s *site, names ...string) *answer {
	t.Helper()
	o := w.order(t, names...)
	if o.status != http.StatusCreated {
		t.Fatalf("newOrder answered %d %s", o.status, o.body)
	}
	for _, u := range o.doc.Authorizations {
		w.prove(t, s, u)
	}
	url := o.location()
	o = w.post(t, url, nil)
	if !o.is(ready) {
		t.Fatalf("the order is %v, want ready: %s", o.doc.Status, o.body)
	}
	o.header.Set("Location", url)
	return o
}

// prove answers the dns-01 challenge of an authorization with the right
// record, and returns the authorization afterwards.
func (w *wire) prove(t testing.TB, s *site, authzURL string) *answer {
	t.Helper()
	a := w.post(t, authzURL, nil)
	var doc struct{ Identifier struct{ Value string } }
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.doc.Challenges {
		if c.Type == typeDNS01 {
			s.setTXT(doc.Identifier.Value, digestOf(c.Token+"."+thumbprint(w.key.Public())))
			w.post(t, c.URL, map[string]any{})
		}
	}
	return w.post(t, authzURL, nil)
}

// setTXT adds a record.
func (s *site) setTXT(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txt["_acme-challenge."+name] = append(s.txt["_acme-challenge."+name], value)
}

func mustDecode(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %.200q", err, data)
	}
}

func bigInt(v int64) *big.Int { return big.NewInt(v) }

// resign signs a JWS whose parts were changed.
func resign(key *ecdsa.PrivateKey, m map[string]any) {
	sum := sha256.Sum256([]byte(m["protected"].(string) + "." + m["payload"].(string)))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		panic(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	m["signature"] = base64.RawURLEncoding.EncodeToString(sig)
}
