package live

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/bits"
	"reflect"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// needs is what a client must offer so that keys of one kind are of use to
// it. It says for every hello what [tls.ClientHelloInfo.SupportsCertificate]
// says at a server with the default configuration, names aside, and without
// parsing or allocating.
//
// Its lists are not copied from crypto/tls but learnt by asking it (see
// learn). So they hold for the GODEBUG settings, the FIPS mode and the Go
// version of the program, for key types that do not exist yet, and for keys
// that can sign but not decrypt.
type needs struct {
	versions versions // those that servers support
	at       [4]offer // for TLS 1.0, 1.1, 1.2 and 1.3
}

// offer is what a client must offer if a version of TLS is used.
type offer struct {
	schemes *codes // one of these signature schemes
	bare    bool   // or none at all (RFC 5246 §7.4.1.4.1)

	// Before TLS 1.3, also one of each of these curves and cipher suites,
	curves *codes
	suites *codes
	// or else, for RSA keys that can decrypt, one of these suites, which
	// sign nothing: the key exchange of RFC 5246 §7.4.7.1.
	staticSuites *codes
}

// codes is a set of the 16-bit numbers that TLS gives to things. A hello can
// hold many of them: each is looked up in one step. Nil is the empty set.
type codes [1 << 16 / 64]uint64

// setOf returns the set of list.
func setOf[T ~uint16](list []T) *codes {
	if len(list) == 0 {
		return nil
	}
	s := new(codes)
	for _, c := range list {
		s[c/64] |= 1 << (c % 64)
	}
	return s
}

// someIn reports whether some of list are in s.
func someIn[T ~uint16](list []T, s *codes) bool {
	if s == nil {
		return false
	}
	for _, c := range list {
		if s[c/64]&(1<<(c%64)) != 0 {
			return true
		}
	}
	return false
}

// metBy reports whether hello, of a client that has the versions given,
// offers what is needed.
func (n *needs) metBy(hello *tls.ClientHelloInfo, client versions) bool {
	used := bits.Len8(uint8(n.versions&client)) - 1 // the highest that both have
	if used < 0 {
		return false
	}
	o := &n.at[used]
	if used == tls.VersionTLS13-tls.VersionTLS10 {
		return o.schemeIn(hello.SignatureSchemes)
	}
	// Suites come first: they are what clients lack that can use another key
	// type only.
	if someIn(hello.CipherSuites, o.suites) && someIn(hello.SupportedCurves, o.curves) &&
		o.schemeIn(hello.SignatureSchemes) && pointsUsable(hello.SupportedPoints) {
		return true
	}
	// A client with a signature but no format of points in common is refused
	// before crypto/tls thinks of suites which need neither.
	return someIn(hello.CipherSuites, o.staticSuites) &&
		(pointsUsable(hello.SupportedPoints) || !o.schemeIn(hello.SignatureSchemes))
}

func (o *offer) schemeIn(client []tls.SignatureScheme) bool {
	if len(client) == 0 {
		return o.bare
	}
	return someIn(client, o.schemes)
}

// pointsUsable reports whether a client that lists the formats of curve points
// given can use curves: if it lists any, it must list the uncompressed one,
// the only format in use (RFC 8422 §5.1.2).
func pointsUsable(client []uint8) bool {
	const uncompressed = 0
	return len(client) == 0 || slices.Contains(client, uncompressed)
}

// versions is a set of versions of TLS: bit 0 is TLS 1.0, bit 3 is TLS 1.3, and
// those above are for versions that do not exist.
type versions uint8

func versionsOf(list []uint16) (set versions) {
	for _, v := range list {
		set |= 1 << (v - tls.VersionTLS10) // no bit, if that is large or wraps around
	}
	return set
}

// kind tells keys apart whose needs may differ.
type kind struct {
	algorithm  string       // the leaf's AlgorithmIdentifier, DER (RFC 5280 §4.1.2.7)
	publicType reflect.Type // what crypto/tls goes by
	rsaSize    int          // of the modulus in bytes: short ones are too small for some hashes
	decrypts   bool
}

func kindOf(leaf *x509.Certificate, public crypto.PublicKey, decrypts bool) kind {
	k := kind{publicType: reflect.TypeOf(public), decrypts: decrypts}
	if pub, ok := public.(*rsa.PublicKey); ok {
		k.rsaSize = pub.Size()
	}
	spki := cryptobyte.String(leaf.RawSubjectPublicKeyInfo)
	var info, algorithm cryptobyte.String
	if spki.ReadASN1(&info, asn1.SEQUENCE) && info.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		k.algorithm = string(algorithm)
	}
	return k
}

// needsOf returns the needs of the key of leaf.
func (ch *Chains) needsOf(leaf *x509.Certificate, public crypto.PublicKey, decrypts bool) *needs {
	k := kindOf(leaf, public, decrypts)
	ch.mu.Lock()
	n := ch.needs[k]
	ch.mu.Unlock()
	if n != nil {
		return n
	}
	n = learn(public, decrypts) // takes milliseconds, so not under the lock
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.needs == nil {
		ch.needs = make(map[kind]*needs)
	}
	if other := ch.needs[k]; other != nil {
		return other
	}
	ch.needs[k] = n
	return n
}

// errUsed is what the stand-ins for keys fail with: they are only looked at.
var errUsed = errors.New("live: this key is for questions only")

// signer stands in for a key of which only the public half matters.
type signer struct{ public crypto.PublicKey }

func (s signer) Public() crypto.PublicKey { return s.public }
func (s signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errUsed
}

// decrypter stands in for one that can also decrypt.
type decrypter struct{ signer }

func (d decrypter) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, errUsed
}
