package engine

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// accountKeyType is the type of account keys: small signatures, and every CA
// takes it.
const accountKeyType = acmeclient.P256

// knownAccount is an account that a CA has confirmed.
type knownAccount struct {
	key crypto.Signer
	url string
}

// accountAt returns the account at a CA, which all Domains share. It is
// registered by the first that needs it.
func (e *Engine) accountAt(ctx context.Context, client *acmeclient.Client, def *Domain) (knownAccount, error) {
	ca := client.CA().URL
	for {
		e.mu.Lock()
		known, ok := e.known[ca]
		e.mu.Unlock()
		if ok {
			return known, nil
		}
		_, err, shared := e.accounts.Do(ca, func() (any, error) {
			known, err := e.findAccount(ctx, client, def)
			if err != nil {
				return nil, err
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.known[ca] = known
			return nil, nil
		})
		if err != nil && shared && ctx.Err() == nil && errors.Is(err, context.Canceled) {
			continue // it was the context of another Domain's attempt that ended
		}
		if err != nil {
			return knownAccount{}, err
		}
	}
}

// findAccount returns the stored account, registered if need be. Its key is
// written before the CA hears of it and its URL after: a key without URL is
// looked up first, so that no account is registered twice, also not by
// another process or after a crash.
func (e *Engine) findAccount(ctx context.Context, client *acmeclient.Client, def *Domain) (knownAccount, error) {
	var none knownAccount
	account, version, created, err := e.storedAccount(ctx, client.CA().URL)
	if err != nil {
		return none, err
	}
	key, err := account.Signer()
	if err != nil {
		return none, err
	}
	if account.URL != "" {
		return knownAccount{key: key, url: account.URL}, nil
	}
	registered, err := e.register(ctx, client, key, def, created)
	if errors.Is(err, acmeclient.ErrAccountClosed) {
		return none, errors.Join(err, e.replaceAccount(ctx, client.CA().URL, version))
	}
	if err != nil {
		return none, err
	}
	account.URL, account.Contacts = registered.URL, def.Contacts
	_, err = e.records.PutAccount(ctx, client.CA().URL, record.DefaultAccount, account, version)
	if errors.Is(err, store.ErrConflict) {
		err = nil // another process has registered the same key
	}
	if err != nil {
		return none, err
	}
	return knownAccount{key: key, url: account.URL}, nil
}

// storedAccount returns the account in the Store; if there is none, a key is
// made and written first.
func (e *Engine) storedAccount(ctx context.Context, ca string) (a *record.Account, v store.Version, created bool, err error) {
	const tries = 3 // another process may write its own key first
	for range tries {
		a, v, err = e.records.Account(ctx, ca, record.DefaultAccount)
		v, err = orAside(v, err, func(b *record.BrokenError) error {
			e.log.Error("the account is broken; a copy is kept in the archive and another is registered", "error", b)
			return e.records.SetAsideAccount(ctx, ca, b)
		})
		if a != nil || err != nil {
			return a, v, false, err
		}
		if a, v, err = e.createAccount(ctx, ca, v); !errors.Is(err, store.ErrConflict) {
			return a, v, err == nil, err
		}
	}
	return nil, store.None, false, err
}

func (e *Engine) createAccount(ctx context.Context, ca string, old store.Version) (*record.Account, store.Version, error) {
	key, err := e.newKey(ctx, accountKeyType)
	if err != nil {
		return nil, store.None, fmt.Errorf("generating the account key: %w", err)
	}
	a, err := record.NewAccount(key)
	if err != nil {
		return nil, store.None, err
	}
	v, err := e.records.PutAccount(ctx, ca, record.DefaultAccount, a, old)
	return a, v, err
}

// register asks the CA for the account of a key, which it may know already
// unless the key has just been created.
func (e *Engine) register(ctx context.Context, client *acmeclient.Client, key crypto.Signer, def *Domain, created bool) (acmeclient.Account, error) {
	if !created {
		account, err := client.Lookup(ctx, key)
		if !errors.Is(err, acmeclient.ErrNoAccount) {
			return account, err
		}
	}
	account, err := client.Register(ctx, key, def.Contacts, e.cfg.AcceptTerms)
	if err == nil {
		e.log.Info("account registered", "account", account.URL, "ca", caName(client.CA()))
	}
	return account, err
}

// replaceAccount gives the account another key: the CA has closed the one of
// the old key for good.
func (e *Engine) replaceAccount(ctx context.Context, ca string, v store.Version) error {
	e.log.Error("the CA has closed the account; the next attempt registers another", "ca", ca)
	_, _, err := e.createAccount(ctx, ca, v)
	return err
}

// accountGone reports whether the CA has said that it does not know the
// account.
func (is *acmeIssuer) accountGone(err error) bool {
	var p *acmeclient.Problem
	return errors.As(err, &p) && strings.EqualFold(p.Kind(), "accountDoesNotExist")
}

// reopen takes the URL from the stored account, if it is still the one that
// the CA does not know, and opens another session: its key is looked up at
// the CA, and registered again.
func (is *acmeIssuer) reopen(ctx context.Context) error {
	ca := is.ca.URL
	is.log.Warn("the CA does not know the account; it is registered again", "account", is.account.url)
	is.e.mu.Lock()
	delete(is.e.known, ca)
	is.e.mu.Unlock()
	a, v, err := is.e.records.Account(ctx, ca, record.DefaultAccount)
	if err != nil {
		return err
	}
	if a.URL == is.account.url {
		a.URL = ""
		_, err := is.e.records.PutAccount(ctx, ca, record.DefaultAccount, a, v)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	is.session = nil
	return is.open(ctx)
}
