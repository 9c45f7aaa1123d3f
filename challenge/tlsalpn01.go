package challenge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/manageddomains/md/store"
)

// ALPNProto is the protocol that tls-alpn-01 validators negotiate
// (RFC 8737 §6.2).
const ALPNProto = "acme-tls/1"

const (
	tlsALPN01Prefix = "challenges/tls-alpn-01/"

	// validatorTime is how long a validator's connection may take from its
	// ClientHello on.
	validatorTime = 10 * time.Second
)

// ErrNotPending reports that no challenge is pending for the name that a
// validator asks for.
var ErrNotPending = errors.New("challenge: no tls-alpn-01 challenge is pending for this name")

// TLSALPN01 answers tls-alpn-01 challenges (RFC 8737). [TLSALPN01.Present]
// puts the answer into the Store, and [TLSALPN01.ConfigForClient] makes of it
// a certificate in any process that shares the Store, when a validator asks.
// No private key is ever stored.
//
// Validators do not tell which challenge they are about, only the name. If
// two challenges for one name are pending at once, because two accounts or
// two orders are at it, the latest one is answered.
//
// Use a pointer. Fields may be changed until the first method call; then all
// methods may be called concurrently.
type TLSALPN01 struct {
	// Store keeps the answers. In a Domain's list of Challengers, nil names
	// the Manager's own TLSALPN01; on its own, a TLSALPN01 needs one.
	Store store.Store

	// Managed reports whether name may be asked for: a DNS name in lower
	// case without a final dot, or an IP address. For other names the Store
	// is not read. Nil: any name may be asked for.
	Managed func(name string) bool

	// Logger is told when the Store cannot be read. Nil: slog.Default().
	Logger *slog.Logger

	answers lookup
}

// Types returns "tls-alpn-01".
func (a *TLSALPN01) Types() []string { return []string{TypeTLSALPN01} }

// Present puts the answer to c into the Store, in place of another one for
// the same name.
func (a *TLSALPN01) Present(ctx context.Context, c Challenge) error {
	answer, err := newAnswer(c, TypeTLSALPN01)
	if err != nil {
		return err
	}
	if a.Store == nil {
		return errNoStore(TypeTLSALPN01)
	}
	return answer.put(ctx, a.Store, tlsALPN01Prefix+answer.Name)
}

// CleanUp removes the answer to c from the Store, if it is there. Another
// challenge's answer for the same name stays.
func (a *TLSALPN01) CleanUp(ctx context.Context, c Challenge) error {
	answer, err := newAnswer(c, TypeTLSALPN01)
	if err != nil {
		return err
	}
	if a.Store == nil {
		return errNoStore(TypeTLSALPN01)
	}
	return answer.remove(ctx, a.Store, tlsALPN01Prefix+answer.Name)
}

// ConfigForClient is for tls.Config.GetConfigForClient, where it goes first.
// It returns nil and nil for clients that are not validators: all that do not
// offer "acme-tls/1" and nothing else (RFC 8737 §3).
//
// For a validator it returns the configuration that answers it, or an error
// that ends the handshake: ErrNotPending, or one that says why the answer
// cannot be had. The connection is closed ten seconds later, whether or not
// the handshake has ended by then, unless hello.Conn is nil (QUIC).
//
// Use a server that closes such connections after the handshake: net/http
// does, with or without [CloseNextProto].
func (a *TLSALPN01) ConfigForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != ALPNProto {
		return nil, nil
	}
	stop := closeLater(hello.Conn)
	cert, err := a.certificate(hello)
	if err != nil {
		stop() // the server closes the connection with the handshake
		return nil, err
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{*cert},
		NextProtos:             []string{ALPNProto},
		MinVersion:             tls.VersionTLS12, // RFC 8737 §4
		SessionTicketsDisabled: true,             // each validation proves control anew
	}, nil
}

// CloseNextProto closes the connection. It is for http.Server.TLSNextProto,
// under the key ALPNProto: nothing is said over such connections once the
// handshake has ended (RFC 8737 §3). An http.Server whose TLSNextProto is
// set speaks HTTP/2 only if its Protocols field says so.
func CloseNextProto(_ *http.Server, conn *tls.Conn, _ http.Handler) { conn.Close() }

// closeLater closes conn when a validator's time is over. Nothing else does
// if the client stops in mid-handshake and the server sets no deadline.
func closeLater(conn net.Conn) (stop func() bool) {
	if conn == nil {
		return func() bool { return true }
	}
	return time.AfterFunc(validatorTime, func() { conn.Close() }).Stop
}

// certificate makes the certificate that hello asks for.
func (a *TLSALPN01) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name, ok := canonicalName(hello.ServerName)
	if ip, isReverse := reverseIP(name); isReverse {
		name = ip.String()
	}
	if !ok || a.Store == nil || a.Managed != nil && !a.Managed(name) {
		return nil, fmt.Errorf("%w: %.300q", ErrNotPending, hello.ServerName)
	}
	ctx := hello.Context()
	if ctx == nil { // a hello that crypto/tls did not make
		ctx = context.Background()
	}
	value, err := a.answers.get(ctx, a.Store, tlsALPN01Prefix, name, loggerOr(a.Logger))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotPending, name)
	}
	if err != nil {
		return nil, fmt.Errorf("challenge: tls-alpn-01 for %s: %w", name, err)
	}
	answer, err := decodeAnswer(value)
	if err == nil && answer.Name != name {
		err = fmt.Errorf("it is for %s", answer.Name)
	}
	if err != nil {
		return nil, errBroken(a.Store, tlsALPN01Prefix+name, err)
	}
	return mint(answer)
}

// idACMEIdentifier is the extension id-pe-acmeIdentifier (RFC 8737 §6.1).
var idACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

// mint makes the self-signed certificate of RFC 8737 §3 with a key of its
// own, which is forgotten with the connection.
func mint(a answer) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(a.KeyAuthorization))
	digest, err := asn1.Marshal(sum[:])
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "ACME challenge"},
		NotBefore:             time.Now().Add(-time.Hour), // clocks differ
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: idACMEIdentifier, Critical: true, Value: digest}},
	}
	if ip, err := netip.ParseAddr(a.Name); err == nil {
		t.IPAddresses = []net.IP{ip.AsSlice()} // RFC 8738 §6
	} else {
		t.DNSNames = []string{a.Name}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("challenge: the certificate for %s could not be made: %w", a.Name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
