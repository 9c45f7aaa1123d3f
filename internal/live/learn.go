package live

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"math/big"
	"slices"
)

// everyScheme is every signature scheme there can be. New ones appear with
// new key types, and crypto/tls has no list of those it knows.
func everyScheme() []tls.SignatureScheme {
	all := make([]tls.SignatureScheme, 1<<16)
	for i := range all {
		all[i] = tls.SignatureScheme(i)
	}
	return all
}

// everyCurve is every curve that crypto/tls knows for TLS before 1.3. None are
// added any more: what is being invented is for TLS 1.3 only.
func everyCurve() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}

// everySuite is every cipher suite that crypto/tls implements.
func everySuite() []uint16 {
	var all []uint16
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		all = append(all, s.ID)
	}
	return all
}

// learn finds out what keys with the public half given need, by asking
// crypto/tls about hellos that offer this or that.
func learn(public crypto.PublicKey, decrypts bool) *needs {
	schemes, curves, suites := everyScheme(), everyCurve(), everySuite()
	n := &needs{}
	for version := uint16(tls.VersionTLS13); version >= tls.VersionTLS10; version-- {
		anyKey := examiner{version, &tls.Certificate{PrivateKey: signer{ordinaryKey()}}}
		if !anyKey.accepts(schemes, curves, suites) {
			continue
		}
		x := examiner{version, &tls.Certificate{PrivateKey: signer{public}}}
		if decrypts {
			x.certificate.PrivateKey = decrypter{signer{public}}
		}
		n.versions |= versionsOf([]uint16{version})
		n.at[version-tls.VersionTLS10] = x.offer(schemes, curves, suites)
	}
	return n
}

// ordinaryKey is a public key that is of use in every version of TLS.
func ordinaryKey() crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
}

// examiner asks crypto/tls about one certificate in one version of TLS.
type examiner struct {
	version     uint16
	certificate *tls.Certificate
}

// accepts reports whether the certificate can be used for a client that
// offers what is given, and nothing else, at a server with the default
// configuration.
func (x examiner) accepts(schemes []tls.SignatureScheme, curves []tls.CurveID, suites []uint16) bool {
	hello := &tls.ClientHelloInfo{
		SupportedVersions: []uint16{x.version},
		SignatureSchemes:  schemes,
		SupportedCurves:   curves,
		CipherSuites:      suites,
	}
	return hello.SupportsCertificate(x.certificate) == nil
}

// offer finds out which of everything given the certificate can be used with.
func (x examiner) offer(schemes []tls.SignatureScheme, curves []tls.CurveID, suites []uint16) offer {
	var o offer
	// TLS 1.3 pays no heed to curves and suites. Before it, a hello without
	// curves leaves nothing but static RSA, which a hello must not be able to
	// fall back to in the questions after that.
	if x.version < tls.VersionTLS13 {
		static := those(suites, func(s []uint16) bool { return x.accepts(schemes, nil, s) })
		suites = slices.DeleteFunc(slices.Clone(suites), func(s uint16) bool {
			return slices.Contains(static, s)
		})
		suites = those(suites, func(s []uint16) bool { return x.accepts(schemes, curves, s) })
		curves = those(curves, func(c []tls.CurveID) bool { return x.accepts(schemes, c, suites) })
		o.staticSuites, o.suites, o.curves = setOf(static), setOf(suites), setOf(curves)
	}
	o.schemes = setOf(those(schemes, func(s []tls.SignatureScheme) bool { return x.accepts(s, curves, suites) }))
	o.bare = x.accepts(nil, curves, suites)
	return o
}

// those returns the elements of all that accepted takes, where it takes a
// list if it takes one of its elements. It halves the lists that have some,
// since most have none.
func those[T any](all []T, accepted func([]T) bool) []T {
	if len(all) == 0 || !accepted(all) {
		return nil
	}
	if len(all) == 1 {
		return slices.Clone(all)
	}
	middle := len(all) / 2
	return append(those(all[:middle], accepted), those(all[middle:], accepted)...)
}
