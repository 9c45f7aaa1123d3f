package acmeclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	clockSkew   = 5 * time.Minute // that our clock and the CA's may differ
	maxRSABits  = 16384           // of an issuer; checking a signature of more takes too long
	maxCertSize = 256 << 10       // bytes; a leaf with 100 names has some 5 KiB
)

// CheckChain reports whether chain, leaf first, in DER, can be served for names with the private key of key at now:
//
//   - the leaf has that key;
//   - it covers all names, each as it is or by a wildcard for its first label (RFC 9525 §6.3);
//   - it is in date, give or take five minutes, for clocks differ;
//   - the second certificate, if there is one, has signed it, and is in date.
//
// key is the public key, or a crypto.Signer that has it.
//
// All else is a warning and no reason to throw an issued certificate away: certificates behind those two that are expired, unreadable,
// superfluous, or signed with an algorithm that is not known here, and a chain of one. No root is looked for: that is up to the clients.
func CheckChain(chain [][]byte, key crypto.PublicKey, names []string, now time.Time) (warnings []string, err error) {
	if len(chain) == 0 {
		return nil, errors.New("the certificate chain is empty")
	}
	if len(chain) > maxChain {
		return nil, fmt.Errorf("the certificate chain has %d certificates, more than %d", len(chain), maxChain)
	}
	leaf, err := parseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	if err := checkLeaf(leaf, key, names, now); err != nil {
		return nil, err
	}
	if len(chain) == 1 {
		return []string{"the CA sent no issuer certificate; clients that do not have it cannot check the certificate"}, nil
	}
	issuer, err := parseCertificate(chain[1])
	if err != nil {
		return nil, fmt.Errorf("the issuer's certificate cannot be read: %w", err)
	}
	switch err := checkSignature(leaf, issuer); {
	case errors.Is(err, x509.ErrUnsupportedAlgorithm):
		warnings = append(warnings, fmt.Sprintf("the certificate's signature cannot be checked: %v", err))
	case err != nil:
		return nil, fmt.Errorf("the certificate is not signed by the one that follows it (%s): %w", subject(issuer), err)
	}
	if err := checkDates(issuer, now); err != nil {
		return nil, fmt.Errorf("the issuer's certificate (%s) %w", subject(issuer), err)
	}
	return append(warnings, checkRest(chain[2:], issuer, now)...), nil
}

// checkRest returns warnings about the certificates behind the issuer of the leaf.
func checkRest(rest [][]byte, below *x509.Certificate, now time.Time) (warnings []string) {
	for i, der := range rest {
		cert, err := parseCertificate(der)
		if err != nil {
			return append(warnings, fmt.Sprintf("certificate %d of the chain cannot be read: %v", i+3, clean(err.Error(), maxShort)))
		}
		warn := func(what string) {
			warnings = append(warnings, fmt.Sprintf("certificate %d of the chain (%s) %s", i+3, subject(cert), what))
		}
		if err := checkDates(cert, now); err != nil {
			warn(err.Error())
		}
		switch err := checkSignature(below, cert); {
		case errors.Is(err, x509.ErrUnsupportedAlgorithm):
			warn("has signed the one before it in a way that cannot be checked here")
		case err != nil:
			warn("is superfluous: it has not signed the one before it")
			continue // the next may have
		}
		below = cert
	}
	return warnings
}

func checkLeaf(leaf *x509.Certificate, key crypto.PublicKey, names []string, now time.Time) error {
	if !hasKey(leaf, key) {
		return errors.New("the certificate is not for the private key that its order was made with")
	}
	for _, name := range names {
		if !covers(leaf, name) {
			return fmt.Errorf("the certificate does not cover %s", clean(name, maxShort))
		}
	}
	if err := checkDates(leaf, now); err != nil {
		return fmt.Errorf("the certificate %w", err)
	}
	return nil
}

// hasKey reports whether cert is for key. Signers that wrap a key service do not all return the pointers that the standard library does.
func hasKey(cert *x509.Certificate, key crypto.PublicKey) bool {
	if signer, ok := key.(crypto.Signer); ok {
		key = signer.Public()
	}
	switch k := key.(type) {
	case ecdsa.PublicKey:
		key = &k
	case rsa.PublicKey:
		key = &k
	}
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key != nil && pub.Equal(key)
}

// checkDates returns the rest of a sentence about cert.
func checkDates(cert *x509.Certificate, now time.Time) error {
	if now.Add(clockSkew).Before(cert.NotBefore) {
		return fmt.Errorf("is not valid before %s; is the clock right, which says %s?", cert.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if now.Add(-clockSkew).After(cert.NotAfter) {
		return fmt.Errorf("has expired at %s; is the clock right, which says %s?", cert.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// covers reports whether cert's subject alternative names contain name, or a wildcard that stands for its first label.
// A wildcard name is covered only by itself.
func covers(cert *x509.Certificate, name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		for _, ip := range cert.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap() == addr.Unmap() {
				return true
			}
		}
		return false
	}
	wildcard := wildcardFor(name)
	for _, san := range cert.DNSNames {
		if san != "" && (strings.EqualFold(san, name) || strings.EqualFold(san, wildcard)) {
			return true
		}
	}
	return false
}

func checkSignature(cert, issuer *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return errors.New("the names do not match")
	}
	if pub, ok := issuer.PublicKey.(*rsa.PublicKey); ok && pub.N.BitLen() > maxRSABits {
		return fmt.Errorf("its RSA key has more than %d bits", maxRSABits)
	}
	return cert.CheckSignatureFrom(issuer)
}

func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertSize {
		return nil, fmt.Errorf("it is larger than %d bytes", maxCertSize)
	}
	return x509.ParseCertificate(der)
}

func subject(cert *x509.Certificate) string {
	return clean(cert.Subject.String(), maxShort)
}
