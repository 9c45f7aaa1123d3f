// Package localca runs an ACME CA on this machine, in this process, for
// examples and tests: Pebble (github.com/letsencrypt/pebble) with a resolver
// that sends every name to loopback.
//
// It is a CA in all but trust: it speaks ACME over TLS and connects back to
// http-01 and tls-alpn-01 responders on 127.0.0.1. Its roots are worth
// nothing: never install them anywhere.
package localca

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Config says what kind of CA to start. Only the ports have no usable zero.
type Config struct {
	// Listener is where the CA listens. It is closed in the end, also when
	// Start fails. Nil: a free port of 127.0.0.1.
	Listener net.Listener

	// HTTPPort and TLSPort are the ports of 127.0.0.1 where names are
	// validated with http-01 and tls-alpn-01.
	HTTPPort, TLSPort int

	// Dir, if set, is where the roots are kept, so that a CA started again
	// issues under the same ones. Accounts and orders are not kept.
	Dir string

	// KeyAlgorithm is that of the issuers: "ecdsa" or "rsa". Empty: "ecdsa".
	KeyAlgorithm string

	// ChainLength is the number of intermediates. Zero: 1.
	ChainLength int

	// AlternateRoots is the number of further chains offered.
	AlternateRoots int

	// NonceReject is how many of a hundred good nonces are refused.
	NonceReject int

	// AuthzReuse is for how many of a hundred names a valid authorization of
	// an earlier order is used again.
	AuthzReuse int

	// Validity is how long certificates are valid, in whole seconds.
	// Zero: 90 days.
	Validity time.Duration

	// Wrap, if set, stands between the listener and the CA, so that tests
	// can count requests and break answers.
	Wrap func(http.Handler) http.Handler

	// Log gets the CA's own account of what it does. Nil: nobody does.
	Log *log.Logger
}

// CA is a CA that runs. All methods may be called concurrently.
type CA struct {
	server   *http.Server
	served   chan struct{}
	resolver *resolver
	url      string
	own      *x509.Certificate // of the server
	roots    []*x509.Certificate
	dir      string
	down     atomic.Bool
}

// Start starts a CA. It listens when Start returns; call Close in the end.
//
// Pebble has one goroutine for each CA that never ends.
func Start(cfg Config) (*CA, error) {
	cfg = withDefaults(cfg)
	if cfg.Listener == nil {
		var err error
		if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("local CA: %w", err)
		}
	}
	resolver, err := startResolver()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local CA: %w", err), cfg.Listener.Close())
	}
	c := &CA{served: make(chan struct{}), resolver: resolver, dir: cfg.Dir}
	if err := c.serve(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("local CA: %w", err), cfg.Listener.Close(), resolver.close())
	}
	return c, nil
}

func withDefaults(cfg Config) Config {
	if cfg.KeyAlgorithm == "" {
		cfg.KeyAlgorithm = "ecdsa"
	}
	if cfg.ChainLength == 0 {
		cfg.ChainLength = 1
	}
	if cfg.Validity == 0 {
		cfg.Validity = 90 * 24 * time.Hour
	}
	if cfg.Wrap == nil {
		cfg.Wrap = func(h http.Handler) http.Handler { return h }
	}
	if cfg.Log == nil {
		cfg.Log = log.New(io.Discard, "", 0)
	}
	return cfg
}

