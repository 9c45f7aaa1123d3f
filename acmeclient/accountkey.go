package acmeclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"reflect"
)

// Sizes of RSA account keys. Signing takes time that grows with the cube of the size, and CAs refuse large ones.
const (
	minAccountRSA = 2048
	maxAccountRSA = 8192
)

// checkAccountKey reports what is wrong with a key that the user brought: whether the CA's answer to it would be
// badPublicKey or badSignatureAlgorithm (RFC 8555 §6.2). It signs nothing: that may cost money.
func checkAccountKey(key crypto.Signer) error {
	if v := reflect.ValueOf(key); v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("the AccountKey is a nil %T", key)
	}
	const wanted = "CAs take EC P-256 and P-384, and RSA"
	switch pub := key.Public().(type) {
	case nil:
		return fmt.Errorf("the AccountKey (%T) has no public key", key)
	case *ecdsa.PublicKey:
		if pub == nil || pub.Curve == nil {
			return errors.New("the AccountKey has an incomplete public key")
		}
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return fmt.Errorf("the AccountKey is EC %s: %s", clean(pub.Params().Name, 32), wanted)
		}
	case *rsa.PublicKey:
		if pub == nil || pub.N == nil {
			return errors.New("the AccountKey has an incomplete public key")
		}
		if bits := pub.N.BitLen(); bits < minAccountRSA || bits > maxAccountRSA {
			return fmt.Errorf("the AccountKey is RSA of %d bits: it must have %d to %d", bits, minAccountRSA, maxAccountRSA)
		}
	default:
		return fmt.Errorf("the AccountKey has a public key of type %T: %s", pub, wanted)
	}
	return nil
}
