package tailscale

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	maxChain = 10      // certificates
	maxKey   = 8 << 10 // bytes of a private key; to check an RSA key takes time that grows with the cube of its length
)

// parsePair reads a private key and a chain, leaf first, from PEM. Errors are the rest of a sentence about the answer, and
// do not quote it: there is a key in it.
func parsePair(text []byte) (chain [][]byte, key crypto.Signer, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		switch {
		case block.Type == "CERTIFICATE" && len(chain) == maxChain:
			return nil, nil, fmt.Errorf("has more than %d certificates", maxChain)
		case block.Type == "CERTIFICATE":
			chain = append(chain, block.Bytes)
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, nil, errors.New("has something that is neither a key nor a certificate")
		case key != nil:
			return nil, nil, errors.New("has more than one private key")
		default:
			if key, err = parseKey(block); err != nil {
				return nil, nil, err
			}
		}
	}
	switch {
	case len(bytes.TrimSpace(text)) > 0:
		return nil, nil, errors.New("is not all PEM: it is cut off, or something else")
	case key == nil:
		return nil, nil, errors.New("has no private key")
	case len(chain) == 0:
		return nil, nil, errors.New("has no certificate")
	}
	return chain, key, nil
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	if len(block.Bytes) > maxKey {
		return nil, fmt.Errorf("has a private key of %d bytes, more than %d", len(block.Bytes), maxKey)
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY": // what tailscaled writes
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = errors.New("it is of an unknown form")
	}
	if err != nil {
		return nil, fmt.Errorf("has a private key that cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("has a private key that cannot sign")
	}
	return signer, nil
}

// checkPair reports whether the leaf is for key and name.
func checkPair(der []byte, key crypto.Signer, name string) error {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("has a certificate that cannot be read: %w", err)
	}
	pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return errors.New("has a certificate that is not for its private key")
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return fmt.Errorf("has a certificate for something else: %w", err)
	}
	return nil
}
