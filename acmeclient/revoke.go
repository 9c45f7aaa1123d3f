package acmeclient

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/acme"
)

// A Reason says why a certificate is revoked (RFC 5280 §5.3.1). The zero Reason is Unspecified.
type Reason int

// The reasons that a subscriber may give. The others are for CAs, or for certificates that are not for servers.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1 // somebody else has, or may have, the private key
	AffiliationChanged   Reason = 3 // the owner of the names has changed, or its name
	Superseded           Reason = 4 // another certificate has taken its place
	CessationOfOperation Reason = 5 // the names are no longer used, or no longer the subscriber's
)

// String returns the name that RFC 5280 gives to r.
func (r Reason) String() string {
	switch r {
	case Unspecified:
		return "unspecified"
	case KeyCompromise:
		return "keyCompromise"
	case AffiliationChanged:
		return "affiliationChanged"
	case Superseded:
		return "superseded"
	case CessationOfOperation:
		return "cessationOfOperation"
	}
	return fmt.Sprintf("Reason(%d)", int(r))
}

// Check returns nil if r is one of the constants, else an error that says so.
func (r Reason) Check() error {
	switch r {
	case Unspecified, KeyCompromise, AffiliationChanged, Superseded, CessationOfOperation:
		return nil
	}
	return fmt.Errorf("the revocation reason %d cannot be given; those that can are unspecified (0), keyCompromise (1), affiliationChanged (3), superseded (4) and cessationOfOperation (5)", int(r))
}

const revokeOp = "revoke the certificate"

// Revoke revokes the certificate der, which the session's account has ordered, or for whose names it holds valid authorizations (RFC 8555 §7.6).
// A certificate that is revoked already is no error, so the call may be repeated.
//
// With KeyCompromise, CAs that take the account's word revoke this certificate only; RevokeWithKey proves it, and they block the key.
func (s *Session) Revoke(ctx context.Context, der []byte, reason Reason) error {
	if s.account == "" {
		return s.noAccount(revokeOp, s.client.ca.URL)
	}
	return s.client.revoke(ctx, s.acme, nil, der, reason)
}

// RevokeWithKey revokes the certificate der, of which key is the private key (RFC 8555 §7.6). No account is needed.
// A certificate that is revoked already is no error, so the call may be repeated.
func (c *Client) RevokeWithKey(ctx context.Context, key crypto.Signer, der []byte, reason Reason) error {
	return c.revoke(ctx, c.acme(key, ""), key, der, reason)
}

// revoke signs with key, or with the account's if key is nil.
func (c *Client) revoke(ctx context.Context, client *acme.Client, key crypto.Signer, der []byte, reason Reason) error {
	doc, err := c.transport.directory(ctx)
	if err != nil {
		return newProblem(revokeOp, &call{url: c.ca.URL}, err)
	}
	if doc.RevokeCert == "" {
		return &Problem{Op: revokeOp, URL: c.ca.URL, Err: errors.New("the CA's directory has no URL for it (revokeCert, RFC 8555 §7.1.1)")}
	}
	if err := checkRevocation(key, der, reason); err != nil {
		return &Problem{Op: revokeOp, URL: doc.RevokeCert, Err: err}
	}
	_, err = c.do(ctx, revokeOp, &call{url: doc.RevokeCert}, func(ctx context.Context) error {
		return client.RevokeCert(ctx, key, der, acme.CRLReasonCode(reason))
	})
	var p *Problem
	if errors.As(err, &p) && p.is("alreadyRevoked") {
		return nil
	}
	return err
}

// checkRevocation finds what no CA would take. A nil key is the account's, which is the CA's to judge.
func checkRevocation(key crypto.Signer, der []byte, reason Reason) error {
	if err := reason.Check(); err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("what is to be revoked is not a certificate in DER: %w", err)
	}
	if key == nil {
		return nil
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(cert.PublicKey) {
		return errors.New("the key is not the one of the certificate")
	}
	return nil
}
