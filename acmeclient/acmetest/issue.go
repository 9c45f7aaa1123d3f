package acmetest

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"slices"
	"time"
)

// certificate is one issued certificate. Its fields are guarded by the CA's
// mutex.
type certificate struct {
	leaf       *x509.Certificate
	order      *order
	wrong      Wrong
	chains     [][]*x509.Certificate // leaf first; default, then alternates
	paths      []string              // of chains
	issued     time.Time
	revoked    time.Time
	reason     int
	replacedBy *order
}

// MustStaple is what becomes of a CSR that asks for a certificate which must
// be stapled (RFC 7633).
type MustStaple int

const (
	GrantMustStaple  MustStaple = iota // the certificate has what the CSR asks for
	RefuseMustStaple                   // finalize answers badCSR, as Let's Encrypt does
	DropMustStaple                     // the certificate has nothing of it, and nobody says so
)

// oidTLSFeature is the extension that asks for stapling (RFC 7633).
var oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

func asksMustStaple(csr *x509.CertificateRequest) bool {
	return slices.ContainsFunc(csr.Extensions, func(ext pkix.Extension) bool { return ext.Id.Equal(oidTLSFeature) })
}

// issue makes the certificate of an order: the right one, unless Faults say
// otherwise.
func (ca *CA) issue(o *order, csr *x509.CertificateRequest) (*certificate, error) {
	m, err := ca.authorities()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := ca.leafTemplate(o, csr, now)
	signer, key, chains := m.signer, csr.PublicKey, m.chains
	wrong := ca.drawWrong(o)
	switch wrong {
	case WrongKey:
		other, err := newKey(false, signer.seed, "wrong key")
		if err != nil {
			return nil, err
		}
		key = other.Public()
	case WrongName:
		nameTemplate(template, []string{"wrong-name.acme.test"})
	case MissingName:
		if len(o.names) == 1 {
			nameTemplate(template, []string{"missing-name.acme.test"})
			break
		}
		nameTemplate(template, o.names[1:])
	case Expired:
		life := template.NotAfter.Sub(template.NotBefore)
		template.NotAfter = now.Add(-time.Minute)
		template.NotBefore = template.NotAfter.Add(-life)
	case NotYetValid:
		life := template.NotAfter.Sub(template.NotBefore)
		template.NotBefore = now.Add(life / 2)
		template.NotAfter = template.NotBefore.Add(life)
	case Foreign:
		if signer, err = m.strayIssuer(); err != nil {
			return nil, err
		}
	}
	leaf, err := signer.sign(template, key)
	if err != nil {
		return nil, err
	}
	cert := &certificate{leaf: leaf, order: o, wrong: wrong, issued: now}
	for _, chain := range chains {
		cert.chains = append(cert.chains, append([]*x509.Certificate{leaf}, chain...))
	}
	return cert, ca.addExtra(o, cert)
}

// leafTemplate is what the certificate of an order shall say.
func (ca *CA) leafTemplate(o *order, csr *x509.CertificateRequest, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		NotBefore:             now.Add(-orDuration(ca.Backdate, time.Hour)),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	nameTemplate(t, o.names)
	if !o.notBefore.IsZero() {
		t.NotBefore = o.notBefore
	}
	// RFC 5280 §4.1.2.5: the period includes its last second.
	t.NotAfter = t.NotBefore.Add(ca.lifetime(o) - time.Second)
	if !o.notAfter.IsZero() {
		t.NotAfter = o.notAfter
	}
	if _, ok := csr.PublicKey.(*rsa.PublicKey); ok {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	for _, ext := range csr.Extensions {
		if ext.Id.Equal(oidTLSFeature) && ca.MustStaple == GrantMustStaple {
			t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: ext.Id, Value: ext.Value})
		}
	}
	if ca.Leaf != nil {
		ca.Leaf(t)
	}
	return t
}

// lifetime is how long the certificate of an order lasts if it does not say.
func (ca *CA) lifetime(o *order) time.Duration {
	for _, p := range ca.Profiles {
		if p.Name == o.profile && p.Lifetime != 0 {
			return p.Lifetime
		}
	}
	return orDuration(ca.Lifetime, 90*24*time.Hour)
}

// keep remembers a certificate and gives its chains their URLs. The state is
// locked.
func (ca *CA) keep(s *state, c *certificate) {
	for i := range c.chains {
		path := ca.add(s, &resource{kind: kindCertificate, cert: c, chain: i}, c.order.object())
		c.paths = append(c.paths, path)
	}
	s.certificates = append(s.certificates, c)
	s.spend(ca.Limits.Certificates, "certificates "+c.order.object(), time.Now())
	s.bySerial[c.leaf.SerialNumber.String()] = c
	s.byID[certID(c.leaf)] = c
}

// certID is the identifier of RFC 9773 §4.1: the authority key identifier and
// the serial number as DER has it, sign octet included.
func certID(leaf *x509.Certificate) string {
	var serial asn1.RawValue
	der, err := asn1.Marshal(leaf.SerialNumber)
	if err == nil {
		_, err = asn1.Unmarshal(der, &serial)
	}
	if err != nil {
		return ""
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(leaf.AuthorityKeyId) + "." + enc.EncodeToString(serial.Bytes)
}

// errNoSuchCertificate is for certificates that the CA did not issue.
var errNoSuchCertificate = errors.New("acmetest: this CA did not issue that certificate")
