package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/internal/engine"
)

// listen opens a port of loopback that the kernel chooses.
func listen(tb testing.TB) net.Listener {
	tb.Helper()
	return listenAt(tb, "127.0.0.1")
}

// listenAt opens a port of a loopback address.
func listenAt(tb testing.TB, address string) net.Listener {
	tb.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() })
	return listener
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

// serve runs server on listener until the test ends.
func serve(tb testing.TB, server *http.Server, listener net.Listener) {
	tb.Helper()
	server.ErrorLog = log.New(io.Discard, "", 0) // validators hang up as they like
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	tb.Cleanup(func() {
		server.Close()
		<-served
	})
}

// place is a machine's two ports. They stay open between the Managers that
// serve there, so that nobody else can take them.
type place struct {
	plain, secure *net.TCPListener // never accepted from; copies are
}

func newPlace(tb testing.TB) *place {
	tb.Helper()
	return newPlaceAt(tb, "127.0.0.1")
}

// newPlaceAt makes a place at a loopback address.
func newPlaceAt(tb testing.TB, address string) *place {
	tb.Helper()
	return &place{listenAt(tb, address).(*net.TCPListener), listenAt(tb, address).(*net.TCPListener)}
}

// files returns copies of both listeners to give to another process.
func (p *place) files(tb testing.TB) (plain, secure *os.File) {
	tb.Helper()
	plain, err := p.plain.File()
	if err != nil {
		tb.Fatal(err)
	}
	if secure, err = p.secure.File(); err != nil {
		tb.Fatal(err)
	}
	return plain, secure
}

// open returns listeners for a server, which may close them.
func (p *place) open(tb testing.TB) (plain, secure net.Listener) {
	tb.Helper()
	plainFile, secureFile := p.files(tb)
	plain, err := adopt(plainFile)
	if err != nil {
		tb.Fatal(err)
	}
	if secure, err = adopt(secureFile); err != nil {
		tb.Fatal(err)
	}
	return plain, secure
}

// adopt makes a listener of a file and closes the file.
func adopt(file *os.File) (net.Listener, error) {
	listener, err := net.FileListener(file)
	return listener, errors.Join(err, file.Close())
}

// startCA starts a CA that validates names at p and ends with the test.
func (p *place) startCA(tb testing.TB, cfg localca.Config) *localca.CA {
	tb.Helper()
	cfg.HTTPPort, cfg.TLSPort = port(p.plain), port(p.secure)
	return startCA(tb, cfg)
}

// address is where p answers HTTPS.
func (p *place) address() string { return p.secure.Addr().String() }

func startCA(tb testing.TB, cfg localca.Config) *localca.CA {
	tb.Helper()
	ca, err := localca.Start(cfg)
	if err != nil {
		tb.Fatalf("the local CA: %v", err)
	}
	tb.Cleanup(func() {
		if err := ca.Close(); err != nil {
			tb.Errorf("closing the local CA: %v", err)
		}
	})
	return ca
}

// body is what the servers of this package answer.
const body = "hello from behind the certificate\n"

func website() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
}

// run has m serve at p. The function returned stops it, and fails the test
// if it does not end cleanly; the end of the test stops it as well.
func (p *place) run(tb testing.TB, m *md.Manager) (stop func()) {
	tb.Helper()
	return p.runWith(context.Background(), tb, m)
}

// runWith is run with what ctx carries.
func (p *place) runWith(ctx context.Context, tb testing.TB, m *md.Manager) (stop func()) {
	tb.Helper()
	plain, secure := p.open(tb)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- m.Serve(ctx, website(), plain, secure) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			tb.Errorf("Serve returned %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// ready waits until m has all its certificates.
func ready(tb testing.TB, m *md.Manager) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := m.Ready(ctx); err != nil {
		for domain := range m.Status() {
			tb.Logf("%s is %s: %+v", domain.Name, domain.State, domain.Renewal)
		}
		tb.Fatalf("Ready: %v", err)
	}
}

// patience ends tests that hang; nothing that works comes near it.
const patience = 2 * time.Minute

// connect makes a TLS connection to p as name and verifies what is served
// with roots.
func (p *place) connect(tb testing.TB, name string, roots *x509.CertPool) *x509.Certificate {
	tb.Helper()
	conn, err := tls.Dial("tcp", p.address(), &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		tb.Fatalf("connecting to %s: %v", name, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// get asks for https://name/ at p and returns what is answered.
func (p *place) get(tb testing.TB, name string, roots *x509.CertPool) string {
	tb.Helper()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.address())
		},
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + name + "/")
	if err != nil {
		tb.Fatalf("GET https://%s/: %v", name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		tb.Fatalf("GET https://%s/: %s, %v", name, response.Status, err)
	}
	return string(text)
}

// at names ca as a Manager wants it.
func at(ca *localca.CA) []md.CA {
	return []md.CA{{Name: "local", URL: ca.DirectoryURL(), Roots: ca.TLSRoots(), Limits: unlimited()}}
}

// manyNames makes n different names.
func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("host-%03d.example.test", i)
	}
	return names
}

// logged returns a Logger that writes to the test's log.
func logged(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// unlimited is for tests that renew more often than a CA would like.
func unlimited() acmeclient.Limits {
	none := acmeclient.Rate{Count: -1}
	return acmeclient.Limits{Orders: none, Failures: none, Certificates: none}
}

// restless lets Renew order at once what has just been issued.
func restless(ctx context.Context) context.Context {
	return engine.WithKnobs(ctx, engine.Knobs{Restless: true})
}
