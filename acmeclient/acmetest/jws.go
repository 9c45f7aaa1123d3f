package acmetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"slices"
)

// jws is a JSON Web Signature in flattened serialization (RFC 7515 §7.2.2),
// decoded but not verified.
type jws struct {
	header  header
	payload []byte
	empty   bool   // POST-as-GET: there is no payload (RFC 8555 §6.3)
	signed  []byte // what the signature is about
	sig     []byte
}

// header is the protected header (RFC 8555 §6.2).
type header struct {
	Alg   string          `json:"alg"`
	Nonce *string         `json:"nonce"`
	URL   *string         `json:"url"`
	KID   *string         `json:"kid"`
	JWK   json.RawMessage `json:"jwk"`
	Crit  json.RawMessage `json:"crit"`
	B64   json.RawMessage `json:"b64"`
}

// algorithms are those that accounts may sign with.
var algorithms = []string{"ES256", "ES384", "ES512", "RS256"}

// parseJWS takes a JWS apart.
func parseJWS(body []byte) (*jws, *problem) {
	var flat struct {
		Protected  *string         `json:"protected"`
		Payload    *string         `json:"payload"`
		Signature  *string         `json:"signature"`
		Header     json.RawMessage `json:"header"`
		Signatures json.RawMessage `json:"signatures"`
	}
	if err := decodeJSON(body, &flat); err != nil {
		return nil, refuse(malformed, "the body is not a JWS in flattened serialization: %v", err)
	}
	switch {
	case flat.Header != nil:
		return nil, refuse(malformed, "the JWS has an unprotected header") // RFC 8555 §6.2
	case flat.Signatures != nil:
		return nil, refuse(malformed, "the JWS has several signatures")
	case flat.Protected == nil || flat.Payload == nil || flat.Signature == nil:
		return nil, refuse(malformed, "the JWS lacks protected, payload or signature")
	}
	protected, err1 := decode64(*flat.Protected)
	payload, err2 := decode64(*flat.Payload)
	sig, err3 := decode64(*flat.Signature)
	if errors.Join(err1, err2, err3) != nil {
		return nil, refuse(malformed, "a part of the JWS is not base64url without padding")
	}
	m := &jws{
		payload: payload, empty: *flat.Payload == "", sig: sig,
		signed: []byte(*flat.Protected + "." + *flat.Payload),
	}
	if err := decodeJSON(protected, &m.header); err != nil {
		return nil, refuse(malformed, "the protected header is not JSON: %v", err)
	}
	if m.header.Crit != nil || m.header.B64 != nil {
		return nil, refuse(malformed, "the protected header has crit or b64")
	}
	if !slices.Contains(algorithms, m.header.Alg) && m.header.Alg != "HS256" {
		return nil, badAlgorithm(m.header.Alg)
	}
	return m, nil
}

// badAlgorithm refuses with the list of what is taken (RFC 8555 §6.2).
func badAlgorithm(alg string) *problem {
	p := refuse(badSignatureAlgorithm, "signature algorithm %q is not taken here", alg)
	p.algorithms = algorithms
	return p
}

// verify checks the request's JWS and finds out who signed it.
func (ca *CA) verify(rq *request, by signer) *problem {
	h := rq.jws.header
	switch {
	case h.Alg == "HS256":
		return badAlgorithm(h.Alg)
	case h.Nonce == nil:
		return refuse(badNonce, "the protected header has no nonce")
	case h.URL == nil:
		return refuse(malformed, "the protected header has no url")
	case (h.KID == nil) == (h.JWK == nil):
		return refuse(malformed, "the protected header must have either kid or jwk")
	case by == byAccount && h.KID == nil:
		return refuse(malformed, "this request must be signed with kid")
	case by == byKey && h.JWK == nil:
		return refuse(malformed, "this request must be signed with jwk")
	}
	if p := ca.useNonce(*h.Nonce); p != nil {
		return p
	}
	s := ca.lock()
	base := s.base
	ca.mu.Unlock()
	if *h.URL != base+rq.URL.RequestURI() {
		// RFC 8555 §6.4.
		return refuse(unauthorized, "the protected url is %q, the request went to %q", *h.URL, base+rq.URL.RequestURI())
	}
	if h.JWK != nil {
		key, p := parseJWK(h.JWK)
		if p != nil {
			return p
		}
		return rq.jws.check(key)
	}
	account, key, p := ca.accountAt(*h.KID)
	if p != nil {
		return p
	}
	rq.account = account
	return rq.jws.check(key)
}

// check verifies the signature.
func (m *jws) check(key crypto.PublicKey) *problem {
	if alg := algorithmOf(key); alg != m.header.Alg {
		return refuse(malformed, "algorithm %s does not fit the key, which needs %s", m.header.Alg, alg)
	}
	if !verifies(key, m.signed, m.sig) {
		return refuse(malformed, "the signature is wrong")
	}
	return nil
}

// algorithmOf names the algorithm that goes with a key.
func algorithmOf(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return "RS256"
	case *ecdsa.PublicKey:
		return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	}
	return ""
}

// verifies checks a signature as RFC 7518 §3 writes it: for ECDSA, R and S
// side by side, each as long as the curve's order.
func verifies(key crypto.PublicKey, signed, sig []byte) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		sum := sha256.Sum256(signed)
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil
	case *ecdsa.PublicKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(k, ecDigest(size, signed), r, s)
	}
	return false
}

// ecDigest hashes for a curve of that many bytes.
func ecDigest(size int, signed []byte) []byte {
	switch size {
	case 32:
		sum := sha256.Sum256(signed)
		return sum[:]
	case 48:
		sum := sha512.Sum384(signed)
		return sum[:]
	}
	sum := sha512.Sum512(signed)
	return sum[:]
}

// into decodes the payload of a request that must have one.
func (rq *request) into(v any) *problem {
	if err := decodeJSON(rq.jws.payload, v); err != nil {
		return refuse(malformed, "the payload is not what this request takes: %v", err)
	}
	return nil
}

// postAsGet insists on an empty payload (RFC 8555 §6.3).
func (rq *request) postAsGet() *problem {
	if !rq.jws.empty {
		return refuse(malformed, "a POST-as-GET request has an empty payload")
	}
	return nil
}

// decodeJSON decodes exactly one JSON object.
func decodeJSON(data []byte, v any) error {
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' {
		return errors.New("not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// decode64 decodes base64url without padding (RFC 8555 §6.1).
func decode64(s string) ([]byte, error) {
	// The decoder itself would skip line breaks.
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' {
			return nil, errors.New("line break in base64url")
		}
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}
