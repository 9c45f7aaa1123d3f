package acmeclient

import (
	"bufio"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestProxiesThatCannotBe(t *testing.T) {
	for _, test := range []struct{ proxy, want string }{
		{"proxy.example:3128", "http://host:port"},
		{"proxy.example", "http://host:port"},
		{"ftp://proxy.example", `scheme "ftp"`},
		{"socks4://proxy.example", `scheme "socks4"`},
		{"http://", "no host"},
		{"http://:3128", "no host"},
		{"http:proxy", "no host"},
		{"http://proxy.example:0", "invalid port"},
		{"http://proxy.example:65536", "invalid port"},
		{"http://proxy.example:http", "not a URL"},
		{"http://proxy.example/path", "more than host and port"},
		{"http://proxy.example?x", "more than host and port"},
		{"http://proxy.example#x", "more than host and port"},
		{"http://u:" + leak + "@proxy.example/path", "more than host and port"},
		{"http://u:" + leak + "@proxy.example:x", "not a URL"},
		{"ftp://u:" + leak + "@proxy.example", "scheme"},
		{"http://" + strings.Repeat("x", 3000), "longer than"},
		{"http://pro\x1bxy", "not a URL"},
	} {
		_, err := CA{Proxy: test.proxy}.Resolve()
		wantText(t, err, test.want)
		if err != nil && (strings.Contains(err.Error(), leak) || strings.ContainsRune(err.Error(), 0x1b)) {
			t.Errorf("%.40q: got error %q, which shows too much", test.proxy, err)
		}
	}
	for said, want := range map[string]string{"None": "none", " direct ": "none", " http://proxy.example:3128": "http://proxy.example:3128",
		"socks5://u:p@proxy.example": "socks5://u:p@proxy.example", "https://[::1]:8443/": "https://[::1]:8443/"} {
		got, err := CA{Proxy: said}.Resolve()
		if err != nil || got.Proxy != want {
			t.Errorf("%q: got %q, %v, want %q", said, got.Proxy, err, want)
		}
		if again, err := got.Resolve(); err != nil || again != got {
			t.Errorf("%q: resolving again: got %v, %v", said, again, err)
		}
	}
}

// directoryServer is a CA with a directory, over https on loopback.
func directoryServer(t testing.TB) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, fakeDirectory)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, roots
}

// tunnel copies both ways until one side has ended.
func tunnel(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].Close()
		})
	}
	both.Wait()
}

// connectProxy answers CONNECT (RFC 9110 §9.3.6) and counts. It wants a password.
func connectProxy(count *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != "Basic dTpw" { // u:p
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		count.Add(1)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 Connected\r\n\r\n")
		tunnel(in, out)
	}
}

// socksProxy speaks as much of RFC 1928 as a client without password needs.
func socksProxy(t testing.TB, count *atomic.Int32) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if err := serveSocks(conn, count); err != nil {
					t.Errorf("the SOCKS proxy: %v", err)
				}
			})
		}
	})
	return l.Addr().String()
}

func serveSocks(conn net.Conn, count *atomic.Int32) error {
	r := bufio.NewReader(conn)
	greeting := make([]byte, 2)
	if _, err := io.ReadFull(r, greeting); err != nil || greeting[0] != 5 {
		return errors.New("no SOCKS 5 greeting")
	}
	if _, err := r.Discard(int(greeting[1])); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{5, 0}); err != nil {
		return err
	}
	request := make([]byte, 10) // version, CONNECT, 0, IPv4, address, port
	if _, err := io.ReadFull(r, request); err != nil || request[1] != 1 || request[3] != 1 {
		return errors.New("no request to connect to an IPv4 address")
	}
	out, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: request[4:8], Port: int(request[8])<<8 | int(request[9])})
	if err != nil {
		return err
	}
	count.Add(1)
	if _, err := conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	tunnel(conn, out)
	return nil
}

