package live

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"
)

// serverConfig serves what is in table, and notes what was chosen last.
func serverConfig(table *Table, chosen **tls.Certificate) *tls.Config {
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, _ := table.Certificate(hello)
			if c == nil {
				return nil, errors.New("no certificate")
			}
			*chosen = c
			return c, nil
		},
	}
}

// shake does one handshake over a pipe, and returns both sides' errors.
func shake(tb testing.TB, server, client *tls.Config) (serverErr, clientErr error) {
	tb.Helper()
	serverEnd, clientEnd := net.Pipe()
	return shakeOver(serverEnd, clientEnd, server, client)
}

func shakeOver(serverEnd, clientEnd net.Conn, server, client *tls.Config) (serverErr, clientErr error) {
	// A pipe has no room, so two sides that fail in ways of their own could
	// wait for one another.
	for _, end := range []net.Conn{serverEnd, clientEnd} {
		if err := end.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err, err
		}
	}
	done := make(chan error)
	go func() {
		defer serverEnd.Close()
		conn := tls.Server(serverEnd, server)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte{0}) // what follows the handshake is on its way, too
		}
		done <- err
	}()
	conn := tls.Client(clientEnd, client)
	clientErr = conn.Handshake()
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	clientEnd.Close()
	return <-done, clientErr
}

func TestHandshakesGetWhatSuitsThem(t *testing.T) {
	const name = "two.example.com"
	var chains Chains
	ca := newTestCA(t, "handshakes")
	ecdsa := ca.credential(t, &chains, "P-256", name)
	rsa := ca.credential(t, &chains, "RSA-2048", name)
	p384 := ca.credential(t, &chains, "P-384", name)
	ed25519 := ca.credential(t, &chains, "Ed25519", name)
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)

	both := &Site{Credentials: []*Credential{ecdsa, rsa}}
	for _, test := range []struct {
		it     string
		site   *Site
		server func(*tls.Config)
		client *tls.Config
		want   *Credential
	}{
		{"prefers the first with TLS 1.3", both, nil, &tls.Config{MinVersion: tls.VersionTLS13}, ecdsa},
		{"prefers the first with TLS 1.2", both, nil, &tls.Config{MaxVersion: tls.VersionTLS12}, ecdsa},
		{"prefers the first, if that is RSA", &Site{Credentials: []*Credential{rsa, ecdsa}}, nil, &tls.Config{}, rsa},
		{"takes RSA for a client of RSA suites only", both, nil, &tls.Config{
			MaxVersion:   tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		}, rsa},
		{"takes ECDSA for a client of ECDSA suites only", &Site{Credentials: []*Credential{rsa, ecdsa}}, nil, &tls.Config{
			MaxVersion:   tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		}, ecdsa},
		{"takes the curve that the client has", &Site{Credentials: []*Credential{p384, ecdsa}}, nil, &tls.Config{
			MaxVersion:       tls.VersionTLS12,
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		}, ecdsa},
		{"takes any curve with TLS 1.3", &Site{Credentials: []*Credential{p384, ecdsa}}, nil, &tls.Config{
			CurvePreferences: []tls.CurveID{tls.X25519},
		}, p384},
		{"takes Ed25519", &Site{Credentials: []*Credential{ed25519, rsa}}, nil, &tls.Config{}, ed25519},
		{"takes a former certificate if none else suits", &Site{
			Credentials: []*Credential{ecdsa}, Former: []*Credential{p384, rsa},
		}, nil, &tls.Config{
			MaxVersion:   tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		}, rsa},
		{"takes a former certificate if there is none else", &Site{Former: []*Credential{rsa}}, nil, &tls.Config{}, rsa},
		{"obeys a server that speaks TLS 1.0", both, func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }, &tls.Config{
			MinVersion:   tls.VersionTLS10,
			MaxVersion:   tls.VersionTLS10,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
		}, rsa},
		{"obeys a server that has static RSA suites", both, func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}, &tls.Config{
			MaxVersion:   tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
		}, rsa},
	} {
		t.Run(test.it, func(t *testing.T) {
			var table Table
			table.Put([]string{name}, test.site)
			var chosen *tls.Certificate
			server := serverConfig(&table, &chosen)
			if test.server != nil {
				test.server(server)
			}
			client := test.client.Clone()
			client.ServerName, client.RootCAs = name, roots
			if serverErr, clientErr := shake(t, server, client); serverErr != nil || clientErr != nil {
				t.Errorf("server got error %v, client %v, want none", serverErr, clientErr)
			}
			if chosen != test.want.TLS() {
				t.Error("the handshake got another credential than the one that suits")
			}
		})
	}
}

func TestHandshakeThatNothingSuitsFailsWithAReason(t *testing.T) {
	var table Table
	var chains Chains
	ca := newTestCA(t, "no suitable key")
	ecdsa := ca.credential(t, &chains, "P-256", "example.com")
	p384 := ca.credential(t, &chains, "P-384", "example.com")
	table.Put([]string{"example.com"}, &Site{Credentials: []*Credential{ecdsa, p384}})
	var chosen *tls.Certificate
	serverErr, clientErr := shake(t, serverConfig(&table, &chosen), &tls.Config{
		ServerName:   "example.com",
		MaxVersion:   tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	})
	if serverErr == nil || clientErr == nil {
		t.Errorf("server got error %v, client %v, want both to fail", serverErr, clientErr)
	}
	if chosen != ecdsa.TLS() {
		t.Error("got another credential than the first, want the first, for crypto/tls to refuse")
	}
}

