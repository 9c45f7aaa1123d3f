package acmeclient

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// TrimChain returns chain, leaf first, in DER, without the certificates that are of no use to clients at now, and says what it left out:
//
//   - those that have not signed the one before them, of those that are kept, such as remains of another chain;
//   - those that have expired, or are not valid yet, and what led on from them;
//   - a root, which clients have or do not trust. (Who publishes TLSA records for a root, DANE-TA, must not trim: RFC 7671 §5.2.)
//
// What clients are shown on every handshake becomes smaller, and no client follows a path that has expired.
// The leaf and its issuer are always kept, because stapling needs them. If there is no issuer that is in date, or the leaf cannot be read,
// nothing is left out: CheckChain tells. What is behind a certificate that cannot be read or checked here is kept.
// The array that chain lies in is not changed.
func TrimChain(chain [][]byte, now time.Time) (trimmed [][]byte, removed []string) {
	if len(chain) < 2 || len(chain) > maxChain {
		return chain, nil
	}
	below, err := parseCertificate(chain[0])
	if err != nil {
		return chain, nil
	}
	trimmed = [][]byte{chain[0]}
	for i, der := range chain[1:] {
		cert, err := parseCertificate(der)
		if err != nil {
			trimmed = append(trimmed, chain[i+1:]...)
			break
		}
		why := superfluous(cert, below, now)
		if why == "" && len(trimmed) > 1 && selfIssued(cert) {
			why = "is a root"
		}
		if why != "" {
			removed = append(removed, fmt.Sprintf("certificate %d of the chain (%s) %s", i+2, subject(cert), why))
			continue
		}
		trimmed, below = append(trimmed, der), cert
	}
	if len(trimmed) < 2 {
		return chain, nil
	}
	return trimmed, removed
}

// superfluous returns the rest of a sentence about cert if clients cannot go on with it from below, else "".
func superfluous(cert, below *x509.Certificate, now time.Time) string {
	if err := checkSignature(below, cert); err != nil && !errors.Is(err, x509.ErrUnsupportedAlgorithm) {
		return "has not signed the one before it"
	}
	if err := checkDates(cert, now); err != nil {
		return err.Error()
	}
	return ""
}

// selfIssued reports whether cert is a root, or looks like one.
func selfIssued(cert *x509.Certificate) bool { return bytes.Equal(cert.RawIssuer, cert.RawSubject) }
