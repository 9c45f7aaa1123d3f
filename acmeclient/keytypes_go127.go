//go:build go1.27

package acmeclient

import (
	"crypto"
	"crypto/mldsa"
)

// ML-DSA (FIPS 204), for CAs and clients that know X.509 certificates with it (RFC 9881).
const (
	MLDSA44 KeyType = "ML-DSA-44"
	MLDSA65 KeyType = "ML-DSA-65"
	MLDSA87 KeyType = "ML-DSA-87"
)

func laterKeyTypes() []keyType {
	return []keyType{
		mldsaType(MLDSA44, mldsa.MLDSA44()),
		mldsaType(MLDSA65, mldsa.MLDSA65()),
		mldsaType(MLDSA87, mldsa.MLDSA87()),
	}
}

func mldsaType(name KeyType, params mldsa.Parameters) keyType {
	return keyType{
		name:     name,
		generate: func() (crypto.Signer, error) { return mldsa.GenerateKey(params) },
		matches: func(pub crypto.PublicKey) bool {
			key, ok := pub.(*mldsa.PublicKey)
			return ok && key != nil && key.Parameters() == params
		},
	}
}
