package tailscale

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// daemon answers as tailscaled does on its socket, with what a test wants.
type daemon struct {
	socket string
	pair   func(w http.ResponseWriter, r *http.Request) // answers type=pair

	mu       sync.Mutex // guards requests
	requests []string   // "type=pair"
}

// start serves d on a socket until the test ends.
func (d *daemon) start(t testing.TB) *Daemon {
	t.Helper()
	l := listen(t)
	d.socket = l.Addr().String()
	server := &http.Server{Handler: d}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })
	return &Daemon{Socket: d.socket}
}

// listen opens a socket. Its path must be short: there is room for a hundred bytes.
func listen(t testing.TB) *net.UnixListener {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "d.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// ServeHTTP refuses what the daemon would: it answers one Host only, and nothing that comes from a web page.
func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.requests = append(d.requests, r.URL.RawQuery)
	d.mu.Unlock()
	switch {
	case r.Host != "local-tailscaled.sock" || r.Referer() != "" || r.Header.Get("Origin") != "":
		http.Error(w, "invalid localapi request", http.StatusForbidden)
	case r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/localapi/v0/cert/"):
		http.NotFound(w, r)
	default:
		d.pair(w, r)
	}
}

func (d *daemon) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

// says returns an answer that is always the same; headers are "Name: value".
func says(status int, body string, headers ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// issued is a certificate with its key.
type issued struct {
	key  crypto.Signer
	leaf []byte
	mid  []byte // above it
}

var serials = struct {
	sync.Mutex
	last int64
}{}

func issue(t testing.TB, names ...string) issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issued{key, selfSigned(t, key, names...), selfSigned(t, key, "intermediate")}
}

func selfSigned(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	serials.Lock()
	serials.last++
	serial := serials.last
	serials.Unlock()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func block(typ string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}

func (i issued) chain() string { return block("CERTIFICATE", i.leaf) + block("CERTIFICATE", i.mid) }

// ecKey is the key as tailscaled writes it.
func (i issued) ecKey(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(i.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return block("EC PRIVATE KEY", der)
}

func pkcs8(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}
