package status

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
)

// CertificateOf describes leaf. CA and URL are left empty: the certificate
// itself does not tell them. For nil it returns the zero Certificate.
func CertificateOf(leaf *x509.Certificate) Certificate {
	if leaf == nil {
		return Certificate{}
	}
	names := make([]string, 0, len(leaf.DNSNames)+len(leaf.IPAddresses))
	names = append(names, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	issuer := leaf.Issuer.CommonName
	if issuer == "" {
		issuer = leaf.Issuer.String()
	}
	sum := sha256.Sum256(leaf.Raw)
	return Certificate{
		KeyType:           keyType(leaf.PublicKey),
		Names:             names,
		Serial:            serial(leaf.SerialNumber),
		Issuer:            issuer,
		NotBefore:         leaf.NotBefore,
		NotAfter:          leaf.NotAfter,
		SHA256Fingerprint: hex.EncodeToString(sum[:]),
	}
}

// keyType names a key as acmeclient.KeyType does, which this package cannot
// ask: P-256, RSA-2048 and so on.
func keyType(public any) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == nil {
			return "ECDSA"
		}
		return key.Curve.Params().Name
	case *rsa.PublicKey:
		if key.N == nil {
			return "RSA"
		}
		return "RSA-" + strconv.Itoa(key.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}

// serial writes n in upper-case hex with an even number of digits, as most
// tools do.
func serial(n *big.Int) string {
	if n == nil {
		return ""
	}
	digits := strings.ToUpper(new(big.Int).Abs(n).Text(16))
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	if n.Sign() < 0 { // RFC 5280 §4.1.2.2 forbids it, some CAs did it
		digits = "-" + digits
	}
	return digits
}
