package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
)

// A KeyType names an algorithm and a size of private keys. There is a fixed table of them; see KeyTypes.
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

// keyType is a row of the table.
type keyType struct {
	name      KeyType
	spellings []string // others, as plainName has them
	generate  func() (crypto.Signer, error)
	matches   func(crypto.PublicKey) bool
}

// keyTable has a row for each type. What a later Go has, laterKeyTypes adds.
func keyTable() []keyType {
	return append([]keyType{
		ecType(P256, elliptic.P256(), "secp256r1", "prime256v1"), // the latter as ANSI X9.62 and OpenSSL call it
		ecType(P384, elliptic.P384(), "secp384r1"),
		ecType(P521, elliptic.P521(), "secp521r1"),
		rsaType(RSA2048, 2048, "rsa"),
		rsaType(RSA3072, 3072),
		rsaType(RSA4096, 4096),
	}, laterKeyTypes()...)
}

func ecType(name KeyType, curve elliptic.Curve, spellings ...string) keyType {
	return keyType{
		name:      name,
		spellings: spellings,
		generate:  func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) },
		matches: func(pub crypto.PublicKey) bool {
			ec, ok := pub.(*ecdsa.PublicKey)
			return ok && ec != nil && ec.Curve != nil && ec.Params().Name == curve.Params().Name
		},
	}
}

func rsaType(name KeyType, bits int, spellings ...string) keyType {
	return keyType{
		name:      name,
		spellings: spellings,
		generate:  func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) },
		matches: func(pub crypto.PublicKey) bool {
			key, ok := pub.(*rsa.PublicKey)
			return ok && key != nil && key.N != nil && key.N.BitLen() == bits
		},
	}
}

// KeyTypes returns all key types there are.
func KeyTypes() []KeyType {
	var all []KeyType
	for _, row := range keyTable() {
		all = append(all, row.name)
	}
	return all
}

// find returns the first row that is wanted.
func find(is func(keyType) bool) (keyType, bool) {
	table := keyTable()
	if i := slices.IndexFunc(table, is); i >= 0 {
		return table[i], true
	}
	return keyType{}, false
}

func (t KeyType) row() (keyType, error) {
	row, ok := find(func(row keyType) bool { return row.name == t })
	if !ok {
		return keyType{}, unknownKeyType(string(t))
	}
	return row, nil
}

func unknownKeyType(said string) error {
	all := KeyTypes()
	var known strings.Builder
	for i, t := range all {
		switch {
		case i > 0 && i == len(all)-1:
			known.WriteString(" and ")
		case i > 0:
			known.WriteString(", ")
		}
		known.WriteString(string(t))
	}
	return fmt.Errorf("the key type %q is not known; known are %s", clean(said, 64), known.String())
}

// Check reports whether t is in the table. The empty KeyType is not.
func (t KeyType) Check() error {
	_, err := t.row()
	return err
}

// Generate returns a private key of type t. Generating an RSA key takes up to seconds and is not interrupted by ctx,
// which is looked at before and after.
func (t KeyType) Generate(ctx context.Context) (crypto.Signer, error) {
	row, err := t.row()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := row.generate()
	if err != nil {
		return nil, fmt.Errorf("cannot generate a %s key: %w", t, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return key, nil
}

// KeyTypeOf returns the type of pub, or "" if it is not in the table.
func KeyTypeOf(pub crypto.PublicKey) KeyType {
	row, _ := find(func(row keyType) bool { return row.matches(pub) })
	return row.name
}

// ParseKeyType reads a key type as people write it, in any case: "P-256", "p256", "RSA-3072", and as Apache's mod_md and
// OpenSSL write it: "rsa3072", "RSA 3072", "secp256r1", "prime256v1", "secp384r1", "secp521r1". "RSA" alone means RSA-2048.
func ParseKeyType(s string) (KeyType, error) {
	plain := plainName(s)
	row, ok := find(func(row keyType) bool {
		return plain == plainName(string(row.name)) || slices.Contains(row.spellings, plain)
	})
	if !ok {
		return "", unknownKeyType(s)
	}
	return row.name, nil
}