// rewriter is a client's end of a pipe that changes the signature schemes in
// the ClientHello, which crypto/tls's client gives no other means to choose.
type rewriter struct {
	net.Conn
	schemes []tls.SignatureScheme
}

func (r *rewriter) Write(p []byte) (int, error) {
	if r.schemes != nil {
		p = withSchemes(p, r.schemes)
		r.schemes = nil
	}
	return r.Conn.Write(p)
}

// Read ends the handshake once the hello is sent: the keys of the two sides
// would differ from here on.
func (r *rewriter) Read([]byte) (int, error) { return 0, errHelloSent }

var errHelloSent = errors.New("the hello was sent, which was all")

// withSchemes fills the first signature_algorithms extension (type 13,
// RFC 8446 §4.2.3) in hello with the schemes, as often as it has room.
func withSchemes(hello []byte, schemes []tls.SignatureScheme) []byte {
	hello = slices.Clone(hello)
	known := binary.BigEndian.AppendUint16(nil, uint16(tls.PSSWithSHA256))
	for at := 0; at+6 < len(hello); at++ {
		size := int(binary.BigEndian.Uint16(hello[at+4:]))
		if !bytes.Equal(hello[at:at+2], []byte{0, 13}) || int(binary.BigEndian.Uint16(hello[at+2:])) != size+2 ||
			at+6+size > len(hello) || !bytes.Contains(hello[at+6:at+6+size], known) {
			continue
		}
		for i := 0; i < size/2; i++ {
			binary.BigEndian.PutUint16(hello[at+6+2*i:], uint16(schemes[i%len(schemes)]))
		}
		return hello
	}
	return nil
}

func TestHandshakesWithFewSignatureSchemesGetWhatSuitsThem(t *testing.T) {
	const name = "all.example.com"
	var table Table
	var chains Chains
	ca := newTestCA(t, "schemes")
	s := &Site{}
	for _, kind := range []string{"P-256", "RSA-2048", "P-384", "Ed25519", "P-521"} {
		s.Credentials = append(s.Credentials, ca.credential(t, &chains, kind, name))
	}
	table.Put([]string{name}, s)
	for _, test := range []struct {
		it      string
		schemes []tls.SignatureScheme
		want    int
	}{
		{"P-256", []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}, 0},
		{"RSA", []tls.SignatureScheme{tls.PSSWithSHA512}, 1},
		{"P-384", []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.ECDSAWithP384AndSHA384}, 2}, // TLS 1.3 has no PKCS #1 signatures
		{"Ed25519", []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512, tls.Ed25519}, 3},
		{"P-521", []tls.SignatureScheme{tls.ECDSAWithSHA1, tls.ECDSAWithP521AndSHA512}, 4},
	} {
		t.Run(test.it, func(t *testing.T) {
			var chosen *tls.Certificate
			serverEnd, clientEnd := net.Pipe()
			_, clientErr := shakeOver(serverEnd, &rewriter{clientEnd, test.schemes}, serverConfig(&table, &chosen), &tls.Config{
				ServerName:         name,
				MinVersion:         tls.VersionTLS13,
				InsecureSkipVerify: true,
			})
			if !errors.Is(clientErr, errHelloSent) {
				t.Errorf("the client got error %v, want %v", clientErr, errHelloSent)
			}
			if chosen != s.Credentials[test.want].TLS() {
				t.Errorf("got another credential than the one for %s", test.it)
			}
		})
	}
}

// BenchmarkHandshake does whole TLS 1.3 handshakes, both sides, with a Table
// of 1,000 names and with one static certificate by turns, and tells the
// rate of the former as a share of the latter's.
func BenchmarkHandshake(b *testing.B) {
	bt := newBenchTable(b, 1000, "P-256")
	name := bt.names[500]
	var chosen *tls.Certificate
	fromTable := serverConfig(&bt.table, &chosen)
	static := &tls.Config{Certificates: []tls.Certificate{*(*bt.floor.Load())[name]}}
	client := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}

	time1 := func(server *tls.Config) time.Duration {
		start := time.Now()
		if serverErr, clientErr := shake(b, server, client); serverErr != nil || clientErr != nil {
			b.Fatal(serverErr, clientErr)
		}
		return time.Since(start)
	}
	var tableTime, staticTime time.Duration
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 { // neither always comes first
			tableTime += time1(fromTable)
			staticTime += time1(static)
		} else {
			staticTime += time1(static)
			tableTime += time1(fromTable)
		}
	}
	b.ReportMetric(float64(tableTime.Nanoseconds())/float64(b.N), "ns/table")
	b.ReportMetric(float64(staticTime.Nanoseconds())/float64(b.N), "ns/static")
	b.ReportMetric(float64(staticTime)/float64(tableTime), "rate-of-static")
}
