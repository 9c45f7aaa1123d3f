package localca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
)

// root is an issuer that outlives the process.
type root struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

// keepRoots puts roots that are kept in dir in the place of those that Pebble
// makes at each start. Pebble hands out its certificates by pointer: each
// chain's topmost intermediate is signed again, under the root from dir.
func keepRoots(issuer *ca.CAImpl, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := range issuer.GetNumberOfRootCerts() {
		kept, err := loadRoot(filepath.Join(dir, fmt.Sprintf("root-%d.pem", i)))
		if err != nil {
			return err
		}
		made := issuer.GetRootCert(i)
		top := issuer.GetIntermediateCert(i)
		for top.IssuerChains[0][0] != made {
			top = top.IssuerChains[0][0]
		}
		if err := resign(top, kept); err != nil {
			return err
		}
		made.Cert, made.DER = kept.certificate, kept.certificate.Raw
	}
	return nil
}

// resign makes intermediate a certificate issued by r.
func resign(intermediate *core.Certificate, r *root) error {
	template := *intermediate.Cert
	template.SignatureAlgorithm = x509.UnknownSignatureAlgorithm // as r's key wants
	if template.NotAfter.After(r.certificate.NotAfter) {
		template.NotAfter = r.certificate.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, r.certificate, template.PublicKey, r.key)
	if err != nil {
		return err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	intermediate.Cert, intermediate.DER = certificate, der
	return nil
}

// loadRoot reads a root from a file, or makes one and writes it there.
func loadRoot(path string) (*root, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeRoot(path)
	}
	if err != nil {
		return nil, err
	}
	r, err := parseRoot(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not a root with its key (%w); remove it to get another", path, err)
	}
	return r, nil
}

func parseRoot(text []byte) (*root, error) {
	keyBlock, rest := pem.Decode(text)
	if keyBlock == nil {
		return nil, errors.New("no PEM block")
	}
	certificateBlock, _ := pem.Decode(rest)
	if certificateBlock == nil {
		return nil, errors.New("no second PEM block")
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(certificateBlock.Bytes)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, errors.New("the key is another certificate's")
	}
	return &root{key, certificate}, nil
}

func makeRoot(path string) (*root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Local CA root %x", serial)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(30, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	return &root{key, certificate}, nil
}
