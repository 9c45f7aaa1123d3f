package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.step.sm/crypto/minica"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/tailscale"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// tailnetName is the name for which the daemon has a certificate.
const tailnetName = "host.tail1234.ts.net"

// tailscaled answers at a socket as Tailscale's daemon does (GET
// /localapi/v0/cert/NAME?type=pair).
type tailscaled struct {
	issuer *minica.CA
	socket string
	stop   func()

	mu       sync.Mutex // guards what follows
	pair     []byte     // key and chain
	refusing bool
}

func startTailscaled(t *testing.T) *tailscaled {
	t.Helper()
	issuer, err := minica.New()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ts") // a socket's path has room for a hundred bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &tailscaled{issuer: issuer, socket: filepath.Join(dir, "d.sock")}
	listener, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: d}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	d.stop = sync.OnceFunc(func() {
		server.Close()
		serving.Wait()
	})
	t.Cleanup(d.stop)
	return d
}

// ServeHTTP implements http.Handler.
func (d *tailscaled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, ok := strings.CutPrefix(r.URL.Path, "/localapi/v0/cert/")
	switch {
	case r.Host != "local-tailscaled.sock":
		http.Error(w, "invalid localapi request", http.StatusForbidden)
	case !ok || r.Method != http.MethodGet:
		http.NotFound(w, r)
	case d.refusing:
		http.Error(w, "cert access denied", http.StatusForbidden)
	case name != tailnetName || r.URL.Query().Get("type") != "pair":
		http.Error(w, "the test has nothing else", http.StatusBadRequest)
	default:
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(d.pair)
	}
}

func (d *tailscaled) refuse(refusing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusing = refusing
}

// renew gives the daemon another certificate, of 90 days, of which some are
// over.
func (d *tailscaled) renew(t *testing.T, over time.Duration) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-over)
	cert, err := d.issuer.Sign(&x509.Certificate{
		DNSNames: []string{tailnetName}, PublicKey: key.Public(), NotBefore: begin, NotAfter: begin.Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var pair bytes.Buffer
	for _, block := range []*pem.Block{
		{Type: "EC PRIVATE KEY", Bytes: der},
		{Type: "CERTIFICATE", Bytes: cert.Raw},
		{Type: "CERTIFICATE", Bytes: d.issuer.Intermediate.Raw},
	} {
		if err := pem.Encode(&pair, block); err != nil {
			t.Fatal(err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pair = pair.Bytes()
	return cert
}

// tailnet is a place whose certificate comes from a daemon.
type tailnet struct {
	*place
	daemon *tailscaled
	heard  *audience
	store  store.Memory
}

func (n *tailnet) manager(t *testing.T) *md.Manager {
	return &md.Manager{
		Domains: []md.Domain{{Names: []string{tailnetName}, CAs: []md.CA{{Protocol: "tailscale", URL: "file://" + n.daemon.socket}}}},
		Store:   &n.store, Notifier: n.heard, Logger: logged(t),
	}
}

// serves fails the test unless want is served, with its chain.
func (n *tailnet) serves(t *testing.T, want *x509.Certificate) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(n.daemon.issuer.Root)
	if got := n.connect(t, tailnetName, roots); !got.Equal(want) {
		t.Errorf("certificate %x is served, want %x", got.SerialNumber, want.SerialNumber)
	}
}

// failures fails the test unless want events tell of failures.
func (n *tailnet) failures(t *testing.T, want int) {
	t.Helper()
	if got := len(n.heard.of(status.Errored)); got != want {
		t.Errorf("%d events tell of failures, want %d", got, want)
	}
}

// TestCertificateFromTailscale follows a daemon's certificate through a life.
func TestCertificateFromTailscale(t *testing.T) {
	const day = 24 * time.Hour
	n := &tailnet{place: newPlace(t), daemon: startTailscaled(t), heard: new(audience)}
	first := n.daemon.renew(t, 70*day) // so old that it should be renewed
	m := n.manager(t)
	stop := n.run(t, m)
	ready(t, m)
	n.serves(t, first)

	// The daemon is asked again, and has not renewed it, which is no failure.
	err := m.Renew(restless(t.Context()), tailnetName)
	if err == nil || !strings.Contains(err.Error(), "has not renewed") {
		t.Errorf("Renew = error %v, want that the daemon has not renewed it", err)
	}
	waitFor(t, func() bool { return atRest(m) })
	for domain := range m.Status() {
		if r := domain.Renewal; r == nil || r.Attempts > 0 || !r.NextAttempt.After(time.Now().Add(time.Hour)) {
			t.Errorf("after the same certificate was answered, the status says %+v, want no failure, and another attempt in a day", r)
		}
	}
	n.serves(t, first)
	n.failures(t, 0)

	second := n.daemon.renew(t, 0)
	if err := m.Renew(restless(t.Context()), tailnetName); err != nil {
		t.Fatalf("when the daemon has renewed, Renew = error %v", err)
	}
	n.serves(t, second)
	n.failures(t, 0)

	n.daemon.refuse(true)
	if err := m.Renew(restless(t.Context()), tailnetName); !errors.Is(err, tailscale.ErrDenied) {
		t.Errorf("when the daemon refuses, Renew = error %v, want ErrDenied", err)
	}
	n.serves(t, second)
	n.failures(t, 1)

	n.daemon.refuse(false)
	n.daemon.stop()
	if err := m.Renew(restless(t.Context()), tailnetName); !errors.Is(err, tailscale.ErrNotRunning) {
		t.Errorf("when the daemon is away, Renew = error %v, want ErrNotRunning", err)
	}
	n.serves(t, second)
	stop()

	// The next process needs no daemon for what the Store has.
	m = n.manager(t)
	n.run(t, m)
	ready(t, m)
	n.serves(t, second)
}