func TestConnectionsGoThroughTheProxy(t *testing.T) {
	server, roots := directoryServer(t)
	var viaHTTP, viaHTTPS, viaSocks atomic.Int32
	plain := httptest.NewServer(connectProxy(&viaHTTP))
	t.Cleanup(plain.Close)
	encrypted := httptest.NewTLSServer(connectProxy(&viaHTTPS))
	t.Cleanup(encrypted.Close)
	roots.AddCert(encrypted.Certificate())
	withPassword := func(url string) string { return strings.Replace(url, "://", "://u:p@", 1) }
	for _, test := range []struct {
		name  string
		proxy string
		count *atomic.Int32
	}{
		{"http", withPassword(plain.URL), &viaHTTP},
		{"https", withPassword(encrypted.URL), &viaHTTPS},
		{"socks5", "socks5://" + socksProxy(t, &viaSocks), &viaSocks},
		{"none at all", "none", new(atomic.Int32)},
	} {
		for name, base := range map[string]*http.Client{"connections of its own": nil, "a copy of a transport": {Transport: &http.Transport{}}} {
			t.Run(test.name+" with "+name, func(t *testing.T) {
				before := test.count.Load()
				c, err := New(CA{URL: server.URL, Roots: roots, Proxy: test.proxy}, base, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Directory(t.Context()); err != nil {
					t.Fatal(err)
				}
				want := int32(1)
				if test.proxy == "none" {
					want = 0
				}
				if got := test.count.Load() - before; got != want {
					t.Errorf("got %d connections through the proxy, want %d", got, want)
				}
			})
		}
	}
}

func TestErrorsOfAProxyDoNotShowItsPassword(t *testing.T) {
	server, roots := directoryServer(t)
	refusing := httptest.NewServer(connectProxy(new(atomic.Int32)))
	t.Cleanup(refusing.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, url := range []string{refusing.URL, closed.URL} {
		c, err := New(CA{URL: server.URL, Roots: roots, Proxy: strings.Replace(url, "://", "://u:"+leak+"@", 1)}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Directory(t.Context())
		if err == nil || strings.Contains(err.Error(), leak) {
			t.Errorf("got error %v, want one without the password", err)
		}
	}
}

func TestAProxyThatCannotBeUsedIsAnError(t *testing.T) {
	_, err := New(CA{Proxy: "http://proxy.example:3128"}, &http.Client{Transport: newFakeCA()}, nil)
	wantText(t, err, "cannot be given one")
	if _, err := New(CA{}, &http.Client{Transport: newFakeCA()}, nil); err != nil {
		t.Errorf("without a Proxy: %v", err)
	}
}

func TestWithoutAProxyTheTransportIsAsItWas(t *testing.T) {
	own := &http.Transport{Proxy: nil}
	c, err := New(CA{}, &http.Client{Transport: own}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := c.transport.base.(*http.Transport); !ok || got != own {
		t.Errorf("got %v, want the given transport", got)
	}
	c, err = New(CA{Proxy: "none"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.transport.base.(*http.Transport); got.Proxy != nil {
		t.Error("none: got a proxy function, want none at all: it would ask the environment")
	}
}

func TestAClientIsSharedByCAsWithTheSameEndpoint(t *testing.T) {
	f := newFakeCA()
	pool := x509.NewCertPool()
	one := CA{URL: fakeBase + "/directory", Roots: pool}
	base, err := New(one, &http.Client{Transport: f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := CA{Name: "mine", URL: "https://CA.test/directory", Roots: pool, Limits: Limits{Orders: Rate{Count: 7}}, AccountKey: testKey(t, P256)}
	shared, err := base.For(other)
	if err != nil {
		t.Fatal(err)
	}
	if got := shared.CA(); got.Name != "mine" || got.Limits != other.Limits || got.AccountKey != other.AccountKey || base.CA().Name != "ca.test" {
		t.Errorf("got %v and %v, want each with its own CA", got, base.CA())
	}
	for _, c := range []*Client{base, shared} {
		if _, err := c.Directory(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.count("GET /directory"); got != 1 {
		t.Errorf("got %d requests for the directory, want 1", got)
	}
	for name, ca := range map[string]CA{
		"another URL":       {URL: fakeBase + "/other", Roots: pool},
		"no roots":          {URL: fakeBase + "/directory"},
		"other roots":       {URL: fakeBase + "/directory", Roots: x509.NewCertPool()},
		"a proxy":           {URL: fakeBase + "/directory", Roots: pool, Proxy: "none"},
		"plain on loopback": {URL: fakeBase + "/directory", Roots: pool, PlainLoopback: true},
	} {
		_, err := base.For(ca)
		wantText(t, err, "a Client of its own")
		if resolved, err := ca.Resolve(); err != nil || resolved.Endpoint() == base.CA().Endpoint() {
			t.Errorf("%s: got the same Endpoint, %v", name, err)
		}
	}
	if _, err := base.For(CA{Name: "nobody"}); err == nil {
		t.Error("a CA that cannot be: got no error, want one")
	}
	keys := map[Endpoint]int{base.CA().Endpoint(): 1}
	if keys[shared.CA().Endpoint()] != 1 {
		t.Error("equal Endpoints are not the same key of a map")
	}
}
