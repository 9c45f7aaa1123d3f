package integration

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// witness stands before a CA and remembers what was asked of it.
type witness struct {
	mu        sync.Mutex // guards what follows
	requests  int
	accounts  int      // registered anew
	orders    int      // made
	replaced  []string // by each order: the certificate that it said it replaces (RFC 9773 §5), or ""
	finalized [][]byte // public keys of the certificates that were asked for
}

// Pebble's paths, and how step-ca's end.
const (
	pathNewAccount = "/sign-me-up"
	pathNewOrder   = "/order-plz"
	pathFinalize   = "/finalize-order/"

	stepCANewAccount = "/new-account"
	stepCANewOrder   = "/new-order"
)

// wrap is for localca.Config.Wrap.
func (w *witness) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		seen := &statusWriter{ResponseWriter: rw}
		next.ServeHTTP(seen, r)
		w.see(r.URL.Path, text, seen.status)
	})
}

func (w *witness) see(path string, request []byte, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests++
	switch {
	case (path == pathNewAccount || strings.HasSuffix(path, stepCANewAccount)) && status == http.StatusCreated:
		w.accounts++
	case (path == pathNewOrder || strings.HasSuffix(path, stepCANewOrder)) && status == http.StatusCreated:
		w.orders++
		w.replaced = append(w.replaced, replacedBy(request))
	case strings.HasPrefix(path, pathFinalize) && status == http.StatusOK:
		w.finalized = append(w.finalized, keyAskedFor(request))
	}
}

// counts returns how many requests, registrations and orders there were.
func (w *witness) counts() (requests, accounts, orders int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests, w.accounts, w.orders
}

// keyAskedFor returns the public key (PKIX) of the CSR in a request that
// finalizes an order, or nil.
func keyAskedFor(request []byte) []byte {
	var payload struct{ CSR string }
	if !decodePayload(request, &payload) {
		return nil
	}
	der, err := base64.RawURLEncoding.DecodeString(payload.CSR)
	if err != nil {
		return nil
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil
	}
	key, err := x509.MarshalPKIXPublicKey(csr.PublicKey)
	if err != nil {
		return nil
	}
	return key
}

// replacedBy returns the certificate that the order in a request says that it
// replaces.
func replacedBy(request []byte) string {
	var payload struct{ Replaces string }
	decodePayload(request, &payload)
	return payload.Replaces
}

// decodePayload decodes what is signed in a request.
func decodePayload(request []byte, into any) bool {
	var signed struct{ Payload string }
	if json.Unmarshal(request, &signed) != nil {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	return err == nil && json.Unmarshal(text, into) == nil
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// sameOrders fails the test if w has seen more orders than before.
func (w *witness) sameOrders(tb testing.TB, before int) {
	tb.Helper()
	if _, _, orders := w.counts(); orders != before {
		tb.Errorf("%d orders were made, want none", orders-before)
	}
}
