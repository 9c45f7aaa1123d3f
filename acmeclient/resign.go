package acmeclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
)

// x/crypto/acme has no way to add a field such as "replaces" (RFC 9773 §5) to newOrder, or to send an empty list of contacts
// (RFC 8555 §7.3.2), so the transport adds it and signs again.
// All but payload and signature stays as x/crypto made it: key ID, nonce and URL are in the protected header, which is left byte for byte.

// flatJWS is a JWS in flattened JSON serialization (RFC 7515 §7.2.2, RFC 8555 §6.2).
type flatJWS struct {
	Protected string `json:"protected"`
	Payload   string `json:"payload"`
	Signature string `json:"signature"`
}

// resign returns the request in body with fields added to its payload, signed with key.
// It refuses to sign what is not for url: it must not be made to sign anything else with the account key.
func resign(body []byte, key crypto.Signer, url string, fields map[string]any) ([]byte, error) {
	var jws flatJWS
	if err := json.Unmarshal(body, &jws); err != nil {
		return nil, fmt.Errorf("cannot add to the request: %w", err)
	}
	var header struct{ Alg, URL string }
	if err := decodePart(jws.Protected, &header); err != nil {
		return nil, fmt.Errorf("cannot add to the request: its protected header: %w", err)
	}
	if header.URL != url {
		return nil, fmt.Errorf("cannot add to the request: it is signed for %q, not %q", header.URL, url)
	}
	alg, hash := jwsAlgorithm(key.Public())
	if alg == "" || alg != header.Alg {
		return nil, fmt.Errorf("cannot add to the request: it is signed with %q, not with this account key", header.Alg)
	}
	var payload map[string]any
	if err := decodePart(jws.Payload, &payload); err != nil || payload == nil {
		return nil, fmt.Errorf("cannot add to the request: its payload is not a JSON object (%v)", err)
	}
	maps.Copy(payload, fields)
	merged, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("cannot add to the request: %w", err)
	}
	jws.Payload = base64.RawURLEncoding.EncodeToString(merged)
	sig, err := sign(key, hash, []byte(jws.Protected+"."+jws.Payload))
	if err != nil {
		return nil, fmt.Errorf("cannot sign the request with the account key: %w", err)
	}
	jws.Signature = base64.RawURLEncoding.EncodeToString(sig)
	return json.Marshal(jws)
}

func decodePart(part string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// jwsAlgorithm returns the algorithm that x/crypto/acme signs with (RFC 7518 §3.1), or "" for a key that it cannot sign with.
func jwsAlgorithm(pub crypto.PublicKey) (string, crypto.Hash) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return "RS256", crypto.SHA256
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return "ES256", crypto.SHA256
		case elliptic.P384():
			return "ES384", crypto.SHA384
		case elliptic.P521():
			return "ES512", crypto.SHA512
		}
	}
	return "", 0
}

// sign signs as RFC 7518 §3.3 (RSA) and §3.4 (ECDSA: R and S, each as long as the curve's order) want it.
func sign(key crypto.Signer, hash crypto.Hash, message []byte) ([]byte, error) {
	sig, err := crypto.SignMessage(key, rand.Reader, message, hash)
	if err != nil {
		return nil, err
	}
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return sig, nil
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) > 0 {
		return nil, errors.New("the key's signature is not an ECDSA one")
	}
	size := (pub.Params().N.BitLen() + 7) / 8
	if rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || rs.R.BitLen() > 8*size || rs.S.BitLen() > 8*size {
		return nil, errors.New("the key's signature is out of the curve's range")
	}
	out := make([]byte, 2*size)
	rs.R.FillBytes(out[:size])
	rs.S.FillBytes(out[size:])
	return out, nil
}
