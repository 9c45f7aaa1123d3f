package acmetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// finalize takes the CSR of a ready order and issues (RFC 8555 §7.4). It
// answers with the order processing; the next look finds it valid.
func (ca *CA) finalize(rq *request) (*reply, *problem) {
	o := rq.to.order
	if rq.account != o.account {
		return nil, refuse(unauthorized, "this is the order of another account")
	}
	var want struct{ CSR string }
	if p := rq.into(&want); p != nil {
		return nil, p
	}
	der, err := decode64(want.CSR)
	if err != nil {
		return nil, refuse(malformed, "the csr is not base64url without padding")
	}
	if rep, p := ca.notReady(rq, o); rep != nil || p != nil {
		return rep, p
	}
	if _, p := ca.profile(o.profile); p != nil {
		return nil, p // it was retired meanwhile (draft-ietf-acme-profiles)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuse(badCSR, "the csr cannot be read: %v", err)
	}
	if err := ca.checkCSR(csr, o.names); err != nil {
		return nil, refuse(badCSR, "the csr %v", err)
	}
	if !ca.claim(o) {
		return nil, refuse(orderNotReady, "the order is %s", processing)
	}

	cert, err := ca.issue(o, csr)
	s := ca.lock()
	defer ca.mu.Unlock()
	if err != nil {
		o.status = invalid
		o.err = refuse(serverInternal, "cannot issue: %v", err)
		return ca.orderReply(s, o, rq.op, http.StatusOK), nil
	}
	ca.keep(s, cert)
	o.status, o.cert = valid, cert
	ca.slowDown(o, rq.op)
	r := ca.orderReply(s, o, rq.op, http.StatusOK)
	o.hidden = max(0, o.hidden-1)
	return r, nil
}

// notReady answers for an order that cannot be finalized as it is.
func (ca *CA) notReady(rq *request, o *order) (*reply, *problem) {
	s := ca.lock()
	defer ca.mu.Unlock()
	state := o.state(time.Now())
	if state == ready {
		return nil, nil
	}
	if state == valid && ca.chance(ca.Faults.FinalizeAgain, "finalize again", rq.op) {
		return ca.orderReply(s, o, rq.op, http.StatusOK), nil
	}
	return nil, refuse(orderNotReady, "the order is %s", state)
}

// claim makes a ready order processing. Of several requests one succeeds.
func (ca *CA) claim(o *order) bool {
	ca.lock()
	defer ca.mu.Unlock()
	now := time.Now()
	if o.state(now) != ready {
		return false
	}
	o.status, o.finalized = processing, now
	return true
}

// slowDown decides what an order looks like until it looks valid. The state
// is locked.
func (ca *CA) slowDown(o *order, op Op) {
	o.hidden, o.guise = 0, processing
	if ca.chance(ca.Faults.InstantFinalize, "instant finalize", op) {
		return
	}
	if ca.chance(ca.Faults.LateFinalize, "late finalize", op) {
		o.guise = ready
	}
	o.hidden = 1 + ca.polls(ca.Faults.SlowFinalize, "slow finalize", op) // one for the answer to finalize
}

// checkCSR checks a CSR against the names of its order. Its errors say what
// is wrong with it.
func (ca *CA) checkCSR(csr *x509.CertificateRequest, names []string) error {
	if csr.CheckSignature() != nil {
		return errors.New("is not signed with its own key")
	}
	if len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return errors.New("has names that are neither DNS names nor IP addresses")
	}
	if ca.MustStaple == RefuseMustStaple && asksMustStaple(csr) {
		return errors.New("asks for must-staple (RFC 7633), which is not supported")
	}
	var asked []string
	for _, ip := range csr.IPAddresses {
		asked = append(asked, ip.String())
	}
	for _, n := range csr.DNSNames {
		asked = append(asked, strings.ToLower(n))
	}
	if cn := csr.Subject.CommonName; cn != "" {
		asked = append(asked, strings.ToLower(cn))
	}
	slices.Sort(asked)
	if asked = slices.Compact(asked); !slices.Equal(asked, names) {
		return fmt.Errorf("is for %q, the order for %q", asked, names)
	}
	switch key := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if p := checkModulus(key.N.BitLen()); p != nil {
			return errors.New("has a key that is not taken: " + p.detail)
		}
	case *ecdsa.PublicKey:
	default:
		return errors.New("has a key of a type that is not taken")
	}
	// RFC 8555 §11.1: certificates are never issued for account keys.
	if name := thumbprint(csr.PublicKey); ca.isAccountKey(name) {
		return errors.New("has the key of an account")
	}
	return nil
}

func (ca *CA) isAccountKey(name string) bool {
	s := ca.lock()
	defer ca.mu.Unlock()
	return s.byThumbprint[name] != nil
}

// sameKey compares public keys.
func sameKey(a, b crypto.PublicKey) bool {
	x, err1 := x509.MarshalPKIXPublicKey(a)
	y, err2 := x509.MarshalPKIXPublicKey(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
