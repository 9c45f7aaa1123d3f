package acmeclient

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
)

const maxCommonName = 64 // RFC 5280 appendix A, ub-common-name; mod_md stays below, because some CAs count differently

var oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24} // RFC 7633 §6

// statusRequest is the TLS extension that a client asks for an OCSP response with (RFC 6066 §8), which RFC 7633 refers to by number.
const statusRequest = 5

// CSR returns a certificate signing request (RFC 2986) in DER for names. It is OrderRequest.CSR with nothing else asked for.
func CSR(key crypto.Signer, names []string) ([]byte, error) {
	return OrderRequest{Names: names}.CSR(key)
}

// CSR returns a certificate signing request (RFC 2986) in DER for r.Names and, if r.MustStaple, with the TLS feature extension of RFC 7633.
//
// All names are subject alternative names. The first is also the common name, for CAs that want one, if it is a DNS name of less than
// 64 bytes. key may be held elsewhere: its public key and one signature are all that is asked of it.
func (r OrderRequest) CSR(key crypto.Signer) ([]byte, error) {
	if len(r.Names) == 0 {
		return nil, errors.New("cannot make a certificate signing request without names")
	}
	var request x509.CertificateRequest
	for i, name := range r.Names {
		addr, isIP, err := parseAddress(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot make a certificate signing request: %w", err)
		case isIP:
			request.IPAddresses = append(request.IPAddresses, net.IP(addr.AsSlice()))
			continue
		}
		request.DNSNames = append(request.DNSNames, name)
		if i == 0 && len(name) < maxCommonName {
			request.Subject.CommonName = name
		}
	}
	if r.MustStaple {
		value, err := asn1.Marshal([]int{statusRequest})
		if err != nil {
			return nil, fmt.Errorf("cannot make a certificate signing request: %w", err)
		}
		request.ExtraExtensions = []pkix.Extension{{Id: oidTLSFeature, Value: value}}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &request, key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate signing request for %s: %w", clean(r.Names[0], maxShort), err)
	}
	return csr, nil
}

// MustStaple reports whether clients take leaf only with an OCSP response (RFC 7633).
func MustStaple(leaf *x509.Certificate) bool {
	for _, ext := range leaf.Extensions {
		var features []int
		if !ext.Id.Equal(oidTLSFeature) {
			continue
		}
		if rest, err := asn1.Unmarshal(ext.Value, &features); err == nil && len(rest) == 0 && slices.Contains(features, statusRequest) {
			return true
		}
	}
	return false
}
