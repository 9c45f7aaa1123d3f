package record

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxKey bounds the length of a private key in PKCS #8 form. One of RSA-8192
// has under 5000 bytes; to check an RSA key takes time that grows with the
// cube of its length.
const maxKey = 8 << 10

func parseKey(der []byte) (crypto.Signer, error) {
	if len(der) > maxKey {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(der), maxKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("it cannot sign")
	}
	return signer, nil
}
