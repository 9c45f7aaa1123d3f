package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/store"
)

// withAccount makes do work with the account: if what went wrong was the
// account, or that the CA's terms have changed, that is mended, if it can be,
// and do is called again. Each is tried once in an attempt.
func (is *acmeIssuer) withAccount(ctx context.Context, do func() error) error {
	for {
		err := do()
		switch {
		case err == nil:
			return nil
		case wantsTerms(err) && is.e.cfg.AcceptTerms && !is.agreed:
			is.agreed = true
			if agreeErr := is.agree(ctx, err); agreeErr != nil {
				return agreeErr
			}
		case is.mayBeAccount(err) && !is.reopened:
			is.reopened = true
			changed, openErr := is.reopen(ctx, err)
			if openErr != nil {
				return is.aboutTerms(ctx, openErr)
			}
			if !changed {
				return err
			}
		default:
			return is.aboutTerms(ctx, err)
		}
	}
}

// mayBeAccount reports whether an error may come from an account that is not
// as it was: another process may have given it another key, which makes wrong
// signatures of ours.
func (is *acmeIssuer) mayBeAccount(err error) bool {
	if is.session == nil {
		return false
	}
	var p *acmeclient.Problem
	if !errors.As(err, &p) {
		return false
	}
	suspect := []string{"malformed", "unauthorized", "accountdoesnotexist"}
	return is.accountGone(err) || slices.Contains(suspect, strings.ToLower(p.Kind()))
}

// wantsTerms reports whether the CA wants something of the account's owner,
// which in practice is that its terms are agreed to (RFC 8555 §7.3.3).
func wantsTerms(err error) bool {
	var p *acmeclient.Problem
	return errors.As(err, &p) && strings.EqualFold(p.Kind(), "userActionRequired")
}

// agree agrees to the CA's changed terms. The error is the refusal that asked
// for it, with why that did not help.
func (is *acmeIssuer) agree(ctx context.Context, refusal error) error {
	is.log.Info("the CA's terms have changed; agreeing to them", "ca", caName(is.ca), "reason", refusal)
	if is.session == nil {
		return refusal
	}
	if _, err := is.session.AgreeToTerms(ctx); err != nil {
		return fmt.Errorf("%w; agreeing to the terms failed: %w", refusal, err)
	}
	return nil
}

// A termsError says that a CA's terms would have to be agreed to, and that
// nobody has allowed that.
type termsError struct {
	url string
	err error
}

func (e *termsError) Error() string {
	return fmt.Sprintf("terms not accepted: %s (set AcceptTerms once you agree): %v", e.url, e.err)
}

func (e *termsError) Unwrap() error { return e.err }

// aboutTerms says first which terms they are, where an error is about terms
// that nobody has agreed to.
func (is *acmeIssuer) aboutTerms(ctx context.Context, err error) error {
	var p *acmeclient.Problem
	if is.e.cfg.AcceptTerms || !errors.As(err, &p) || !errors.Is(err, acmeclient.ErrTerms) && !wantsTerms(err) {
		return err
	}
	url := p.Instance
	if client, clientErr := is.e.client(is.ca); url == "" && clientErr == nil {
		if dir, dirErr := client.Directory(ctx); dirErr == nil { // known from a moment ago
			url = dir.TermsOfService
		}
	}
	return &termsError{url: url, err: err}
}

// sharing is what Domains have in common that share an account, as far as it
// can be told without reading files. It is comparable.
type sharing struct {
	accountRef
	file string
}

func sharingOf(ca acmeclient.CA) sharing {
	if ca.AccountKey == nil && ca.EAB.File != "" {
		return sharing{accountRef: accountRef{ca: ca.URL}, file: ca.EAB.File}
	}
	return sharing{accountRef: refOf(ca)}
}

// contactsOf are the contacts of the first of the Domains, by Name, that has
// any, for each account. Domains that were allowed on demand come and go: they
// do not count.
func contactsOf(defs []*Domain) map[sharing][]string {
	first := make(map[sharing]*Domain)
	for _, def := range defs {
		if len(def.Contacts) == 0 {
			continue
		}
		for _, ca := range def.CAs {
			if ca.Protocol != acmeclient.ACME {
				continue
			}
			with := sharingOf(ca)
			if known := first[with]; known == nil || def.Name < known.Name {
				first[with] = def
			}
		}
	}
	contacts := make(map[sharing][]string, len(first))
	for with, def := range first {
		contacts[with] = def.Contacts
	}
	return contacts
}

// wantedContacts are what the CA should know of the account that the Domain
// uses there, and false if the Domain's own are not what all others want, too.
func (e *Engine) wantedContacts(def *Domain, ca string) (contacts []string, agreed bool) {
	for _, c := range def.CAs {
		if c.URL != ca {
			continue
		}
		with := sharingOf(c)
		e.mu.Lock()
		defer e.mu.Unlock()
		if contacts, ok := e.contacts[with]; ok {
			return contacts, true
		}
		break
	}
	return def.Contacts, false
}

// contactsPause is the least time between two attempts to tell a CA other
// contacts.
const contactsPause = time.Hour

// tellContacts tells the CA that the account has other contacts. They never
// stand in the way of a certificate: a failure is logged, and it is tried
// again with a later order.
func (is *acmeIssuer) tellContacts(ctx context.Context) {
	wanted, agreed := is.e.wantedContacts(is.def, is.ca.URL)
	ref := is.account.ref
	tried := is.account.contactsTried
	pausing := !tried.IsZero() && is.e.now().Before(tried.Add(contactsPause)) && !tried.After(is.e.now().Add(clocksApart))
	if !agreed || len(wanted) == 0 || slices.Equal(wanted, is.account.contacts) || pausing {
		return
	}
	_, _, _ = is.e.accounts.Do(ref.flight("contacts"), func() (any, error) {
		is.updateContacts(ctx, ref, wanted)
		return nil, nil
	})
}

func (is *acmeIssuer) updateContacts(ctx context.Context, ref accountRef, wanted []string) {
	a, v, err := is.e.records.Account(ctx, ref.ca, ref.id)
	if err != nil || a.URL != is.account.url || slices.Equal(wanted, a.Contacts) || !a.ContactsTried.Equal(is.account.contactsTried) {
		return // somebody else has been here
	}
	is.step("telling the CA other contacts")
	_, err = is.session.UpdateContacts(ctx, wanted)
	if ctx.Err() != nil {
		return
	}
	a.ContactsTried = is.e.now().UTC()
	if err == nil {
		a.Contacts = wanted
		is.log.Info("the account's contacts were changed", "account", a.URL, "contacts", wanted)
	} else {
		is.log.Warn("the account's contacts could not be changed; it is tried again with a later order", "account", a.URL, "error", err)
	}
	if _, err = is.e.records.PutAccount(ctx, ref.ca, ref.id, a, v); err != nil && !errors.Is(err, store.ErrConflict) {
		is.log.Warn("the account's contacts could not be written down; the CA is told again", "account", a.URL, "error", err)
	}
}
