package migrate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// maxKey bounds the length of a private key in DER, as a Set does: to check
// an RSA key takes time that grows with the cube of its length.
const maxKey = 8 << 10

// maxBlocks bounds the PEM blocks that are looked at in one file.
const maxBlocks = 64

// parsed is what a PEM file holds.
type parsed struct {
	keys  []crypto.Signer
	chain []*x509.Certificate // all certificates, in the order of the file
	// keyErr is why a private key in it cannot be used, if none can.
	keyErr error
}

// parsePEM reads private keys and certificates. Other blocks are passed over:
// "EC PARAMETERS", which OpenSSL writes before a key, or a certificate
// request. What is not PEM, between the blocks and behind them, is no error,
// as it is none to OpenSSL.
func parsePEM(data []byte) (parsed, error) {
	var p parsed
	for range maxBlocks {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return p, nil
		}
		switch {
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return p, fmt.Errorf("a certificate in it cannot be read: %w", err)
			}
			p.chain = append(p.chain, cert)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key, err := parseKeyBlock(block)
			if err != nil {
				p.keyErr = err
				continue
			}
			p.keys = append(p.keys, key)
		}
	}
	return p, fmt.Errorf("it has more than %d PEM blocks", maxBlocks)
}

// parseKeyBlock reads a key in PKCS #8, PKCS #1 or SEC 1 form. The error says
// nothing of the key's bytes.
func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	if len(block.Bytes) > maxKey {
		return nil, fmt.Errorf("the private key has %d bytes, more than %d", len(block.Bytes), maxKey)
	}
	// RFC 1421 §4.6.1.1 and PKCS #8 know keys under a password.
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errors.New("the private key is encrypted: decrypt it first, with openssl pkey")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a private key in a block %.40q is not known", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of %T cannot sign", key)
	}
	return signer, nil
}

// onlyKey reads a file that should hold one private key.
func onlyKey(data []byte) (crypto.Signer, error) {
	p, err := parsePEM(data)
	switch {
	case err != nil:
		return nil, err
	case len(p.keys) == 1:
		return p.keys[0], nil
	case len(p.keys) > 1:
		return nil, errors.New("it has several private keys")
	case p.keyErr != nil:
		return nil, p.keyErr
	}
	return nil, errors.New("it has no private key in PEM")
}

// keyTypes are the types that CAs take and servers should use, first choice
// first, by the names that Sets have for them.
var keyTypes = [...]string{"P-256", "P-384", "P-521", "RSA-2048", "RSA-3072", "RSA-4096"}

// keyTypeOf names the type of a public key, or says why it should not be used.
func keyTypeOf(public crypto.PublicKey) (string, error) {
	var name string
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		name = k.Params().Name
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 {
			return "", fmt.Errorf("an RSA key of %d bits is too short", bits)
		}
		name = fmt.Sprintf("RSA-%d", k.N.BitLen())
	default:
		name = strings.TrimPrefix(fmt.Sprintf("%T", public), "*")
	}
	for _, known := range keyTypes {
		if name == known {
			return name, nil
		}
	}
	return "", fmt.Errorf("a key of type %.40s is not one that can be used", name)
}

// isFor reports whether a public key is that of a private key.
func isFor(public crypto.PublicKey, key crypto.Signer) bool {
	p, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && p.Equal(key.Public())
}
