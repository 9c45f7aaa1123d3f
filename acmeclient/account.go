package acmeclient

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/acme"
)

// An Account is an account at a CA (RFC 8555 §7.1.2).
type Account struct {
	URL      string   // identifies it; Client.Session wants it
	Contacts []string // URLs, as the CA has them; many CAs do not tell
}

// Register makes an account for key, or finds the one that key already has, whose contacts it leaves as they are.
// Contacts are URLs; those without a scheme get "mailto:". CA.EAB, if there is one, is sent along (RFC 8555 §7.3.4).
//
// Many CAs let an external account bind one key only. Keep key before the call; after one that did not end well, Lookup tells whether
// the account is there, and the same key may be registered again.
//
// If the CA has terms of service and termsAgreed is false, nothing is sent to it and the error wraps ErrTerms.
// An error that wraps ErrAccountClosed asks for another key.
func (c *Client) Register(ctx context.Context, key crypto.Signer, contacts []string, termsAgreed bool) (Account, error) {
	const op = "register an account"
	dir, err := c.Directory(ctx)
	if err != nil {
		return Account{}, err
	}
	if dir.TermsOfService != "" && !termsAgreed {
		return Account{}, &Problem{Op: op, URL: c.ca.URL, Err: fmt.Errorf("%w: %s", ErrTerms, dir.TermsOfService)}
	}
	binding, err := c.ca.EAB.binding()
	if err != nil {
		return Account{}, &Problem{Op: op, URL: c.ca.URL, Err: err}
	}
	account := &acme.Account{Contact: contactURLs(contacts), ExternalAccountBinding: binding}
	client := c.acme(key, "")
	r, err := c.do(ctx, op, &call{url: c.ca.URL}, func(ctx context.Context) error {
		_, err := client.Register(ctx, account, acme.AcceptTOS)
		return err
	})
	var p *Problem
	if errors.As(err, &p) {
		p.bound = binding != nil
	}
	if err != nil {
		return Account{}, needsNewKey(err)
	}
	if r.location() == "" {
		// RFC 8555 §7.3 wants it there, and §7.3.1 once more.
		return c.Lookup(ctx, key)
	}
	return c.account(op, r, r.location())
}

// contactURLs returns contacts as RFC 8555 §7.1.2 wants them. It is not nil.
func contactURLs(contacts []string) []string {
	urls := make([]string, len(contacts))
	for i, contact := range contacts {
		if !strings.Contains(contact, ":") {
			contact = "mailto:" + contact
		}
		urls[i] = contact
	}
	return urls
}

// needsNewKey says what can be done where the account of a key is closed for good.
func needsNewKey(err error) error {
	var p *Problem
	if errors.As(err, &p) && p.accountClosed() {
		p.Err = fmt.Errorf("%w; a new key makes a new account", ErrAccountClosed)
	}
	return err
}

// Lookup finds the account of key (RFC 8555 §7.3.1). The error wraps ErrNoAccount if there is none, and ErrAccountClosed if there was one.
func (c *Client) Lookup(ctx context.Context, key crypto.Signer) (Account, error) {
	const op = "look up the account"
	client := c.acme(key, "")
	r, err := c.do(ctx, op, &call{url: c.ca.URL}, func(ctx context.Context) error {
		_, err := client.GetReg(ctx, "")
		return err
	})
	var p *Problem
	if errors.As(err, &p) && p.is("accountDoesNotExist") {
		p.Err = ErrNoAccount
	}
	if err != nil {
		return Account{}, needsNewKey(err)
	}
	return c.account(op, r, r.location())
}

// account reads the account with that URL from the reply.
func (c *Client) account(op string, r *reply, url string) (Account, error) {
	var v struct {
		Status  string
		Contact []string
	}
	if err := r.decode(op, &v); err != nil {
		return Account{}, err
	}
	if v.Status == StatusDeactivated || v.Status == StatusRevoked {
		return Account{}, &Problem{Op: op, URL: r.url, Status: r.status, Err: fmt.Errorf("%w: it is %s; a new key makes a new account", ErrAccountClosed, v.Status)}
	}
	a := Account{URL: url}
	if a.URL == "" {
		return Account{}, r.invalidReply(op, "does not say the account's URL (Location, RFC 8555 §7.3)")
	}
	if err := checkURLString(a.URL, c.ca.PlainLoopback); err != nil {
		return Account{}, r.invalidReply(op, fmt.Sprintf("says that the account's URL is %q, which %v", clean(a.URL, maxURL), err))
	}
	for _, contact := range v.Contact[:min(len(v.Contact), 20)] {
		a.Contacts = append(a.Contacts, clean(contact, maxShort))
	}
	return a, nil
}
