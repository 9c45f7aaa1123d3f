package challenge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/challenge/challengetest"
	"github.com/manageddomains/md/store"
)

func tlsChallenge(name, token string) challenge.Challenge {
	c := httpChallenge(name, token)
	c.Type = challenge.TypeTLSALPN01
	return c
}

// shake makes a handshake with a as a validator would, and returns what both
// sides have seen.
func shake(a *challenge.TLSALPN01, serverName string) (state tls.ConnectionState, clientErr, serverErr error) {
	near, far := net.Pipe()
	defer near.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	done := make(chan error, 1)
	serving.Go(func() {
		defer far.Close()
		done <- tls.Server(far, &tls.Config{GetConfigForClient: a.ConfigForClient}).Handshake()
	})
	client := tls.Client(near, &tls.Config{
		ServerName:         serverName,
		NextProtos:         []string{challenge.ALPNProto},
		InsecureSkipVerify: true, // it proves a name by an extension
	})
	clientErr = client.Handshake()
	near.Close()
	return client.ConnectionState(), clientErr, <-done
}

// proves checks cert as RFC 8737 §3 has validators do it.
func proves(cert *x509.Certificate, c challenge.Challenge) bool {
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != c.Name || len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) != 0 {
		return false
	}
	sum := sha256.Sum256([]byte(c.KeyAuthorization))
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) {
			return e.Critical && bytes.Equal(e.Value, append([]byte{0x04, 0x20}, sum[:]...))
		}
	}
	return false
}

func TestTLSALPN01KeepsThePromises(t *testing.T) {
	s := new(store.Memory)
	a := &challenge.TLSALPN01{Store: s}
	// Another process answers.
	answering := &challenge.TLSALPN01{Store: s}
	challengetest.Run(t, a, func(t *testing.T, ctx context.Context, ch challenge.Challenge) bool {
		state, err, _ := shake(answering, ch.Name)
		return err == nil && state.NegotiatedProtocol == challenge.ALPNProto && proves(state.PeerCertificates[0], ch)
	}, &challenge.TLSALPN01{Store: s})
}

func TestTLSALPN01Certificate(t *testing.T) {
	a := &challenge.TLSALPN01{Store: new(store.Memory)}
	ch := tlsChallenge("example.com", token)
	present(t, a, ch)
	state, err, _ := shake(a, "EXAMPLE.com")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(state.PeerCertificates); got != 1 {
		t.Fatalf("%d certificates, want 1", got)
	}
	cert := state.PeerCertificates[0]
	if !proves(cert, ch) {
		t.Errorf("the certificate for %q does not prove control", cert.DNSNames)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		t.Errorf("the certificate is not self-signed: %v", err)
	}
	if cert.IsCA {
		t.Error("the certificate is that of a CA")
	}
	if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		t.Errorf("the certificate is valid from %v to %v", cert.NotBefore, cert.NotAfter)
	}
	again, err, _ := shake(a, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	if again.PeerCertificates[0].Equal(cert) {
		t.Error("two validators got the same certificate, so a key is kept")
	}
}

func TestTLSALPN01ProvesAddresses(t *testing.T) {
	a := &challenge.TLSALPN01{
		Store:   new(store.Memory),
		Managed: func(name string) bool { return name == "192.0.2.1" || name == "2001:db8::1" },
	}
	for ip, reverse := range map[string]string{
		"192.0.2.1":   "1.2.0.192.in-addr.arpa",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		present(t, a, tlsChallenge(ip, token))
		state, err, _ := shake(a, reverse)
		if err != nil {
			t.Fatal(err)
		}
		cert := state.PeerCertificates[0]
		if len(cert.DNSNames) != 0 || len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != ip {
			t.Errorf("the certificate is for %q and %v, want %s alone", cert.DNSNames, cert.IPAddresses, ip)
		}
	}
}

func TestTLSALPN01LeavesOtherClientsAlone(t *testing.T) {
	a := &challenge.TLSALPN01{Store: &deafStore{t: t}}
	for _, protos := range [][]string{nil, {}, {"h2"}, {"h2", "http/1.1"}, {"acme-tls/1", "h2"}, {"h2", "acme-tls/1"}, {"acme-tls/1", "acme-tls/1"}, {"ACME-TLS/1"}} {
		config, err := a.ConfigForClient(&tls.ClientHelloInfo{ServerName: "example.com", SupportedProtos: protos})
		if config != nil || err != nil {
			t.Errorf("a client that offers %q gets %v, %v; want nil, nil", protos, config, err)
		}
	}
}

func TestTLSALPN01Config(t *testing.T) {
	a := &challenge.TLSALPN01{Store: new(store.Memory)}
	present(t, a, tlsChallenge("example.com", token))
	// A hello that crypto/tls did not make: no context, no connection.
	config, err := a.ConfigForClient(&tls.ClientHelloInfo{ServerName: "example.com", SupportedProtos: []string{"acme-tls/1"}})
	if err != nil {
		t.Fatal(err)
	}
	if !config.SessionTicketsDisabled {
		t.Error("sessions can be resumed")
	}
	if config.MinVersion < tls.VersionTLS12 {
		t.Errorf("MinVersion is %x", config.MinVersion)
	}
	if len(config.NextProtos) != 1 || config.NextProtos[0] != "acme-tls/1" {
		t.Errorf("NextProtos is %q", config.NextProtos)
	}
}

