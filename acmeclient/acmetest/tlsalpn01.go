package acmetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// acmeTLS1 is the protocol that tls-alpn-01 speaks (RFC 8737 §6.2).
const acmeTLS1 = "acme-tls/1"

var (
	oidACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31} // RFC 8737 §6.1
	oidSAN            = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// lookTLS validates tls-alpn-01 (RFC 8737 §3).
func (ca *CA) lookTLS(ctx context.Context, t target) *problem {
	raw, p := ca.dial(ctx, t.name, 443)
	if p != nil {
		return p
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		ServerName: t.serverName(),
		NextProtos: []string{acmeTLS1},
		MinVersion: tls.VersionTLS12, // RFC 8737 §3
		// The certificate is checked below: it is self-signed by design.
		InsecureSkipVerify: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		var alert tls.AlertError
		if errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls:") {
			return refuse(tlsProblem, "%s refuses the handshake for %s: %v", t.name, acmeTLS1, err)
		}
		return unreachable(t.name+":443", err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != acmeTLS1 {
		return refuse(unauthorized, "%s negotiated protocol %q, not %s", t.name, state.NegotiatedProtocol, acmeTLS1)
	}
	if err := checkChallengeCertificate(state.PeerCertificates[0], t); err != nil {
		return refuse(unauthorized, "the challenge certificate of %s %v", t.name, err)
	}
	return nil
}

// checkChallengeCertificate checks what RFC 8737 §3 asks of the certificate.
// Its errors say what is wrong with it.
func checkChallengeCertificate(cert *x509.Certificate, t target) error {
	selfSigned := bytes.Equal(cert.RawIssuer, cert.RawSubject) &&
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
	if !selfSigned {
		return errors.New("is not self-signed")
	}
	names, identifiers := 0, 0
	for _, ext := range cert.Extensions {
		switch {
		case ext.Id.Equal(oidSAN):
			names++
			if n, err := countSANs(ext.Value); err != nil || n != 1 {
				return errors.New("must have exactly one subject alternative name")
			}
		case ext.Id.Equal(oidACMEIdentifier):
			identifiers++
			if !ext.Critical {
				return errors.New("has an acmeIdentifier that is not critical")
			}
			sum := sha256.Sum256([]byte(t.keyAuth))
			want := append([]byte{0x04, sha256.Size}, sum[:]...) // a DER OCTET STRING
			if !bytes.Equal(ext.Value, want) {
				return errors.New("has the wrong acmeIdentifier")
			}
		}
	}
	switch {
	case identifiers != 1:
		return errors.New("must have exactly one acmeIdentifier")
	case names != 1 || !t.isNameOf(cert):
		return errors.New("must have exactly one subject alternative name, the name itself")
	}
	return nil
}

// serverName is what SNI says (RFC 8737 §3, RFC 8738 §6).
func (t target) serverName() string {
	if isAddress(t.name) {
		return reverseName(t.name)
	}
	return t.name
}

// isNameOf reports whether a certificate has the name, as a name of its kind.
func (t target) isNameOf(cert *x509.Certificate) bool {
	if isAddress(t.name) {
		return len(cert.IPAddresses) == 1 && cert.IPAddresses[0].String() == t.name
	}
	return len(cert.DNSNames) == 1 && strings.EqualFold(cert.DNSNames[0], t.name)
}

// countSANs counts the names of a SubjectAltName extension, of whatever kind.
func countSANs(der []byte) (int, error) {
	input := cryptobyte.String(der)
	var list cryptobyte.String
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() {
		return 0, errors.New("malformed extension")
	}
	n := 0
	for ; !list.Empty(); n++ {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1Element(&name, &tag) {
			return 0, errors.New("malformed extension")
		}
	}
	return n, nil
}