// newPebble assembles Pebble from its parts.
func newPebble(cfg Config, resolver string) (http.Handler, *ca.CAImpl, error) {
	if cfg.KeyAlgorithm != "ecdsa" && cfg.KeyAlgorithm != "rsa" {
		return nil, nil, fmt.Errorf(`key algorithm %q is neither "ecdsa" nor "rsa"`, cfg.KeyAlgorithm)
	}
	memory := db.NewMemoryStore()
	issuer := ca.New(cfg.Log, memory, "", cfg.KeyAlgorithm, cfg.AlternateRoots, cfg.ChainLength,
		map[string]ca.Profile{"default": {
			Description:    "the only profile",
			ValidityPeriod: uint64(cfg.Validity / time.Second),
		}})
	if cfg.Dir != "" {
		if err := keepRoots(issuer, cfg.Dir); err != nil {
			return nil, nil, err
		}
	}
	environment := map[string]string{
		"PEBBLE_VA_NOSLEEP":      "1",
		"PEBBLE_VA_ALWAYS_VALID": "",
		"PEBBLE_WFE_NONCEREJECT": strconv.Itoa(cfg.NonceReject),
		"PEBBLE_AUTHZREUSE":      strconv.Itoa(cfg.AuthzReuse),
	}
	var front wfe.WebFrontEndImpl
	err := inEnvironment(environment, func() {
		authority := va.New(cfg.Log, cfg.HTTPPort, cfg.TLSPort, true, resolver, memory)
		front = wfe.New(cfg.Log, memory, authority, issuer, []string{"localca.invalid"}, true, false, 0, 0)
	})
	if err != nil {
		return nil, nil, err
	}
	return oneAtATime(front.Handler(), memory), issuer, nil
}

// serve makes the CA and begins to serve it.
func (c *CA) serve(cfg Config) error {
	front, issuer, err := newPebble(cfg, c.resolver.addr)
	if err != nil {
		return err
	}
	for i := range issuer.GetNumberOfRootCerts() {
		c.roots = append(c.roots, issuer.GetRootCert(i).Cert)
	}
	config, own, err := serverCertificate()
	if err != nil {
		return err
	}
	c.own = own
	c.url = "https://" + cfg.Listener.Addr().String() + wfe.DirectoryPath
	handler := cfg.Wrap(front)
	c.server = &http.Server{
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          cfg.Log,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.down.Load() {
				panic(http.ErrAbortHandler) // the connection ends without an answer
			}
			handler.ServeHTTP(w, r)
		}),
	}
	go func() {
		defer close(c.served)
		_ = c.server.ServeTLS(cfg.Listener, "", "") // ends with ErrServerClosed at Close
	}()
	return nil
}

// DirectoryURL is the URL to give to ACME clients.
func (c *CA) DirectoryURL() string { return c.url }

// TLSRoots are the roots that verify the CA's own server.
func (c *CA) TLSRoots() *x509.CertPool { return pool(c.own) }

// TLSRootsPEM is what TLSRoots holds, as PEM text.
func (c *CA) TLSRootsPEM() []byte { return pemOf(c.own) }

// Roots are the roots that verify the certificates the CA issues.
func (c *CA) Roots() *x509.CertPool { return pool(c.roots...) }

// RootsPEM is what Roots holds, as PEM text.
func (c *CA) RootsPEM() []byte { return pemOf(c.roots...) }

func pool(certificates ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, certificate := range certificates {
		p.AddCert(certificate)
	}
	return p
}

func pemOf(certificates ...*x509.Certificate) []byte {
	var text []byte
	for _, certificate := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return text
}

// WriteRoots writes RootsPEM to a file below Dir and returns its path.
func (c *CA) WriteRoots() (string, error) {
	if c.dir == "" {
		return "", errors.New("local CA: no Dir was given to keep the roots in")
	}
	path := filepath.Join(c.dir, "roots.pem")
	if err := os.WriteFile(path, c.RootsPEM(), 0o644); err != nil {
		return "", fmt.Errorf("local CA: %w", err)
	}
	return path, nil
}

// SetDown says whether the CA is away: connections then end without an
// answer.
func (c *CA) SetDown(down bool) { c.down.Store(down) }

// Close stops the CA and waits for it.
func (c *CA) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.server.Shutdown(ctx)
	if err != nil {
		err = c.server.Close() // a client that keeps a request open must not hold us up
	}
	<-c.served
	return errors.Join(err, c.resolver.close())
}

// environment serves inEnvironment: the process has one environment only.
var environment sync.Mutex

// inEnvironment calls f with variables set, and restores them. Pebble takes
// these settings only from there, and reads them in its constructors.
func inEnvironment(variables map[string]string, f func()) error {
	environment.Lock()
	defer environment.Unlock()
	for name, value := range variables {
		before, was := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			return err
		}
		defer func() {
			if was {
				os.Setenv(name, before)
			} else {
				os.Unsetenv(name)
			}
		}()
	}
	f()
	return nil
}
