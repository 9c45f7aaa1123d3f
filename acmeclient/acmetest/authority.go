package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// authority is a certificate and its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer

	seed   string       // of the key, and of serial numbers and signatures; empty: they are left to chance
	signed atomic.Int64 // certificates so far
}

// minter holds the authorities that certificates are issued by.
type minter struct {
	once   sync.Once
	err    error
	roots  []*authority
	signer *authority
	chains [][]*x509.Certificate // what follows the leaf: the default, then the alternates

	strayOnce sync.Once
	stray     *authority // an issuer that nobody trusts
	strayErr  error
}

// authorities makes roots and intermediates at the first call.
func (ca *CA) authorities() (*minter, error) {
	m := &ca.minter
	m.once.Do(func() { m.err = ca.makeAuthorities(m) })
	return m, m.err
}

func (ca *CA) makeAuthorities(m *minter) error {
	intermediates := ca.ChainLength - 1
	if ca.ChainLength <= 0 {
		intermediates = 1
	}
	alternates := ca.Alternates
	if intermediates == 0 {
		alternates = 0 // the leaf itself is signed by the one root
	}
	for i := range alternates + 1 {
		root, err := newRoot(fmt.Sprintf("acmetest root %d", i+1), ca.IssuerRSA, ca.mintSeed())
		if err != nil {
			return err
		}
		m.roots = append(m.roots, root)
	}
	m.signer = m.roots[0]
	var chain []*x509.Certificate // leaf side first
	var top *authority
	for i := range intermediates {
		next, err := m.signer.newIssuer(fmt.Sprintf("acmetest intermediate %d", i+1), ca.IssuerRSA)
		if err != nil {
			return err
		}
		if top == nil {
			top = next
		}
		m.signer = next
		chain = append([]*x509.Certificate{next.cert}, chain...)
	}
	m.chains = append(m.chains, chain)
	for _, root := range m.roots[1:] {
		// The same key and name, signed by another root: a cross-sign.
		cross, err := root.sign(issuerTemplate(top.cert.Subject.CommonName), top.key.Public())
		if err != nil {
			return err
		}
		other := append([]*x509.Certificate(nil), chain...)
		other[len(other)-1] = cross
		m.chains = append(m.chains, other)
	}
	return nil
}

// mintSeed is what all that a CA with a Seed signs depends on: a run can be
// repeated to the byte. CAs that differ in their BaseURL sign with other keys.
// Without a Seed nothing is the same twice.
func (ca *CA) mintSeed() string {
	if ca.Seed == 0 {
		return ""
	}
	return fmt.Sprint(ca.Seed, " ", ca.BaseURL)
}

// strayIssuer makes an issuer that the roots know nothing of.
func (m *minter) strayIssuer() (*authority, error) {
	m.strayOnce.Do(func() { m.stray, m.strayErr = newRoot("acmetest stray root", false, m.roots[0].seed) })
	return m.stray, m.strayErr
}

// Roots returns the roots that trust what the CA issues. Alternate chains
// lead to the further ones.
func (ca *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	m, err := ca.authorities()
	if err != nil {
		ca.log().Error("acmetest has no roots", "err", err)
		return pool
	}
	for _, root := range m.roots {
		pool.AddCert(root.cert)
	}
	return pool
}

// RootPEM returns the roots of Roots as PEM.
func (ca *CA) RootPEM() []byte {
	m, err := ca.authorities()
	if err != nil {
		ca.log().Error("acmetest has no roots", "err", err)
		return nil
	}
	var out []byte
	for _, root := range m.roots {
		out = append(out, pemOf(root.cert.Raw)...)
	}
	return out
}

// Issuer returns the certificate and key that sign leaves, for tests that
// make OCSP responses or certificates of their own.
func (ca *CA) Issuer() (*x509.Certificate, crypto.Signer, error) {
	m, err := ca.authorities()
	if err != nil {
		return nil, nil, err
	}
	return m.signer.cert, m.signer.key, nil
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// century is how long issuers live: tests simulate years.
const century = 100 * 365 * 24 * time.Hour

func issuerTemplate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"acmetest"}, CommonName: name},
		NotBefore: now.Add(-365 * 24 * time.Hour), NotAfter: now.Add(century),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
}

func newRoot(name string, rsaKey bool, seed string) (*authority, error) {
	key, err := newKey(rsaKey, seed, name)
	if err != nil {
		return nil, err
	}
	root := &authority{cert: issuerTemplate(name), key: key, seed: seed}
	root.cert, err = root.sign(root.cert, key.Public())
	return root, err
}

func (a *authority) newIssuer(name string, rsaKey bool) (*authority, error) {
	key, err := newKey(rsaKey, a.seed, name)
	if err != nil {
		return nil, err
	}
	issuer := &authority{key: key, seed: a.seed}
	issuer.cert, err = a.sign(issuerTemplate(name), key.Public())
	return issuer, err
}

// newKey makes a key: the one for that purpose, if there is a seed. RSA keys
// are always left to chance.
func newKey(rsaKey bool, seed, purpose string) (crypto.Signer, error) {
	if rsaKey {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	if seed == "" {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	secret := sha256.Sum256(fmt.Appendf(nil, "key %q %q", seed, purpose))
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
}

// sign makes a certificate, with a serial number of its own.
func (a *authority) sign(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	chance := rand.Reader
	number := make([]byte, 16)
	if a.seed == "" {
		_, _ = rand.Read(number) // it never fails
	} else {
		sum := sha256.Sum256(fmt.Appendf(nil, "serial %q %q %d", a.seed, a.cert.Subject.CommonName, a.signed.Add(1)))
		copy(number, sum[:])
		chance = nil // signatures are made without (RFC 6979)
	}
	serial := new(big.Int).SetBytes(number)
	// Never zero (RFC 5280 §4.1.2.2). Half of these need a sign octet in DER,
	// which clients are known to forget in RFC 9773's certificate identifier.
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(chance, template, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serverCertificate makes the certificate of the HTTPS server.
func (a *authority) serverCertificate() (*tls.Certificate, error) {
	key, err := newKey(false, a.seed, "server")
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert, err := a.sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "acmetest server"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "acme.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}
