package integration

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"github.com/manageddomains/md"
)

// pebble is a Pebble put together with what the local CA of the examples does
// without: profiles, and accounts that need a binding. It validates IP
// addresses only, so that it needs no name server.
type pebble struct {
	url   string         // of the directory
	own   *x509.CertPool // verifies the CA's own server
	roots *x509.CertPool // verifies what the CA issues
	seen  *witness
}

// pebbleConfig says which Pebble to start.
type pebbleConfig struct {
	profiles map[string]ca.Profile
	bindings map[string]string // the keys of bindings, in base64url, by their identifiers; if there are any, accounts need one
}

// startPebble starts a Pebble that validates at p and ends with the test,
// which cannot run in parallel with others: Pebble has settings in the
// environment.
func (p *place) startPebble(t *testing.T, cfg pebbleConfig) *pebble {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_VA_ALWAYS_VALID", "")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	t.Setenv("PEBBLE_AUTHZREUSE", "0")
	if cfg.profiles == nil {
		cfg.profiles = map[string]ca.Profile{"default": {Description: "the only profile"}}
	}
	memory, quiet := db.NewMemoryStore(), log.New(io.Discard, "", 0)
	for id, key := range cfg.bindings {
		if err := memory.AddExternalAccountKeyByID(id, key); err != nil {
			t.Fatal(err)
		}
	}
	issuer := ca.New(quiet, memory, "", "ecdsa", 0, 1, cfg.profiles)
	authority := va.New(quiet, port(p.plain), port(p.secure), true, "", memory)
	front := wfe.New(quiet, memory, authority, issuer, nil, true, len(cfg.bindings) > 0, 0, 0)

	c := &pebble{own: x509.NewCertPool(), roots: x509.NewCertPool(), seen: new(witness)}
	server := httptest.NewTLSServer(c.seen.wrap(oneByOne(front.Handler(), memory)))
	t.Cleanup(server.Close)
	c.url = server.URL + wfe.DirectoryPath
	c.own.AddCert(server.Certificate())
	c.roots.AddCert(issuer.GetRootCert(0).Cert)
	return c
}

// oneByOne lets one request in at a time, and lets nothing else happen while
// a certificate is issued: Pebble takes its locks in different orders.
func oneByOne(next http.Handler, memory *db.MemoryStore) http.Handler {
	var mu sync.Mutex // one request at a time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		next.ServeHTTP(w, r)
		if id, ok := strings.CutPrefix(r.URL.Path, pathFinalize); ok {
			awaitIssued(r.Context(), memory.GetOrderByID(id))
		}
	})
}

// awaitIssued waits until the certificate of an order is there.
func awaitIssued(ctx context.Context, order *core.Order) {
	if order == nil {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		order.RLock()
		done := !order.BeganProcessing || order.CertificateObject != nil
		order.RUnlock()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done(): // the client has gone
			return
		}
	}
}

// at names the CA as a Manager wants it.
func (c *pebble) at() md.CA {
	return md.CA{Name: "pebble", URL: c.url, Roots: c.own, Limits: unlimited()}
}
