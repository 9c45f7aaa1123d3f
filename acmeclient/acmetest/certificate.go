package acmetest

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"time"
)

// serveCertificate hands out a chain (RFC 8555 §7.4.2).
func (ca *CA) serveCertificate(rq *request) (*reply, *problem) {
	if p := rq.postAsGet(); p != nil {
		return nil, p
	}
	c := rq.to.cert
	if rq.account != c.order.account {
		return nil, refuse(unauthorized, "this is the certificate of another account")
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	r := newReply(http.StatusOK)
	r.header.Set("Content-Type", "application/pem-certificate-chain")
	for i, path := range c.paths {
		if i != rq.to.chain {
			r.header.Add("Link", "<"+s.base+path+`>;rel="alternate"`)
		}
	}
	for _, cert := range c.chains[rq.to.chain] {
		r.body = append(r.body, pemOf(cert.Raw)...)
	}
	return r, nil
}

// revoke revokes a certificate (RFC 8555 §7.6), for the account that ordered
// it, for an account that may use all its names, and for its own key.
func (ca *CA) revoke(rq *request) (*reply, *problem) {
	var want struct {
		Certificate string
		Reason      int
	}
	if p := rq.into(&want); p != nil {
		return nil, p
	}
	der, err := decode64(want.Certificate)
	if err != nil {
		return nil, refuse(malformed, "the certificate is not base64url without padding")
	}
	given, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(malformed, "the certificate cannot be read: %v", err)
	}
	// RFC 5280 §5.3.1: 7 is not used, 8 is for certificates on hold.
	if want.Reason < 0 || want.Reason > 10 || want.Reason == 7 || want.Reason == 8 {
		return nil, refuse(badRevocationReason, "reason %d cannot be given", want.Reason)
	}
	var key any
	if rq.account == nil {
		var p *problem
		if key, p = parseJWK(rq.jws.header.JWK); p != nil {
			return nil, p
		}
	}

	s := ca.lock()
	defer ca.mu.Unlock()
	c := s.bySerial[given.SerialNumber.String()]
	switch {
	case c == nil || !c.leaf.Equal(given):
		return nil, refuse(malformed, "%v", errNoSuchCertificate).with(http.StatusNotFound)
	case rq.account == nil && !sameKey(key, c.leaf.PublicKey):
		return nil, refuse(unauthorized, "the request is not signed with the certificate's key")
	case rq.account != nil && rq.account != c.order.account && !s.controls(rq.account, c.order.names):
		return nil, refuse(unauthorized, "the account may not revoke this certificate")
	case !c.revoked.IsZero():
		return nil, refuse(alreadyRevoked, "the certificate is revoked already")
	}
	c.revoked, c.reason = time.Now(), want.Reason
	return newReply(http.StatusOK), nil
}

// controls reports whether an account holds valid authorizations for all
// names. The state is locked.
func (s *state) controls(a *account, names []string) bool {
	for _, name := range names {
		authz := s.validAuthz[a.path+" "+name]
		if authz == nil || authz.state(time.Now()) != valid {
			return false
		}
	}
	return len(names) > 0
}

// Revoke revokes a certificate as the CA itself would, for example because
// the key was found in public. Renewal information then asks for renewal at
// once. The certificate is one that the CA issued.
func (ca *CA) Revoke(leaf *x509.Certificate, reason int) error {
	s := ca.lock()
	defer ca.mu.Unlock()
	c := s.bySerial[leaf.SerialNumber.String()]
	if c == nil || !c.leaf.Equal(leaf) {
		return errNoSuchCertificate
	}
	if !c.revoked.IsZero() {
		return fmt.Errorf("acmetest: the certificate was revoked before, at %s", c.revoked.Format(time.RFC3339))
	}
	c.revoked, c.reason = time.Now(), reason
	return nil
}
