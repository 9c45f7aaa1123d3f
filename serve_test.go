package md_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store"
)

// The zero Manager serves nothing and contacts nobody.
func TestZeroManager(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", t.TempDir()) // where it would keep what it has not
	network := &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		t.Errorf("%s was asked for", r.URL)
		return nil, errors.New("no network")
	})}
	synctest.Test(t, func(t *testing.T) {
		m := &md.Manager{HTTPClient: network}
		if cert, err := m.GetCertificate(hello("example.com")); cert != nil || !errors.Is(err, md.ErrNotManaged) {
			t.Errorf("GetCertificate: %v, %v, want nil and ErrNotManaged", cert, err)
		}
		for _, name := range []string{"example.com", ""} {
			_, err := handshake(m, client(name))
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") { // RFC 6066 §3
				t.Errorf("handshake for %q: %v, want the alert unrecognized_name", name, err)
			}
		}
		if err := m.Ready(context.Background()); err != nil {
			t.Errorf("Ready: %v, want nil: nothing is waited for", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(48*time.Hour, cancel)
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run: %v, want nil", err)
		}
		for d := range m.Status() {
			t.Errorf("Status tells of %s", d.Name)
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A declared name without certificate has the fallback one: enough to shake
// hands, and answers 503; all else that the server does goes on.
func TestFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.manager(named("example.com", "bücher.example"))
		for _, name := range []string{"example.com", "EXAMPLE.com", "xn--bcher-kva.example"} {
			state, err := handshake(m, client(name))
			if err != nil {
				t.Errorf("handshake for %s: %v", name, err)
				continue
			}
			leaf := state.PeerCertificates[0]
			if err := leaf.VerifyHostname(name); err != nil {
				t.Errorf("the fallback certificate: %v", err)
			}
			if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
				t.Errorf("the fallback certificate is not self-signed: %v", err)
			}
		}
		if _, err := handshake(m, client("example.org")); err == nil {
			t.Error("a handshake for a name that is not managed succeeded")
		}

		app := m.HTTPSHandler(hello200)
		checkStatus(t, app, "https://example.com/", http.StatusServiceUnavailable)
		checkStatus(t, app, "https://example.org/", http.StatusOK)
		checkStatus(t, m.HTTPHandler(hello200), "http://example.com/", http.StatusOK)
		checkStatus(t, m.HTTPHandler(nil), "http://example.com/", http.StatusNotFound)

		w.reach(m)
		if err := m.Renew(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		checkStatus(t, app, "https://example.com/", http.StatusOK)
		w.serial(m, "xn--bcher-kva.example")
	})
}

var hello200 = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })

func checkStatus(t *testing.T, h http.Handler, url string, want int) {
	t.Helper()
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, url, nil))
	if answer.Code != want {
		t.Errorf("GET %s: %d, want %d", url, answer.Code, want)
	}
}

// What is stored is served by a handshake that comes before Load.
func TestHandshakeBeforeLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.order(named("a.example"), named("b.example"))
		m := w.manager(named("a.example"), named("b.example"))
		w.serial(m, "a.example")
		for d := range m.Status() {
			if loaded := len(d.Certificates) > 0; loaded != (d.Name == "a.example") {
				t.Errorf("%s has %d certificates, want only those of a.example to be read", d.Name, len(d.Certificates))
			}
		}
	})
}

// hanging is a Store whose values are there only when it is let go.
type hanging struct {
	store.Store
	release chan struct{}
}

func (h *hanging) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	select {
	case <-h.release:
		return h.Store.Get(ctx, key)
	case <-ctx.Done():
		return nil, store.None, context.Cause(ctx)
	}
}

