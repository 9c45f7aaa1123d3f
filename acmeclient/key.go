package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
)

// A KeyType names an algorithm and a size of private keys. There is a fixed table of them.
type KeyType string

// The key types. All public CAs take P-256, P-384 and the RSA ones; P-521 is for private CAs.
const (
	P256    KeyType = "P-256"
	P384    KeyType = "P-384"
	P521    KeyType = "P-521"
	RSA2048 KeyType = "RSA-2048"
	RSA3072 KeyType = "RSA-3072"
	RSA4096 KeyType = "RSA-4096"
)

const knownKeyTypes = "P-256, P-384, P-521, RSA-2048, RSA-3072 and RSA-4096"

// parameters returns the curve, or the number of bits of an RSA key, or nil and 0 for an unknown type.
func (t KeyType) parameters() (elliptic.Curve, int) {
	switch t {
	case P256:
		return elliptic.P256(), 0
	case P384:
		return elliptic.P384(), 0
	case P521:
		return elliptic.P521(), 0
	case RSA2048:
		return nil, 2048
	case RSA3072:
		return nil, 3072
	case RSA4096:
		return nil, 4096
	}
	return nil, 0
}

// Check reports whether t is in the table. The empty KeyType is not.
func (t KeyType) Check() error {
	if curve, bits := t.parameters(); curve == nil && bits == 0 {
		return fmt.Errorf("the key type %q is not known; known are %s", clean(string(t), 64), knownKeyTypes)
	}
	return nil
}

// Generate returns a private key of type t. Generating an RSA key takes up to seconds and is not interrupted by ctx,
// which is looked at before and after.
func (t KeyType) Generate(ctx context.Context) (crypto.Signer, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := t.generate()
	if err != nil {
		return nil, fmt.Errorf("cannot generate a %s key: %w", t, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return key, nil
}

func (t KeyType) generate() (crypto.Signer, error) {
	curve, bits := t.parameters()
	if curve != nil {
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// KeyTypeOf returns the type of pub, or "" if it is not in the table.
func KeyTypeOf(pub crypto.PublicKey) KeyType {
	var t KeyType
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub == nil || pub.Curve == nil {
			return ""
		}
		t = KeyType(pub.Params().Name)
	case *rsa.PublicKey:
		if pub == nil || pub.N == nil {
			return ""
		}
		t = KeyType(fmt.Sprintf("RSA-%d", pub.N.BitLen()))
	}
	if t.Check() != nil {
		return ""
	}
	return t
}

// ParseKeyType reads a key type as people write it, in any case: "P-256", "p256", "RSA-3072", and as Apache's mod_md and
// OpenSSL write it: "rsa3072", "RSA 3072", "secp256r1", "prime256v1", "secp384r1", "secp521r1". "RSA" alone means RSA-2048.
func ParseKeyType(s string) (KeyType, error) {
	switch strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s)) {
	case "p256", "secp256r1", "prime256v1":
		return P256, nil
	case "p384", "secp384r1":
		return P384, nil
	case "p521", "secp521r1":
		return P521, nil
	case "rsa", "rsa2048":
		return RSA2048, nil
	case "rsa3072":
		return RSA3072, nil
	case "rsa4096":
		return RSA4096, nil
	}
	return "", fmt.Errorf("the key type %q is not known; known are %s", clean(s, 64), knownKeyTypes)
}
