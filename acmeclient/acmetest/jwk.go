package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
)

// parseJWK reads a public key (RFC 7517, RFC 7518 §6).
func parseJWK(raw json.RawMessage) (crypto.PublicKey, *problem) {
	var k struct {
		Kty, Crv, X, Y, N, E string
		D, P, Q, K           json.RawMessage
	}
	if err := decodeJSON(raw, &k); err != nil {
		return nil, refuse(malformed, "the jwk is not a key: %v", err)
	}
	if k.D != nil || k.P != nil || k.Q != nil || k.K != nil {
		return nil, refuse(malformed, "the jwk has private parts")
	}
	switch k.Kty {
	case "EC":
		return ecKey(k.Crv, k.X, k.Y)
	case "RSA":
		return rsaKey(k.N, k.E)
	}
	return nil, refuse(badPublicKey, "keys of type %q are not taken here", k.Kty)
}

func ecKey(crv, x64, y64 string) (crypto.PublicKey, *problem) {
	curve := map[string]elliptic.Curve{
		"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(),
	}[crv]
	if curve == nil {
		return nil, refuse(badPublicKey, "curve %q is not taken here", crv)
	}
	x, err1 := decode64(x64)
	y, err2 := decode64(y64)
	size := (curve.Params().BitSize + 7) / 8
	// RFC 7518 §6.2.1.2: coordinates have the full length of the curve.
	if err1 != nil || err2 != nil || len(x) != size || len(y) != size {
		return nil, refuse(malformed, "the coordinates of the jwk are not base64url of %d bytes each", size)
	}
	point := append(append([]byte{4}, x...), y...)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, refuse(badPublicKey, "the jwk is not a point of curve %s", crv)
	}
	return key, nil
}

func rsaKey(n64, e64 string) (crypto.PublicKey, *problem) {
	n, err1 := decode64(n64)
	e, err2 := decode64(e64)
	if err1 != nil || err2 != nil || len(n) == 0 || len(e) == 0 || n[0] == 0 || e[0] == 0 {
		return nil, refuse(malformed, "modulus or exponent of the jwk is not minimal base64url")
	}
	if p := checkModulus(len(n) * 8); p != nil {
		return nil, p
	}
	if len(e) > 4 {
		return nil, refuse(badPublicKey, "the exponent of the jwk is too large")
	}
	exponent := int(new(big.Int).SetBytes(e).Int64())
	if exponent < 3 || exponent%2 == 0 {
		return nil, refuse(badPublicKey, "the exponent of the jwk is not usable")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}, nil
}

// checkModulus bounds the length of RSA keys, in bits.
func checkModulus(bits int) *problem {
	if bits < 2048 || bits > 8192 {
		return refuse(badPublicKey, "RSA keys of %d bits are not taken here, only 2048 to 8192", bits)
	}
	return nil
}

// thumbprint is the name of a key (RFC 7638).
func thumbprint(key crypto.PublicKey) string {
	enc := base64.RawURLEncoding.EncodeToString
	var doc string
	switch k := key.(type) {
	case *rsa.PublicKey:
		doc = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, enc(big.NewInt(int64(k.E)).Bytes()), enc(k.N.Bytes()))
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return ""
		}
		half := (len(point) - 1) / 2
		doc = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`,
			k.Curve.Params().Name, enc(point[1:1+half]), enc(point[1+half:]))
	}
	sum := sha256.Sum256([]byte(doc))
	return enc(sum[:])
}