// A Store that hangs delays a handshake by five seconds at most.
func TestHandshakeWithStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.order(named("example.com"))
		h := &hanging{Store: w.store, release: make(chan struct{})}
		w.store = h
		m := w.manager(named("example.com"))
		start := time.Now()
		cert, err := m.GetCertificate(hello("example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the handshake took %v, want 5s at most", took)
		}
		if leaf, err := x509.ParseCertificate(cert.Certificate[0]); err != nil || leaf.Issuer.String() != leaf.Subject.String() {
			t.Errorf("got a certificate of %v (%v), want the fallback", leaf.Issuer, err)
		}
		close(h.release)
		w.serial(m, "example.com")
	})
}

// For a name that has a certificate, GetCertificate does not allocate, and
// needs no connection (QUIC has none).
func TestGetCertificateDoesNotAllocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.order(named("example.com"))
		m := w.manager(named("example.com"))
		if err := m.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := hello("example.com")
		allocs := testing.AllocsPerRun(100, func() {
			if cert, err := m.GetCertificate(h); cert == nil || err != nil {
				t.Errorf("GetCertificate: %v, %v", cert, err)
			}
		})
		if allocs != 0 {
			t.Errorf("GetCertificate allocates %v times, want 0", allocs)
		}
		if cert, err := m.GetCertificate(hello("")); cert != nil || !errors.Is(err, md.ErrNotManaged) {
			t.Errorf("without a name: %v, %v, want ErrNotManaged", cert, err)
		}
	})
}

func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		plain, secure := newPipes(), newPipes()
		w.ca.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) {
			if strings.HasSuffix(addr, ":443") {
				return secure.dial(ctx)
			}
			return plain.dial(ctx)
		}
		m := w.manager(named("example.com"))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Serve(ctx, hello200, plain, secure) }()
		w.ready(m)
		client := &http.Client{Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return secure.dial(ctx) },
			TLSClientConfig:   &tls.Config{RootCAs: w.ca.Roots(), Time: time.Now},
			ForceAttemptHTTP2: true,
		}}
		answer, err := client.Get("https://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if string(body) != "hello" || err != nil || answer.ProtoMajor != 2 {
			t.Errorf("got %q, %v over %s, want hello over HTTP/2", body, err, answer.Proto)
		}
		answer.Body.Close()
		client.CloseIdleConnections()
		if err := m.Serve(ctx, nil, newPipes(), newPipes()); !errors.Is(err, md.ErrRunning) {
			t.Errorf("a second Serve: %v, want ErrRunning", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve returned %v after its context ended, want nil", err)
		}
		for _, l := range []*pipes{plain, secure} {
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a listener is not closed: %v", err)
			}
		}
	})
}

func TestServeClosesListenersIfTheConfigurationIsWrong(t *testing.T) {
	plain, secure := newPipes(), newPipes()
	if err := domains(named("")).Serve(t.Context(), nil, plain, secure); err == nil {
		t.Error("Serve returned nil")
	}
	for _, l := range []*pipes{plain, secure} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a listener is not closed: %v", err)
		}
	}
}

func TestListenAndServe(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name          string
		ctx           context.Context
		plain, secure string
		want          string // part of the error
	}{
		{"returns nil after ctx has ended", ended, "127.0.0.1:0", "127.0.0.1:0", ""},
		{"returns nil after ctx has ended, whatever cannot be listened on", ended, "localhost:0", taken.Addr().String(), ""},
		{"listens nowhere if told so", ended, "-", "-", ""},
		{"names the plain address that is taken", t.Context(), taken.Addr().String(), "-", taken.Addr().String()},
		{"names the secure address that is taken", t.Context(), "127.0.0.1:0", taken.Addr().String(), taken.Addr().String()},
		{"names an address that is none", t.Context(), "-", "https", "https"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &md.Manager{HTTPAddr: test.plain, HTTPSAddr: test.secure, Store: new(store.Memory)}
			err := m.ListenAndServe(test.ctx, nil)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error about %s", err, test.want)
			}
		})
	}
}

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn)}
	p.closed, p.close = context.WithCancel(context.Background())
	return p
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed.Done():
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "pipe"} }
