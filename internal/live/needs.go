package live

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
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
	at [4]offer // for TLS 1.0, 1.1, 1.2 and 1.3
}

// offer is what a client must offer if a version of TLS is used.
type offer struct {
	supported bool // the version is one that servers support

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

// metBy reports whether hello offers what is needed.
func (n *needs) metBy(hello *tls.ClientHelloInfo) bool {
	version, o := n.version(hello.SupportedVersions)
	if o == nil {
		return false
	}
	if !o.schemeIn(hello.SignatureSchemes) {
		return someIn(hello.CipherSuites, o.staticSuites)
	}
	if version == tls.VersionTLS13 {
		return true
	}
	// RFC 8422 §5.1.2: a client that sends the extension must list the
	// uncompressed format.
	if len(hello.SupportedPoints) > 0 && !slices.Contains(hello.SupportedPoints, pointUncompressed) {
		return false
	}
	return someIn(hello.SupportedCurves, o.curves) && someIn(hello.CipherSuites, o.suites) ||
		someIn(hello.CipherSuites, o.staticSuites)
}

// pointUncompressed is the only format of curve points in use (RFC 8422 §5.1.2).
const pointUncompressed = 0

// version returns the version of TLS that is used with a client which has
// those given, the highest that both sides support, and what is needed in it.
// There may be none.
func (n *needs) version(client []uint16) (version uint16, o *offer) {
	for _, v := range client {
		i := int(v) - tls.VersionTLS10
		if 0 <= i && i < len(n.at) && v >= version && n.at[i].supported {
			version, o = v, &n.at[i]
		}
	}
	return version, o
}

func (o *offer) schemeIn(client []tls.SignatureScheme) bool {
	if len(client) == 0 {
		return o.bare
	}
	return someIn(client, o.schemes)
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
