package acmeclient

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
)

// CertID returns the name that renewal information has for leaf (RFC 9773 §4.1), as OrderRequest.Replaces wants it.
// It fails for certificates without an authority key identifier.
func CertID(leaf *x509.Certificate) (string, error) {
	if len(leaf.AuthorityKeyId) == 0 {
		return "", errors.New("the certificate has no authority key identifier, so RFC 9773 has no name for it")
	}
	if leaf.SerialNumber == nil {
		return "", errors.New("the certificate has no serial number")
	}
	// The content octets of the DER encoding: with the zero octet in front if the first bit would be taken for a sign.
	der, err := asn1.Marshal(leaf.SerialNumber)
	if err != nil {
		return "", fmt.Errorf("the certificate's serial number: %w", err)
	}
	var serial asn1.RawValue
	if _, err := asn1.Unmarshal(der, &serial); err != nil {
		return "", fmt.Errorf("the certificate's serial number: %w", err)
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(leaf.AuthorityKeyId) + "." + enc.EncodeToString(serial.Bytes), nil
}
