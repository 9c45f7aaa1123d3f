package acmeclient

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

const maxCommonName = 64 // RFC 5280 appendix A, ub-common-name; mod_md stays below, because some CAs count differently

// CSR returns a certificate signing request (RFC 2986) in DER for names, which are ASCII DNS names, wildcards and IP addresses.
// All are subject alternative names. The first is also the common name, for CAs that want one, if it is a DNS name of less than 64 bytes.
func CSR(key crypto.Signer, names []string) ([]byte, error) {
	if len(names) == 0 {
		return nil, errors.New("cannot make a certificate signing request without names")
	}
	var request x509.CertificateRequest
	for i, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			request.IPAddresses = append(request.IPAddresses, net.IP(addr.Unmap().AsSlice()))
			continue
		}
		request.DNSNames = append(request.DNSNames, name)
		if i == 0 && len(name) < maxCommonName {
			request.Subject.CommonName = name
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &request, key)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate signing request for %s: %w", clean(names[0], maxShort), err)
	}
	return csr, nil
}
