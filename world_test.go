package md_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store"
)

// world is a CA and what its Managers have in common. It is made inside a
// synctest bubble.
type world struct {
	t     *testing.T
	ca    *acmetest.CA
	store store.Store
	log   logBuffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ca: new(acmetest.CA), store: new(store.Memory)}
	t.Cleanup(func() {
		w.ca.Close()
		if t.Failed() {
			t.Logf("log:\n%s", w.log.text())
			t.Logf("the CA:\n%s", strings.Join(w.ca.Trace(), "\n"))
		}
	})
	return w
}

// manager returns a Manager for domains at the world's CA. Its fields may
// still be set.
func (w *world) manager(domains ...md.Domain) *md.Manager {
	return &md.Manager{
		Domains:     domains,
		Default:     md.Domain{CAs: []md.CA{{URL: w.ca.DirectoryURL()}}},
		AcceptTerms: true,
		Store:       w.store,
		HTTPClient:  w.ca.Client(),
		Logger:      slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// reach has the CA's validators reach m. It is the first method call on m.
func (w *world) reach(m *md.Manager) *md.Manager {
	w.ca.HTTP, w.ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	return m
}

// run runs m until the function returned is called, or the test ends, and
// checks how it ends.
func (w *world) run(m *md.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run returned %v after its context ended, want nil", err)
		}
	})
	w.t.Cleanup(stop) // where a test gives up, too
	return stop
}

// ready waits until the Domains of names have certificates.
func (w *world) ready(m *md.Manager, names ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Ready(ctx, names...); err != nil {
		w.t.Fatalf("not ready within a minute: %v", err)
	}
}

// order gets certificates for domains into the world's Store.
func (w *world) order(domains ...md.Domain) {
	w.t.Helper()
	m := w.reach(w.manager(domains...))
	stop := w.run(m)
	w.ready(m)
	stop()
}

// serial returns the serial number of what m serves for name.
func (w *world) serial(m *md.Manager, name string) string {
	w.t.Helper()
	state, err := handshake(m, &tls.Config{ServerName: name, RootCAs: w.ca.Roots(), Time: time.Now})
	if err != nil {
		w.t.Fatalf("handshake for %s: %v", name, err)
	}
	return state.PeerCertificates[0].SerialNumber.Text(16)
}

// handshake shakes hands with m's TLSConfig over memory. The error is that of
// the client, who is told of the server's by an alert.
func handshake(m *md.Manager, client *tls.Config) (tls.ConnectionState, error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		server := tls.Server(theirs, m.TLSConfig())
		if server.Handshake() == nil {
			server.Write([]byte("hello")) // so that the client reads its end
		}
	}()
	conn := tls.Client(ours, client)
	err := conn.Handshake()
	ours.Close()
	<-done
	return conn.ConnectionState(), err
}

// logBuffer keeps a log.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// hello is that of a client which can use any certificate.
func hello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519},
		SupportedProtos:   []string{"h2", "http/1.1"},
	}
}

// client asks for name and believes every certificate.
func client(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true}
}
