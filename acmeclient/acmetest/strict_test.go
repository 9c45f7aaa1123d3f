package acmetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// set returns an alteration of the protected header.
func set(key string, value any) alter {
	return alter{protected: func(p map[string]any) {
		if value == nil {
			delete(p, key)
			return
		}
		p[key] = value
	}}
}

// outer returns an alteration of the JWS itself.
func outer(key string, value any) alter {
	return alter{outer: func(o map[string]any) {
		if value == nil {
			delete(o, key)
			return
		}
		o[key] = value
	}}
}

func TestRefusedSignatures(t *testing.T) {
	ca := &CA{}
	defer ca.Close()
	w := registered(t, ca)
	stranger := ecdsaKey(t)
	private := jwkOf(w.key)
	private["d"] = "AAAA"
	offCurve := jwkOf(w.key)
	offCurve["y"] = offCurve["x"]
	short := jwkOf(w.key)
	short["x"] = "AAAA"

	byKey := func(jwk any) alter {
		return alter{protected: func(p map[string]any) { delete(p, "kid"); p["jwk"] = jwk }}
	}
	tests := []struct {
		name   string
		by     alter
		status int
		typ    string
	}{
		{"a body that is no JSON", alter{body: func([]byte) []byte { return []byte("hello") }}, 400, malformed},
		{"a JSON array", alter{body: func([]byte) []byte { return []byte("[]") }}, 400, malformed},
		{"an empty body", alter{body: func([]byte) []byte { return nil }}, 400, malformed},
		{"two documents", alter{body: func(b []byte) []byte { return append(b, b...) }}, 400, malformed},
		{"a huge body", alter{body: func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), maxRequest)...) }}, 413, malformed},
		{"compact serialization", alter{body: func([]byte) []byte { return []byte(`"a.b.c"`) }}, 400, malformed},
		{"an unprotected header", outer("header", map[string]any{}), 400, malformed},
		{"several signatures", outer("signatures", []any{}), 400, malformed},
		{"no payload", outer("payload", nil), 400, malformed},
		{"no signature", outer("signature", nil), 400, malformed},
		{"an empty signature", outer("signature", ""), 400, malformed},
		{"a padded signature", outer("signature", "AAAA=="), 400, malformed},
		{"a line break in the signature", outer("signature", "AA\nAA"), 400, malformed},
		{"another payload", outer("payload", "e30"), 400, malformed},
		{"a protected header that is no JSON", outer("protected", "AAAA"), 400, malformed},
		{"algorithm none", set("alg", "none"), 400, badSignatureAlgorithm},
		{"algorithm HS256", set("alg", "HS256"), 400, badSignatureAlgorithm},
		{"algorithm EdDSA", set("alg", "EdDSA"), 400, badSignatureAlgorithm},
		{"an algorithm for another key", set("alg", "ES384"), 400, malformed},
		{"no algorithm", set("alg", nil), 400, badSignatureAlgorithm},
		{"no nonce", set("nonce", nil), 400, badNonce},
		{"a made-up nonce", set("nonce", "bm9uY2U"), 400, badNonce},
		{"a nonce that is not base64url", set("nonce", "!"), 400, malformed},
		{"no url", set("url", nil), 400, malformed},
		{"another url", set("url", "https://acme.test/acme/new-account"), 403, unauthorized},
		{"neither kid nor jwk", set("kid", nil), 400, malformed},
		{"both kid and jwk", set("jwk", jwkOf(w.key)), 400, malformed},
		{"jwk where kid belongs", byKey(jwkOf(w.key)), 400, malformed},
		{"an unknown kid", set("kid", "https://acme.test/acme/account/999"), 400, accountDoesNotExist},
		{"a kid elsewhere", set("kid", "https://other.test/acme/account/2"), 400, accountDoesNotExist},
		{"critical extensions", set("crit", []string{"x"}), 400, malformed},
		{"unencoded payloads", set("b64", false), 400, malformed},
		{"another key's signature", alter{outer: func(o map[string]any) {
			o["signature"] = signed(stranger, map[string]any{}, nil)["signature"]
		}}, 400, malformed},
	}
	for _, tt := range tests {
		t.Run("are those with "+tt.name, func(t *testing.T) {
			a := w.post(t, w.url("newOrder"), orderFor("example.com"), tt.by)
			wantProblem(t, a, tt.status, tt.typ)
			if tt.typ == badSignatureAlgorithm && !slices.Equal(a.doc.Algorithms, algorithms) {
				t.Errorf("algorithms are %q, want %q", a.doc.Algorithms, algorithms)
			}
		})
	}

	keys := []struct {
		name string
		jwk  any
		typ  string
	}{
		{"private parts", private, malformed},
		{"a point off the curve", offCurve, badPublicKey},
		{"short coordinates", short, malformed},
		{"another curve", map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA"}, badPublicKey},
		{"a symmetric key", map[string]any{"kty": "oct", "k": "AAAA"}, malformed},
		{"an unknown type", map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, badPublicKey},
		{"a short modulus", map[string]any{"kty": "RSA", "n": strings.Repeat("_", 170) + "8", "e": "AQAB"}, badPublicKey},
		{"a padded modulus", map[string]any{"kty": "RSA", "n": strings.Repeat("A", 342), "e": "AQAB"}, malformed},
		{"a huge exponent", map[string]any{"kty": "RSA", "n": strings.Repeat("_", 342) + "w", "e": "AQABAQAB"}, badPublicKey},
		{"an even exponent", map[string]any{"kty": "RSA", "n": strings.Repeat("_", 342) + "w", "e": "BA"}, badPublicKey},
		{"a string for a key", "key", malformed},
	}
	for _, tt := range keys {
		t.Run("are those by keys with "+tt.name, func(t *testing.T) {
			a := w.post(t, w.url("newAccount"), map[string]any{}, byKey(tt.jwk))
			if a.problem() != tt.typ {
				t.Errorf("got %q, want %q: %s", a.problem(), tt.typ, a.body)
			}
		})
	}
	if got := len(ca.Orders()); got != 0 {
		t.Errorf("%d orders were made by refused requests", got)
	}
}

