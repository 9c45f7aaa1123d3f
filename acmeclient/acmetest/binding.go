package acmetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
)

// rawBinding is an externalAccountBinding as it was sent.
type rawBinding = json.RawMessage

// checkBinding checks that the account key is bound to an external account,
// and returns the external account's key identifier (RFC 8555 §7.3.4).
func (ca *CA) checkBinding(rq *request, raw *rawBinding) (string, *problem) {
	if raw == nil {
		if len(ca.ExternalAccounts) > 0 {
			return "", refuse(externalAccountRequired, "an external account is required")
		}
		return "", nil
	}
	m, p := parseJWS(*raw)
	if p != nil {
		return "", p
	}
	h := m.header
	switch {
	case h.Alg != "HS256":
		return "", refuse(malformed, "the external account binding is signed with %s, not HS256", h.Alg)
	case h.Nonce != nil:
		return "", refuse(malformed, "the external account binding has a nonce")
	case h.KID == nil || h.JWK != nil:
		return "", refuse(malformed, "the external account binding needs kid and no jwk")
	case h.URL == nil || rq.jws.header.URL == nil || *h.URL != *rq.jws.header.URL:
		return "", refuse(malformed, "the external account binding is for another url")
	}
	secret, known := ca.ExternalAccounts[*h.KID]
	if !known {
		return "", refuse(unauthorized, "there is no external account %q", *h.KID)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(m.signed)
	if !hmac.Equal(mac.Sum(nil), m.sig) {
		return "", refuse(unauthorized, "the external account binding of %q has a wrong signature", *h.KID)
	}
	bound, p := parseJWK(m.payload)
	if p != nil {
		return "", p
	}
	outer, p := parseJWK(rq.jws.header.JWK)
	if p != nil {
		return "", p
	}
	if thumbprint(bound) != thumbprint(outer) {
		return "", refuse(malformed, "the external account binding is for another account key")
	}
	if ca.ExternalAccountsOnce && ca.isUsed(*h.KID) {
		return "", refuse(unauthorized, "the external account %q has been used already", *h.KID)
	}
	return *h.KID, nil
}

func (ca *CA) isUsed(kid string) bool {
	s := ca.lock()
	defer ca.mu.Unlock()
	return s.usedKeys[kid]
}
