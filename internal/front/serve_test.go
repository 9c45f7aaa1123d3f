package front

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/store"
)

// certificate makes a self-signed certificate for example.com.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		DNSNames:  []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// run runs s until the returned function is called, which checks that Run
// returns nil.
func run(t *testing.T, s *Servers) (stop func()) {
	t.Helper()
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v, want nil after its context has ended", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// client returns a client that reaches s whatever it asks for.
func client(t *testing.T, s *Servers, http2 bool) *http.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	dial := func(ctx context.Context, l net.Listener) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
	transport := &http.Transport{
		Protocols:       &protocols,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":443") {
				return dial(ctx, s.Secure)
			}
			return dial(ctx, s.Plain)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestServersServeBothProtocols(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	proto := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
	})
	s := &Servers{Plain: listen(t), Secure: listen(t), PlainHandler: proto, Handler: proto, TLS: config}
	stop := run(t, s)
	for _, c := range []struct {
		url   string
		http2 bool
		want  string
	}{
		{"http://example.com/", false, "HTTP/1.1 false"},
		{"https://example.com/", false, "HTTP/1.1 true"},
		{"https://example.com/", true, "HTTP/2.0 true"},
	} {
		r, err := client(t, s, c.http2).Get(c.url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if string(body) != c.want {
			t.Errorf("%s is served with %q, %v; want %q", c.url, body, err, c.want)
		}
	}
	stop()
	if len(config.NextProtos) != 0 {
		t.Errorf("the caller's NextProtos has become %q", config.NextProtos)
	}
	for _, l := range []net.Listener{s.Plain, s.Secure} {
		if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
			conn.Close()
			t.Errorf("%v is still listened on", l.Addr())
		}
	}
}

// A client that is refused makes a new connection for its next request, and
// so sees the certificate that may be there by then.
func TestFallbackClosesTheConnection(t *testing.T) {
	var mu sync.Mutex
	handshakes := 0
	cert := certificate(t)
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		handshakes++
		return &cert, nil
	}}
	handler := HTTPSHandler(nil, func(string) bool { return true }, app)
	s := &Servers{Secure: listen(t), Handler: handler, TLS: config}
	run(t, s)
	for _, http2 := range []bool{false, true} {
		c := client(t, s, http2)
		mu.Lock()
		handshakes = 0
		mu.Unlock()
		for range 3 {
			r, err := c.Get("https://example.com/")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
			if r.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d, want 503", r.StatusCode)
			}
			if http2 {
				// The GOAWAY may arrive after the answer; the connection
				// is not used again in any case.
				c.CloseIdleConnections()
			}
		}
		mu.Lock()
		if handshakes != 3 {
			t.Errorf("HTTP/2 %v: %d connections for 3 requests, want 3", http2, handshakes)
		}
		mu.Unlock()
	}
}

// validate makes the handshake of a tls-alpn-01 validator and returns what
// comes after it.
func validate(address string) error {
	conn, err := tls.Dial("tcp", address, &tls.Config{
		ServerName: "example.com", NextProtos: []string{challenge.ALPNProto}, InsecureSkipVerify: true,
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != challenge.ALPNProto {
		return fmt.Errorf("protocol is %q", got)
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestValidatorsAreClosedAfterTheHandshake(t *testing.T) {
	alpn := &challenge.TLSALPN01{Store: new(store.Memory)}
	if err := alpn.Present(t.Context(), challenge.Challenge{
		Type: challenge.TypeTLSALPN01, Name: "example.com", Token: token, KeyAuthorization: keyAuthorization,
	}); err != nil {
		t.Fatal(err)
	}
	s := &Servers{
		Secure: listen(t), Handler: app,
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}, GetConfigForClient: alpn.ConfigForClient},
	}
	run(t, s)
	var validators sync.WaitGroup
	for range 120 {
		validators.Go(func() {
			// io.EOF is a close_notify: the server has ended it properly.
			if err := validate(s.Secure.Addr().String()); err != io.EOF {
				t.Errorf("a validator's connection ends with %v, want %v", err, io.EOF)
			}
		})
	}
	validators.Wait()
	// Others are served as before.
	r, err := client(t, s, true).Get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	checkAnswer(t, r, 200, "app")
}

// pipeListener accepts what connect gives it, so that a server can run in a
// bubble.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) connect(t *testing.T) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	l.conns <- far
	return near
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// checkEnds reads conn to its end and checks when that is.
func checkEnds(t *testing.T, conn net.Conn, want time.Duration) {
	t.Helper()
	start := time.Now()
	io.Copy(io.Discard, conn)
	if got := time.Since(start); got != want {
		t.Errorf("the connection was closed after %v, want %v", got, want)
	}
}

func TestSilentClientsAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain, secured := newPipeListener(), newPipeListener()
		stop := run(t, &Servers{
			Plain: plain, Secure: secured, PlainHandler: app, Handler: app,
			TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}},
		})
		checkEnds(t, plain.connect(t), headerTimeout)
		checkEnds(t, secured.connect(t), headerTimeout)

		// A byte each second does not help.
		slow := plain.connect(t)
		var writing sync.WaitGroup
		writing.Go(func() {
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: example.com\r\nX: and so on") {
				if _, err := slow.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
			t.Error("a header that takes 50 seconds was read")
		})
		checkEnds(t, slow, headerTimeout)
		writing.Wait()

		idle := plain.connect(t)
		if _, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(idle), nil)
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, r, 200, "app")
		checkEnds(t, idle, idleTimeout)
		stop()
	})
}

func TestLargeHeadersAreRefused(t *testing.T) {
	s := &Servers{Plain: listen(t), PlainHandler: app}
	run(t, s)
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X", strings.Repeat("x", 2*maxHeaderBytes))
	r, err := client(t, s, false).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	checkAnswer(t, r, http.StatusRequestHeaderFieldsTooLarge, "")
}

// record keeps what is logged.
type record struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, string(b))
	return len(b), nil
}

func (r *record) has(words ...string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

func TestErrorsAreLoggedByWhoIsToBlame(t *testing.T) {
	var log record
	s := &Servers{
		Secure: listen(t), TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.WriteHeader(200)
			panic("the app is broken")
		}),
	}
	stop := run(t, s)
	conn, err := net.Dial("tcp", s.Secure.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "not a ClientHello at all\n\n")
	io.Copy(io.Discard, conn)
	conn.Close()
	for _, http2 := range []bool{false, true} {
		if r, err := client(t, s, http2).Get("https://example.com/"); err == nil {
			r.Body.Close()
		}
	}
	stop()
	for _, words := range [][]string{
		{"level=DEBUG", "TLS handshake error"},
		{"level=WARN", "http: superfluous"},
		{"level=ERROR", "http: panic serving", "the app is broken"},
		{"level=ERROR", "http2: panic serving", "the app is broken"},
	} {
		if !log.has(words...) {
			t.Errorf("no record has %q in\n%s", words, strings.Join(log.lines, ""))
		}
	}
	if got := level([]byte("timeout waiting for SETTINGS frames")); got != slog.LevelDebug {
		t.Errorf("what a peer does is logged as %v, want debug", got)
	}
}