func TestTLSALPN01ErrsForWhatIsNotPending(t *testing.T) {
	s := new(store.Memory)
	a := &challenge.TLSALPN01{Store: s, Managed: func(name string) bool { return name != "unmanaged.example" }}
	present(t, a, tlsChallenge("unmanaged.example", token))
	for _, name := range []string{"example.com", "unmanaged.example", "a.example..", "a/b", "\x00", "", strings.Repeat("a", 1<<16)} {
		_, err := a.ConfigForClient(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{"acme-tls/1"}})
		if !errors.Is(err, challenge.ErrNotPending) {
			t.Errorf("%.20q: error is %v, want ErrNotPending", name, err)
		} else if len(err.Error()) > 2000 {
			t.Errorf("%.20q: the error has %d bytes", name, len(err.Error()))
		}
	}
	for _, value := range []string{"garbage", `{"name":"example.org","key-authorization":"` + token + "." + thumbprint + `"}`} {
		if _, err := s.Put(t.Context(), "challenges/tls-alpn-01/example.com", []byte(value), store.Any); err != nil {
			t.Fatal(err)
		}
		if _, err, serverErr := shake(a, "example.com"); err == nil || serverErr == nil || !strings.Contains(serverErr.Error(), "challenges/tls-alpn-01/example.com") {
			t.Errorf("%.20q in the Store: handshake ends with %v and %v, want an error that names the key", value, err, serverErr)
		}
	}
	broken := &challenge.TLSALPN01{Store: new(brokenStore), Logger: slog.New(slog.DiscardHandler)}
	if _, err := broken.ConfigForClient(&tls.ClientHelloInfo{ServerName: "example.com", SupportedProtos: []string{"acme-tls/1"}}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a Store that cannot be read: error is %v, want its own", err)
	}
}

func TestTLSALPN01AnswersTheLatest(t *testing.T) {
	a := &challenge.TLSALPN01{Store: new(store.Memory)}
	first, second := tlsChallenge("example.com", token), tlsChallenge("example.com", otherToken)
	present(t, a, first)
	present(t, a, second)
	state, err, _ := shake(a, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	if !proves(state.PeerCertificates[0], second) {
		t.Error("the second challenge for the name is not answered")
	}
}

func TestTLSALPN01AnswersManyValidators(t *testing.T) {
	a := &challenge.TLSALPN01{Store: new(store.Memory)}
	ch := tlsChallenge("example.com", token)
	present(t, a, ch)
	var validators sync.WaitGroup
	for range 150 {
		validators.Go(func() {
			state, err, _ := shake(a, "example.com")
			if err != nil || !proves(state.PeerCertificates[0], ch) {
				t.Errorf("a validator among many was not answered: %v", err)
			}
		})
	}
	validators.Wait()
}

// firstWrite keeps what a client says first, its ClientHello, and says no
// more.
type firstWrite struct {
	net.Conn
	said bytes.Buffer
}

func (c *firstWrite) Write(b []byte) (int, error) { c.said.Write(b); return 0, io.ErrClosedPipe }

// A client that says hello and then nothing must not keep a connection, even
// where no server sets deadlines.
func TestTLSALPN01ClosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &challenge.TLSALPN01{Store: new(store.Memory)}
		present(t, a, tlsChallenge("example.com", token))
		hello := &firstWrite{}
		tls.Client(hello, &tls.Config{ServerName: "example.com", NextProtos: []string{"acme-tls/1"}}).Handshake()

		near, far := net.Pipe()
		defer near.Close()
		var serving sync.WaitGroup
		start := time.Now()
		serving.Go(func() {
			if err := tls.Server(far, &tls.Config{GetConfigForClient: a.ConfigForClient}).Handshake(); err == nil {
				t.Error("the handshake succeeded without a client")
			}
		})
		if _, err := near.Write(hello.said.Bytes()); err != nil {
			t.Fatal(err)
		}
		serving.Wait()
		if got, want := time.Since(start), 10*time.Second; got != want {
			t.Errorf("the connection was closed after %v, want %v", got, want)
		}
	})
}

// After the handshake, too: the server here would wait for ever.
func TestTLSALPN01ClosesTheConnectionAfterTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &challenge.TLSALPN01{Store: new(store.Memory)}
		present(t, a, tlsChallenge("example.com", token))
		near, far := net.Pipe()
		defer near.Close()
		var serving sync.WaitGroup
		start := time.Now()
		serving.Go(func() {
			server := tls.Server(far, &tls.Config{GetConfigForClient: a.ConfigForClient})
			if _, err := server.Read(make([]byte, 1)); err == nil {
				t.Error("something was read")
			}
		})
		client := tls.Client(near, &tls.Config{ServerName: "example.com", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		serving.Wait()
		if got, want := time.Since(start), 10*time.Second; got != want {
			t.Errorf("the connection was closed after %v, want %v", got, want)
		}
	})
}

func BenchmarkTLSALPN01(b *testing.B) {
	a := &challenge.TLSALPN01{Store: new(store.Memory)}
	if err := a.Present(b.Context(), tlsChallenge("example.com", token)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		// Its first rounds of reading are not paced.
		fresh := &challenge.TLSALPN01{Store: a.Store}
		if _, err := fresh.ConfigForClient(&tls.ClientHelloInfo{ServerName: "example.com", SupportedProtos: []string{"acme-tls/1"}}); err != nil {
			b.Fatal(err)
		}
	}
}
