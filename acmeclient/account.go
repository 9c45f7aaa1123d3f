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
// Contacts are URLs; those without a scheme get "mailto:".
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
	account := &acme.Account{}
	for _, contact := range contacts {
		if !strings.Contains(contact, ":") {
			contact = "mailto:" + contact
		}
		account.Contact = append(account.Contact, contact)
	}
	client := c.acme(key, "")
	r, err := c.do(ctx, op, &call{url: c.ca.URL}, func(ctx context.Context) error {
		_, err := client.Register(ctx, account, acme.AcceptTOS)
		return err
	})
	if err != nil {
		return Account{}, err
	}
	if r.location() == "" {
		// RFC 8555 §7.3 wants it there, and §7.3.1 once more.
		return c.Lookup(ctx, key)
	}
	return c.account(op, r)
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
		return Account{}, err
	}
	return c.account(op, r)
}

// account reads an account from the reply.
func (c *Client) account(op string, r *reply) (Account, error) {
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
	a := Account{URL: r.location()}
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
