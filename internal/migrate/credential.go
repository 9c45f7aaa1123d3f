package migrate

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// Bounds on one certificate.
const (
	maxChain = 16
	maxNames = 1000
	maxURL   = 2048
)

// certificate takes a certificate, if it can be used, with the texts of its
// files: the chain, leaf first, and the private key. The error is one that
// ends all reading.
func (r *reader) certificate(path string, chain, key []byte, origin record.Meta) error {
	p, err := parsePEM(chain)
	if err != nil {
		return r.refuse(aCertificate, path, "", err)
	}
	signer, err := onlyKey(key)
	if err != nil {
		return r.refuse(aCertificate, path, firstName(p.chain), err)
	}
	return r.take(path, p.chain, signer, origin)
}

// take takes a certificate, leaf first, if it can be used.
func (r *reader) take(path string, chain []*x509.Certificate, key crypto.Signer, origin record.Meta) error {
	found, err := r.found(path, chain, key, origin)
	if err != nil {
		return r.refuse(aCertificate, path, firstName(chain), err)
	}
	r.result.Certificates = append(r.result.Certificates, found)
	why := ""
	if found.Credential.CA == "" {
		why = "which CA it is from is not known"
	}
	r.tell(Row{Path: path, What: aCertificate, Name: found.Names[0], Taken: true, Why: why})
	return nil
}

func (r *reader) found(path string, chain []*x509.Certificate, key crypto.Signer, origin record.Meta) (Found, error) {
	if len(chain) == 0 {
		return Found{}, errors.New("it has no certificate in PEM")
	}
	leaf := chain[0]
	keyType, err := keyTypeOf(leaf.PublicKey)
	if err != nil {
		return Found{}, err
	}
	if !isFor(leaf.PublicKey, key) {
		return Found{}, errors.New("the private key is not that of the certificate")
	}
	if err := r.checkLeaf(leaf); err != nil {
		return Found{}, err
	}
	if err := checkChain(chain); err != nil {
		return Found{}, err
	}
	names, err := namesOf(leaf)
	if err != nil {
		return Found{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Found{}, err
	}
	c := record.Credential{Meta: record.Meta{
		KeyType:     keyType,
		CA:          webURL(origin.CA),
		Account:     webURL(origin.Account),
		Order:       webURL(origin.Order),
		Certificate: webURL(origin.Certificate),
		When:        leaf.NotBefore.UTC(),
	}, Key: der}
	if c.CA == "" {
		c.CA = r.opts.CA
	}
	for _, cert := range chain {
		c.Chain = append(c.Chain, cert.Raw)
	}
	return Found{Path: path, Names: names, Credential: c, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}, nil
}

// checkLeaf checks that a server may use the certificate at that moment.
func (r *reader) checkLeaf(leaf *x509.Certificate) error {
	const day = "2006-01-02 15:04 MST"
	usage := leaf.ExtKeyUsage
	switch {
	case leaf.IsCA:
		return errors.New("it begins with the certificate of a CA")
	case r.opts.Now.After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s", leaf.NotAfter.UTC().Format(day))
	case r.opts.Now.Before(leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s", leaf.NotBefore.UTC().Format(day))
	case len(usage) > 0 && !slices.Contains(usage, x509.ExtKeyUsageServerAuth) && !slices.Contains(usage, x509.ExtKeyUsageAny):
		return errors.New("it is not for a TLS server")
	case string(leaf.RawIssuer) == string(leaf.RawSubject) && len(leaf.RawSubject) > 2:
		return errors.New("it is self-signed")
	}
	return nil
}

// checkChain checks that each certificate is signed by the one behind it.
func checkChain(chain []*x509.Certificate) error {
	if len(chain) > maxChain {
		return fmt.Errorf("its chain has %d certificates, more than %d", len(chain), maxChain)
	}
	for i, issuer := range chain[1:] {
		// The time that a signature takes grows with the issuer's key.
		if k, ok := issuer.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > 8192 {
			return errors.New("a key in its chain is too long")
		}
		if err := chain[i].CheckSignatureFrom(issuer); err != nil {
			return errors.New("its chain does not fit together: a certificate in it is not from the one behind it")
		}
	}
	return nil
}

// namesOf returns what a certificate is for.
func namesOf(leaf *x509.Certificate) ([]string, error) {
	var names []string
	for _, name := range leaf.DNSNames {
		name = strings.ToLower(name)
		if !isName(name) {
			return nil, fmt.Errorf("it is for %.80q, which is no name of a host", name)
		}
		names = append(names, name)
	}
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, a.Unmap().String())
		}
	}
	switch {
	case len(names) == 0:
		return nil, errors.New("it is for no DNS name and no IP address")
	case len(names) > maxNames:
		return nil, fmt.Errorf("it is for %d names, more than %d", len(names), maxNames)
	}
	return names, nil
}

// isName reports whether name is a DNS name in ASCII, as ACME has it, that may
// begin with "*." (RFC 8555 §7.1.3).
func isName(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// firstName names a certificate in the report.
func firstName(chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return ""
	}
	if names, err := namesOf(chain[0]); err == nil {
		return names[0]
	}
	return ""
}

// webURL returns text if it is the URL of something at a CA, else nothing.
func webURL(text string) string {
	if len(text) > maxURL {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return text
}
