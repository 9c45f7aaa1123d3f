package acmetest

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"testing"
)

// FuzzBody posts anything to every endpoint: each answer is a problem, and
// nothing is made of it.
func FuzzBody(f *testing.F) {
	ca := &CA{HTTPPort: 1, ExternalAccounts: map[string][]byte{"k": []byte("k")}}
	defer ca.Close()
	w := newWire(f, ca)
	f.Add(w.sign("bm9uY2U", w.url("newAccount"), map[string]any{}, alter{}))
	f.Add(w.sign("bm9uY2U", w.url("newOrder"), orderFor("a.test"), alter{}))
	f.Add([]byte(`{"protected":"e30","payload":"","signature":""}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"payload":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{"newAccount", "newOrder", "revokeCert", "keyChange"} {
			a, err := w.do(t.Context(), http.MethodPost, w.url(kind), body)
			if err != nil {
				t.Fatal(err)
			}
			if a.status < 400 || a.problem() == "" {
				t.Errorf("%s answers %d %s", kind, a.status, a.body)
			}
		}
		if len(ca.Accounts()) != 0 {
			t.Error("an account was made")
		}
	})
}

// FuzzPayload signs anything, so that it gets past the signature.
func FuzzPayload(f *testing.F) {
	s := newSite()
	ca := &CA{LookupTXT: s.lookupTXT, RenewalInfo: true}
	defer ca.Close()
	w := registered(f, ca)
	o1 := w.ready(f, s, "a.test")
	o := w.order(f, "b.test")
	urls := []string{
		w.url("newOrder"), w.url("revokeCert"), w.url("keyChange"), w.kid,
		o.location(), o.doc.Authorizations[0], o1.doc.Finalize,
	}
	cert := w.issue(f, s, ecdsaKey(f), "c.test")[0]
	enc := base64.RawURLEncoding.EncodeToString
	f.Add([]byte(``))
	f.Add([]byte(`{}`))
	f.Add(mustJSON(orderFor("a.test", "*.b.test")))
	f.Add(mustJSON(map[string]any{"csr": enc(newCSR(f, ecdsaKey(f), "a.test"))}))
	f.Add(mustJSON(map[string]any{"certificate": enc(cert.Raw), "reason": -1}))
	f.Add(mustJSON(signed(w.key, map[string]any{"alg": "ES256", "url": w.url("keyChange"), "jwk": jwkOf(w.key)}, map[string]any{})))
	f.Add([]byte(`{"contact":["mailto:a@b"]}`))
	f.Add([]byte(`{"identifiers":[{"type":"dns","value":"\u0000"}],"notAfter":"9999-12-31T23:59:59Z"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if bytes.Contains(payload, []byte(deactivated)) {
			t.Skip("the account is needed further on")
		}
		for _, url := range urls {
			raw := alter{outer: func(m map[string]any) {
				m["payload"] = enc(payload)
				resign(w.key, m)
			}}
			a, err := w.try(t.Context(), url, nil, raw)
			if err != nil {
				t.Fatal(err)
			}
			if a.status >= 500 || a.status >= 400 && a.problem() == "" {
				t.Errorf("%s answers %d %s", url, a.status, a.body)
			}
		}
	})
}

// FuzzSANs counts the names of anything that calls itself an extension.
func FuzzSANs(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 0x82, 0x01, 'a'})
	f.Add([]byte{0x30, 0x80})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		n, err := countSANs(der)
		if err == nil && n > len(der)/2 {
			t.Errorf("%d names in %d bytes", n, len(der))
		}
	})
}
