package live

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// maxChain is the size in bytes of the longest chain that is taken. Many
// clients take far less; Go's take no more than this in one message.
const maxChain = 1 << 18

// Credential is one key and its chain as crypto/tls wants them, with what is
// needed to choose among several. It is immutable and may be used
// concurrently. Credentials are made by [Chains.NewCredential].
type Credential struct {
	certificate tls.Certificate
	needs       *needs   // shared by all credentials with the same kind of key
	issuers     *issuers // shared; held so that Chains can find it while it is in use
	notAfter    int64    // Unix seconds
}

// NewCredential makes a Credential of a chain (DER, leaf first) and the key
// of its leaf. It copies what it keeps of chain, and shares the issuers'
// certificates with the other credentials made by ch.
//
// The leaf must be a certificate that crypto/x509 can parse and be made for
// key. The other certificates may be of any kind: they are for clients to
// understand. A key of a type that crypto/tls does not know is taken; such a
// Credential is chosen only where nothing else suits, and the handshake fails
// unless crypto/tls can use it after all.
func (ch *Chains) NewCredential(chain [][]byte, key crypto.Signer) (*Credential, error) {
	if key == nil {
		return nil, errors.New("live: there is no key")
	}
	if err := checkSizes(chain); err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("live: the first certificate of the chain cannot be parsed: %w", err)
	}
	public := key.Public()
	known, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if ok && !known.Equal(public) {
		return nil, fmt.Errorf("live: the certificate (serial %x) is not for this key: it is for another %T, and the key has a %T",
			leaf.SerialNumber, leaf.PublicKey, public)
	}
	issuers := ch.intern(chain[1:])
	_, decrypts := key.(crypto.Decrypter)
	return &Credential{
		certificate: tls.Certificate{
			Certificate: issuers.below(chain[0]),
			PrivateKey:  key,
		},
		needs:    ch.needsOf(leaf, public, decrypts),
		issuers:  issuers,
		notAfter: leaf.NotAfter.Unix(),
	}, nil
}

func checkSizes(chain [][]byte) error {
	if len(chain) == 0 {
		return errors.New("live: the chain has no certificate")
	}
	size := 0
	for i, der := range chain {
		if len(der) == 0 {
			return fmt.Errorf("live: certificate %d of the chain is empty", i+1)
		}
		size += len(der)
	}
	if size > maxChain {
		return fmt.Errorf("live: the chain has %d bytes, more than clients take (%d)", size, maxChain)
	}
	return nil
}

// TLS returns the credential as crypto/tls wants it, always the same pointer.
// It must not be changed. Its Leaf is nil, to save memory; the server side of
// crypto/tls does not look at it in handshakes.
func (c *Credential) TLS() *tls.Certificate { return &c.certificate }

// NotAfter returns when the certificate expires, to the second, in UTC.
func (c *Credential) NotAfter() time.Time { return time.Unix(c.notAfter, 0).UTC() }

// WithStaple returns a Credential that is like c and staples the OCSP
// response given (DER; RFC 6066 §8). Empty: it staples none. The caller must
// not change staple any more.
func (c *Credential) WithStaple(staple []byte) *Credential {
	stapled := *c
	stapled.certificate.OCSPStaple = staple
	return &stapled
}

// Format implements fmt.Formatter, so that no verb prints the key.
func (c Credential) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "credential until %s", c.NotAfter().Format(time.RFC3339))
}