func TestNoncesAreForOnce(t *testing.T) {
	ca := &CA{}
	defer ca.Close()
	w := registered(t, ca)
	n, err := w.do(t.Context(), http.MethodGet, w.url("newNonce"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.status != http.StatusNoContent {
		t.Errorf("GET newNonce answers %d, want 204", n.status)
	}
	body := w.sign(n.header.Get("Replay-Nonce"), w.kid, nil, alter{})
	for i, want := range []int{http.StatusOK, http.StatusBadRequest} {
		a, err := w.do(t.Context(), http.MethodPost, w.kid, body)
		if err != nil {
			t.Fatal(err)
		}
		if a.status != want {
			t.Errorf("use %d of a nonce answers %d, want %d", i+1, a.status, want)
		}
	}
}

func TestForgottenNoncesAreRefused(t *testing.T) {
	ca := &CA{}
	s := ca.lock()
	first := ca.freshNonce(s)
	for range maxNonces {
		ca.freshNonce(s)
	}
	remembered := len(s.nonces.valid)
	ca.mu.Unlock()
	if remembered > maxNonces {
		t.Errorf("%d nonces are remembered, more than %d", remembered, maxNonces)
	}
	if p := ca.useNonce(first); p == nil || p.typ != badNonce {
		t.Errorf("a forgotten nonce gives %v, want badNonce", p)
	}
}

func TestRefusedRequests(t *testing.T) {
	ca := &CA{LookupTXT: newSite().lookupTXT}
	defer ca.Close()
	w := registered(t, ca)
	o := w.order(t, "example.com")
	authz := w.post(t, o.doc.Authorizations[0], nil)
	get := func(url string) *answer {
		a, err := w.do(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	t.Run("include GET of an order", func(t *testing.T) {
		a := get(o.location())
		wantProblem(t, a, http.StatusMethodNotAllowed, malformed)
		if got := a.header.Get("Allow"); got != "POST" {
			t.Errorf("Allow is %q, want POST", got)
		}
	})
	t.Run("include POST to newNonce", func(t *testing.T) {
		wantProblem(t, w.post(t, w.url("newNonce"), nil), http.StatusMethodNotAllowed, malformed)
	})
	t.Run("include unknown URLs", func(t *testing.T) {
		wantProblem(t, get("https://acme.test/nowhere"), http.StatusNotFound, malformed)
		wantProblem(t, w.post(t, "https://acme.test/acme/order/999", nil), http.StatusNotFound, malformed)
	})
	t.Run("include another content type", func(t *testing.T) {
		rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.kid, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Content-Type", "application/json")
		res, err := ca.Client().Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("got %d, want 415", res.StatusCode)
		}
	})
	t.Run("include payloads where there must be none", func(t *testing.T) {
		wantProblem(t, w.post(t, o.location(), map[string]any{}), 400, malformed)
	})
	t.Run("include no payload where there must be one", func(t *testing.T) {
		wantProblem(t, w.post(t, w.url("newOrder"), nil), 400, malformed)
	})
	t.Run("include payloads of the wrong shape", func(t *testing.T) {
		wantProblem(t, w.post(t, w.url("newOrder"), []string{"example.com"}), 400, malformed)
		wantProblem(t, w.post(t, authz.doc.Challenges[0].URL, "go"), 400, malformed)
		wantProblem(t, w.post(t, o.doc.Authorizations[0], map[string]any{"status": "valid"}), 400, malformed)
	})
	t.Run("include those of other accounts", func(t *testing.T) {
		other := registered(t, ca)
		for _, url := range []string{o.location(), o.doc.Authorizations[0], authz.doc.Challenges[0].URL} {
			wantProblem(t, other.post(t, url, nil), 403, unauthorized)
		}
		wantProblem(t, other.post(t, o.doc.Finalize, map[string]any{"csr": ""}), 403, unauthorized)
		wantProblem(t, other.post(t, w.kid, nil), 403, unauthorized)
	})
	t.Run("by Client include those for other hosts", func(t *testing.T) {
		if res, err := ca.Client().Get("https://example.com/"); err == nil {
			res.Body.Close()
			t.Error("another host was reached")
		}
	})
}

func TestExternalAccounts(t *testing.T) {
	ca := &CA{ExternalAccounts: map[string][]byte{"kid-1": []byte("secret")}}
	defer ca.Close()
	w := newWire(t, ca)
	bind := func(secret string, change func(map[string]any), key map[string]any) map[string]any {
		enc := base64.RawURLEncoding.EncodeToString
		header := map[string]any{"alg": "HS256", "kid": "kid-1", "url": w.url("newAccount")}
		if change != nil {
			change(header)
		}
		protected, payload := enc(mustJSON(header)), enc(mustJSON(key))
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(protected + "." + payload))
		return map[string]any{"protected": protected, "payload": payload, "signature": enc(mac.Sum(nil))}
	}
	with := func(key string, value any) func(map[string]any) {
		return func(h map[string]any) { h[key] = value }
	}
	mine := jwkOf(w.key)
	tests := []struct {
		name    string
		binding any
		status  int
		typ     string
	}{
		{"without one", nil, 403, externalAccountRequired},
		{"with a wrong secret", bind("wrong", nil, mine), 403, unauthorized},
		{"with an unknown kid", bind("secret", with("kid", "kid-2"), mine), 403, unauthorized},
		{"for another url", bind("secret", with("url", "https://acme.test/"), mine), 400, malformed},
		{"with a nonce", bind("secret", with("nonce", "AAAA"), mine), 400, malformed},
		{"with a jwk", bind("secret", with("jwk", mine), mine), 400, malformed},
		{"with another algorithm", bind("secret", with("alg", "ES256"), mine), 400, malformed},
		{"for another key", bind("secret", nil, jwkOf(ecdsaKey(t))), 400, malformed},
		{"that is no JWS", map[string]any{}, 400, malformed},
	}
	for _, tt := range tests {
		t.Run("refuses an account "+tt.name, func(t *testing.T) {
			payload := map[string]any{}
			if tt.binding != nil {
				payload["externalAccountBinding"] = tt.binding
			}
			wantProblem(t, w.post(t, w.url("newAccount"), payload), tt.status, tt.typ)
		})
	}
	a := w.post(t, w.url("newAccount"), map[string]any{"externalAccountBinding": bind("secret", nil, mine)})
	if a.status != http.StatusCreated {
		t.Fatalf("a right binding answers %d %s", a.status, a.body)
	}
	if got := ca.Accounts()[0].External; got != "kid-1" {
		t.Errorf("the account is bound to %q, want kid-1", got)
	}
}
