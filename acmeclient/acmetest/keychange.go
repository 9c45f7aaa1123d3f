package acmetest

import (
	"encoding/json"
	"net/http"
)

// keyChange gives an account another key (RFC 8555 §7.3.5).
func (ca *CA) keyChange(rq *request) (*reply, *problem) {
	inner, p := parseJWS(rq.jws.payload)
	if p != nil {
		return nil, p
	}
	h := inner.header
	switch {
	case h.JWK == nil || h.KID != nil:
		return nil, refuse(malformed, "the inner JWS needs jwk and no kid")
	case h.Nonce != nil:
		return nil, refuse(malformed, "the inner JWS has a nonce")
	case h.URL == nil || *h.URL != *rq.jws.header.URL:
		return nil, refuse(malformed, "the inner JWS is for another url")
	}
	key, p := parseJWK(h.JWK)
	if p != nil {
		return nil, p
	}
	if p := inner.check(key); p != nil {
		return nil, p
	}
	var change struct {
		Account string          `json:"account"`
		OldKey  json.RawMessage `json:"oldKey"`
	}
	if err := decodeJSON(inner.payload, &change); err != nil {
		return nil, refuse(malformed, "the inner payload is not a key change: %v", err)
	}
	old, p := parseJWK(change.OldKey)
	if p != nil {
		return nil, p
	}

	s := ca.lock()
	defer ca.mu.Unlock()
	a := rq.account
	switch {
	case change.Account != s.base+a.path:
		return nil, refuse(malformed, "the inner payload names another account")
	case thumbprint(old) != thumbprint(a.key):
		return nil, refuse(malformed, "oldKey is not the key of the account")
	}
	if owner := s.byThumbprint[thumbprint(key)]; owner != nil {
		p := refuse(malformed, "an account has this key already").with(http.StatusConflict)
		p.header = http.Header{"Location": {s.base + owner.path}}
		return nil, p
	}
	delete(s.byThumbprint, thumbprint(a.key))
	a.key = key
	s.byThumbprint[thumbprint(key)] = a
	return a.reply(s, http.StatusOK), nil
}
