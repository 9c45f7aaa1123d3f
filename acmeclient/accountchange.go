package acmeclient

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/crypto/acme"
)

// UpdateContacts replaces the contacts of the session's account (RFC 8555 §7.3.2). Without contacts there are none afterwards.
// Like in Register, those without a scheme get "mailto:". Whether they differ from what the CA has is for the caller to know:
// many CAs do not tell. The call may be repeated.
func (s *Session) UpdateContacts(ctx context.Context, contacts []string) (Account, error) {
	return s.updateAccount(ctx, "update the account's contacts", map[string]any{"contact": contactURLs(contacts)})
}

// AgreeToTerms tells the CA that the terms of service which are in force are agreed to (RFC 8555 §7.3.3): after a *Problem of kind
// userActionRequired, and after somebody has read them. CAs may want it to be done at the page that Problem.Instance names instead, and
// then refuse or ignore it. The call may be repeated.
func (s *Session) AgreeToTerms(ctx context.Context) (Account, error) {
	return s.updateAccount(ctx, "agree to the CA's terms of service", map[string]any{"termsOfServiceAgreed": true})
}

func (s *Session) updateAccount(ctx context.Context, op string, fields map[string]any) (Account, error) {
	if s.account == "" {
		return Account{}, s.noAccount(op, s.client.ca.URL)
	}
	k := &call{url: s.account, fields: fields, fieldsURL: s.account, key: s.key}
	r, err := s.client.do(ctx, op, k, func(ctx context.Context) error {
		_, err := s.acme.UpdateReg(ctx, &acme.Account{})
		return err
	})
	if err != nil {
		return Account{}, err
	}
	return s.client.account(op, r, s.account)
}

// Deactivate closes the session's account for good (RFC 8555 §7.3.6): nothing can be ordered with it any more, and its key can not make
// another account. Certificates stay valid. An account that is closed already is no error, so the call may be repeated.
func (s *Session) Deactivate(ctx context.Context) error {
	_, err := s.do(ctx, "deactivate the account", s.account, s.acme.DeactivateReg)
	if errors.Is(err, ErrAccountClosed) {
		return nil
	}
	return err
}

// ChangeKey gives the session's account another key (RFC 8555 §7.3.5), with which the session then goes on. The account's URL stays, and
// all that belongs to it. Other sessions must be made anew.
//
// Keep the other key before the call, beside the one in use, and in its place after it: nobody but the holder of the account's key can
// use the account. If the call is cut off, KeyOf tells which of the two it is.
//
// If the CA's reply is lost, the CA is asked which key it has, so an error means that the key is the old one, or that the CA cannot tell
// either. The error wraps errors.ErrUnsupported if the CA offers no change of keys.
func (s *Session) ChangeKey(ctx context.Context, key crypto.Signer) error {
	const op = "change the account's key"
	doc, err := s.client.transport.directory(ctx)
	if err != nil {
		return newProblem(op, &call{url: s.client.ca.URL}, err)
	}
	if err := s.checkKeyChange(doc, key); err != nil {
		return &Problem{Op: op, URL: s.account, Err: err}
	}
	_, err = s.do(ctx, op, doc.KeyChange, func(ctx context.Context) error { return s.acme.AccountKeyRollover(ctx, key) })
	if err != nil && !s.hasTaken(ctx, key, err) {
		return err
	}
	if s.account != "" {
		s.key, s.acme = key, s.client.acme(key, s.account)
	}
	return nil
}

// checkKeyChange finds what no CA would take.
func (s *Session) checkKeyChange(doc *directoryDoc, key crypto.Signer) error {
	if doc.KeyChange == "" {
		return fmt.Errorf("%w: the CA's directory has no URL for it (keyChange, RFC 8555 §7.1.1)", errors.ErrUnsupported)
	}
	if alg, _ := jwsAlgorithm(key.Public()); alg == "" {
		return fmt.Errorf("a key of type %T cannot be an account key; those that can are EC P-256, P-384 and P-521, and RSA", key.Public())
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(s.key.Public()) {
		return errors.New("it is the key that the account has already")
	}
	return nil
}

// hasTaken reports whether the CA has given the account the key, though the request has ended with err.
func (s *Session) hasTaken(ctx context.Context, key crypto.Signer, err error) bool {
	var p *Problem
	if s.account == "" || ctx.Err() != nil || !errors.As(err, &p) || p.Status == http.StatusTooManyRequests {
		return false
	}
	a, err := s.client.Lookup(ctx, key)
	return err == nil && a.URL == s.account
}

// KeyOf returns which of keys is the one of the account with that URL, by looking each up at the CA in turn (RFC 8555 §7.3.1). It is for
// those who do not know how a ChangeKey has ended. The error wraps ErrNoAccount if it is none of them, and ErrAccountClosed if one of them
// is, or was, the key of an account that is closed.
func (c *Client) KeyOf(ctx context.Context, accountURL string, keys ...crypto.Signer) (crypto.Signer, error) {
	var closed error
	for _, key := range keys {
		a, err := c.Lookup(ctx, key)
		switch {
		case err == nil && a.URL == accountURL:
			return key, nil
		case errors.Is(err, ErrAccountClosed):
			closed = err
		case err != nil && !errors.Is(err, ErrNoAccount):
			return nil, err
		}
	}
	if closed != nil {
		return nil, closed
	}
	return nil, &Problem{Op: "find the account's key", URL: accountURL, Err: fmt.Errorf("%w, of those that it might be", ErrNoAccount)}
}
