package migrate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// jwk is a private key as JSON: an EC key (RFC 7518 §6.2) or an RSA key with
// two primes (§6.3).
type jwk struct {
	Kty string `json:"kty"`

	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`

	N string `json:"n"`
	E string `json:"e"`
	P string `json:"p"`
	Q string `json:"q"`

	D string `json:"d"` // of both
}

// parseJWK reads a private key. The error says nothing of the key's bytes.
func parseJWK(data []byte) (crypto.Signer, error) {
	if len(data) > 2*maxKey {
		return nil, fmt.Errorf("the private key has %d bytes of JSON, more than %d", len(data), 2*maxKey)
	}
	var k jwk
	if json.Unmarshal(data, &k) != nil { // what JSON says of it may quote it
		return nil, errors.New("the private key is not a JSON Web Key")
	}
	switch k.Kty {
	case "EC":
		return k.ec()
	case "RSA":
		return k.rsa()
	}
	return nil, fmt.Errorf("a JSON Web Key of type %.20q is not known", k.Kty)
}

func (k *jwk) ec() (crypto.Signer, error) {
	curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Crv]
	if !ok {
		return nil, fmt.Errorf("a JSON Web Key on the curve %.20q is not known", k.Crv)
	}
	size := (curve.Params().BitSize + 7) / 8
	x, errX := octets(k.X, size)
	y, errY := octets(k.Y, size)
	d, errD := octets(k.D, size)
	if err := errors.Join(errX, errY, errD); err != nil {
		return nil, err
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		return nil, errors.New("the JSON Web Key is not one of its curve")
	}
	// RFC 7518 §6.2.1: an uncompressed point, as SEC 1 §2.3.3 has it.
	public, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil || !key.PublicKey.Equal(public) {
		return nil, errors.New("the two halves of the JSON Web Key do not match")
	}
	return key, nil
}

func (k *jwk) rsa() (crypto.Signer, error) {
	var numbers [5]*big.Int
	for i, text := range []string{k.N, k.E, k.D, k.P, k.Q} {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) == 0 || len(b) > maxKey {
			return nil, errors.New("a number of the JSON Web Key is missing or cannot be read")
		}
		numbers[i] = new(big.Int).SetBytes(b)
	}
	n, e := numbers[0], numbers[1]
	// Before the primes are looked at: the work grows with their length.
	if !e.IsInt64() || e.Int64() > 1<<31-1 || n.BitLen() > 8192 {
		return nil, errors.New("the JSON Web Key has numbers that are too large")
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: n, E: int(e.Int64())},
		D:         numbers[2],
		Primes:    []*big.Int{numbers[3], numbers[4]},
	}
	if key.Validate() != nil {
		return nil, errors.New("the numbers of the JSON Web Key do not match")
	}
	key.Precompute()
	return key, nil
}

// octets reads a number of exactly size bytes (RFC 7518 §6.2.1.2). Shorter
// ones are filled up, as some tools leave zeros out.
func octets(text string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || len(b) > size {
		return nil, errors.New("a number of the JSON Web Key is missing or cannot be read")
	}
	return append(make([]byte, size-len(b)), b...), nil
}
