package acmetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// web is the HTTPS side of a CA.
type web struct {
	mu     sync.Mutex // guards what follows
	root   *authority
	server *http.Server
	done   chan struct{}
}

// Start serves the CA over HTTPS on a loopback port until the test ends, or
// Close is called. DirectoryURL then has the served address; clients trust it
// with TLSRoots. Call it once, before clients have seen other URLs.
func (ca *CA) Start(tb testing.TB) {
	tb.Helper()
	root, err := ca.web.authority()
	if err != nil {
		tb.Fatalf("acmetest: making the server's root: %v", err)
	}
	cert, err := root.serverCertificate()
	if err != nil {
		tb.Fatalf("acmetest: making the server's certificate: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("acmetest: listening on loopback: %v", err)
	}
	server := &http.Server{
		Handler:           ca,
		ReadHeaderTimeout: 30 * time.Second,
		// Broken connections are what this server is for.
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12},
	}
	done := make(chan struct{})
	ca.web.mu.Lock()
	started := ca.web.server != nil
	if !started {
		ca.web.server, ca.web.done = server, done
	}
	ca.web.mu.Unlock()
	if started {
		_ = l.Close()
		tb.Fatal("acmetest: Start was called twice")
	}
	s := ca.lock()
	s.base = "https://" + l.Addr().String()
	ca.mu.Unlock()
	go func() {
		defer close(done)
		if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			ca.log().Error("acmetest server ended", "err", err)
		}
	}()
	tb.Cleanup(ca.Close)
}

// TLSRoots returns the root that the HTTPS server of Start is trusted by.
// It has nothing to do with the certificates that the CA issues.
func (ca *CA) TLSRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	if root, err := ca.web.authority(); err == nil {
		pool.AddCert(root.cert)
	}
	return pool
}

// authority makes the server's root at the first call.
func (w *web) authority() (*authority, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.root != nil {
		return w.root, nil
	}
	root, err := newRoot("acmetest web root", false, "")
	if err != nil {
		return nil, err
	}
	w.root = root
	return root, nil
}

// close ends the server, and waits for it.
func (w *web) close() {
	w.mu.Lock()
	server, done := w.server, w.done
	w.mu.Unlock()
	if server == nil {
		return
	}
	// Requests still running were told to stop and end by themselves; a
	// client that does not read its answer is not waited for.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	<-done
}
