package engine

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// accountKeyType is the type of account keys: small signatures, and every CA
// takes it.
const accountKeyType = acmeclient.P256

// accountRef names an account: by the CA's directory URL, and by what tells
// it from others at that CA.
type accountRef struct{ ca, id string }

// flight is the name of one kind of work on an account, for singleflight.
func (r accountRef) flight(what string) string { return what + " " + r.id + " " + r.ca }

// refOf names the account of a CA. One whose EAB could not be read has none,
// and is asked nothing: the id that it gets here is nobody's.
func refOf(ca acmeclient.CA) accountRef {
	id, err := ca.AccountID()
	if err != nil {
		id = "unknown"
	}
	return accountRef{ca: ca.URL, id: id}
}

// An eabError says that the EAB of a CA could not be read from its file.
type eabError struct{ err error }

func (e *eabError) Error() string { return e.err.Error() }

func (e *eabError) Unwrap() error { return e.err }

// readEAB returns the CA with its EAB, read anew: the file may be another one
// by now.
func readEAB(ctx context.Context, ca acmeclient.CA) (acmeclient.CA, error) {
	read, err := ca.ReadEAB(ctx)
	if err != nil {
		return ca, &eabError{err}
	}
	return read, nil
}

// knownAccount is an account that a CA has confirmed.
type knownAccount struct {
	ref           accountRef
	key           crypto.Signer
	url           string
	contacts      []string // as the CA was told them last
	contactsTried time.Time
}

// is reports whether it has the same URL and key as another.
func (k knownAccount) is(other knownAccount) bool {
	return k.url == other.url && sameKey(k.key, other.key)
}

func sameKey(a, b crypto.Signer) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	pub, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(b.Public())
}

// accountAt returns the account at a CA, which all Domains with the same
// directory URL and EAB share. It is registered by the first that needs it.
// It is read each time: another process may have changed it.
func (e *Engine) accountAt(ctx context.Context, client *acmeclient.Client, contacts []string) (knownAccount, error) {
	ref := refOf(client.CA())
	for {
		account, version, err := e.records.Account(ctx, ref.ca, ref.id)
		if err == nil && account.URL != "" {
			return e.inForce(ctx, client, ref, account, version)
		}
		err = together(ctx, &e.accounts, ref.flight("register"), func() error {
			return e.ensureAccount(ctx, client, ref, contacts)
		})
		if err != nil {
			return knownAccount{}, err
		}
	}
}

// together does what several attempts need at one moment once for all of them.
// If it fails because the time of the one that does it is over, be it that it
// was stopped, took too long or has lost its lease, another one does it.
func together(ctx context.Context, group *singleflight.Group, what string, do func() error) error {
	for {
		abandoned, err, _ := group.Do(what, func() (any, error) {
			err := do()
			return err != nil && ctx.Err() != nil, err
		})
		if abandoned != true || ctx.Err() != nil {
			return err
		}
	}
}

// inForce returns a registered account with the key that it has at the CA:
// where a change of keys was cut off, the CA is asked which.
func (e *Engine) inForce(ctx context.Context, client *acmeclient.Client, ref accountRef, a *record.Account, v store.Version) (knownAccount, error) {
	e.recollect(ref, a)
	known := knownAccount{ref: ref, url: a.URL, contacts: a.Contacts, contactsTried: a.ContactsTried}
	keys, err := keysOf(client.CA(), a)
	if err != nil {
		return knownAccount{}, err
	}
	known.key = keys[0]
	if len(keys) == 1 {
		return known, nil
	}
	key, err := client.KeyOf(ctx, a.URL, keys...)
	if errors.Is(err, acmeclient.ErrNoAccount) || errors.Is(err, acmeclient.ErrAccountClosed) {
		return known, nil // who uses it finds out, and what to do then
	}
	if err != nil || sameKey(key, keys[0]) {
		return known, err
	}
	known.key = key
	return known, e.promote(ctx, ref, a, v)
}

// recollect keeps an account in memory, as it was read: it is put back if the
// Store loses it. With nil it is forgotten.
func (e *Engine) recollect(ref accountRef, a *record.Account) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a == nil {
		delete(e.known, ref)
		return
	}
	kept := *a
	e.known[ref] = &kept
}

// promote writes down that the candidate is the account's key by now.
func (e *Engine) promote(ctx context.Context, ref accountRef, a *record.Account, v store.Version) error {
	a.Promote()
	_, err := e.records.PutAccount(ctx, ref.ca, ref.id, a, v)
	if errors.Is(err, store.ErrConflict) {
		return nil // another process has written that, or the next one will
	}
	if err == nil {
		e.log.Info("the account has another key", "account", a.URL)
	}
	return err
}

// keysOf returns the keys that an account may have, the one that it had first.
func keysOf(ca acmeclient.CA, a *record.Account) ([]crypto.Signer, error) {
	if ca.AccountKey != nil {
		return []crypto.Signer{ca.AccountKey}, nil
	}
	key, err := a.Signer()
	if err != nil {
		return nil, err
	}
	candidate, err := a.CandidateSigner()
	if err != nil || candidate == nil {
		return []crypto.Signer{key}, err
	}
	return []crypto.Signer{key, candidate}, nil
}

// ensureAccount makes sure that the Store has a registered account. Its key
// is written before the CA hears of it and its URL after: a key without URL is
// looked up first, so that no account is registered twice, also not by
// another process or after a crash. What binds an account is often good for
// one only.
func (e *Engine) ensureAccount(ctx context.Context, client *acmeclient.Client, ref accountRef, contacts []string) error {
	const tries = 3 // the key may be one that the CA has closed
	for range tries {
		account, version, created, err := e.storedAccount(ctx, client.CA(), ref)
		if err != nil || account.URL != "" {
			return err
		}
		if !created {
			err = e.lookUp(ctx, client, account)
		}
		if errors.Is(err, acmeclient.ErrAccountClosed) {
			if err = e.replaceAccount(ctx, client.CA(), ref, account, version, err); err == nil {
				continue
			}
		}
		if err == nil && account.URL == "" {
			err = e.register(ctx, client, account, contacts)
		}
		if err != nil {
			return err
		}
		_, err = e.records.PutAccount(ctx, ref.ca, ref.id, account, version)
		if errors.Is(err, store.ErrConflict) {
			return nil // another process has registered the same key
		}
		return err
	}
	return fmt.Errorf("the CA closes every account at once: %w", acmeclient.ErrAccountClosed)
}

// storedAccount returns the account in the Store; if there is none, the one
// that was there is put back, or a key is made and written first.
func (e *Engine) storedAccount(ctx context.Context, ca acmeclient.CA, ref accountRef) (a *record.Account, v store.Version, created bool, err error) {
	const tries = 3 // another process may write its own key first
	for range tries {
		a, v, err = e.records.Account(ctx, ref.ca, ref.id)
		v, err = orAside(v, err, func(b *record.BrokenError) error {
			e.log.Error("the account is broken; a copy is kept in the archive and another is registered", "error", b)
			return e.records.SetAsideAccount(ctx, ref.ca, b)
		})
		if a != nil || err != nil {
			return a, v, false, err
		}
		e.mu.Lock()
		lost := e.known[ref]
		e.mu.Unlock()
		if lost != nil {
			a = lost
			if v, err = e.records.PutAccount(ctx, ref.ca, ref.id, a, v); !errors.Is(err, store.ErrConflict) {
				return a, v, false, err
			}
			continue
		}
		if a, v, err = e.createAccount(ctx, ca, ref, v); !errors.Is(err, store.ErrConflict) {
			return a, v, err == nil && !a.KeyElsewhere, err // the CA may know a key that was brought
		}
	}
	return nil, store.None, false, err
}

// createAccount writes an account that is not registered yet.
func (e *Engine) createAccount(ctx context.Context, ca acmeclient.CA, ref accountRef, old store.Version) (*record.Account, store.Version, error) {
	a := &record.Account{KeyElsewhere: true}
	if ca.AccountKey == nil {
		key, err := e.newKey(ctx, accountKeyType)
		if err != nil {
			return nil, store.None, fmt.Errorf("generating the account key: %w", err)
		}
		if a, err = record.NewAccount(key); err != nil {
			return nil, store.None, err
		}
	}
	v, err := e.records.PutAccount(ctx, ref.ca, ref.id, a, old)
	return a, v, err
}

// lookUp asks the CA for the account of a key, and gives it its URL. That it
// has none is no error.
func (e *Engine) lookUp(ctx context.Context, client *acmeclient.Client, a *record.Account) error {
	keys, err := keysOf(client.CA(), a)
	if err != nil {
		return err
	}
	for i, key := range keys {
		found, err := client.Lookup(ctx, key)
		if errors.Is(err, acmeclient.ErrNoAccount) {
			continue
		}
		if err != nil {
			return err
		}
		if a.URL = found.URL; i > 0 {
			a.Promote()
		}
		return nil
	}
	return nil
}

// register registers the account at the CA.
func (e *Engine) register(ctx context.Context, client *acmeclient.Client, a *record.Account, contacts []string) error {
	keys, err := keysOf(client.CA(), a)
	if err != nil {
		return err
	}
	registered, err := client.Register(ctx, keys[0], contacts, e.cfg.AcceptTerms)
	if err != nil {
		return err
	}
	a.URL, a.Contacts, a.Candidate = registered.URL, contacts, nil
	e.log.Info("account registered", "account", a.URL, "ca", caName(client.CA()))
	return nil
}

// replaceAccount gives the account another key: the CA has closed the one of
// the old key for good, which goes to the archive.
func (e *Engine) replaceAccount(ctx context.Context, ca acmeclient.CA, ref accountRef, a *record.Account, v store.Version, why error) error {
	if ca.AccountKey != nil {
		return fmt.Errorf("%w; the CA needs another AccountKey", why)
	}
	e.log.Error("the CA has closed the account; another is registered", "ca", caName(ca), "error", why)
	if err := e.records.KeepAccount(ctx, ref.ca, ref.id, a); err != nil {
		return err
	}
	_, _, err := e.createAccount(ctx, ca, ref, v)
	if errors.Is(err, store.ErrConflict) {
		return nil // another process was faster
	}
	return err
}

// accountWith returns the account with a URL at one of the Domain's CAs, be it
// the one in use there or a former one, and a client for it.
func (e *Engine) accountWith(ctx context.Context, def *Domain, ca, url string) (*acmeclient.Client, knownAccount, error) {
	client, err := e.clientAt(def, ca)
	if err != nil {
		return nil, knownAccount{}, err
	}
	id, err := e.records.AccountByURL(ctx, ca, url)
	if err != nil {
		return client, knownAccount{}, err
	}
	ref := accountRef{ca: ca, id: id}
	account, version, err := e.records.Account(ctx, ref.ca, ref.id)
	if err != nil {
		return client, knownAccount{}, err
	}
	if account.KeyElsewhere && refOf(client.CA()) != ref {
		return client, knownAccount{}, fmt.Errorf("the account %.200q has an AccountKey that is not configured any more", url)
	}
	if !account.KeyElsewhere && client.CA().AccountKey != nil {
		keyless := client.CA()
		keyless.AccountKey = nil
		if client, err = e.client(keyless); err != nil {
			return nil, knownAccount{}, err
		}
	}
	known, err := e.inForce(ctx, client, ref, account, version)
	return client, known, err
}

// reopen finds out what became of the account that the CA has refused, and
// opens another session: with what another process has made of it; with
// another URL, or registered again, if the CA has forgotten it; with another
// key, if it is closed. It reports false if the account is as it was.
func (is *acmeIssuer) reopen(ctx context.Context, refused error) (changed bool, err error) {
	former := is.account
	a, v, err := is.e.records.Account(ctx, former.ref.ca, former.ref.id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*record.BrokenError)) {
		return false, err
	}
	ours := err == nil && is.isOurs(a)
	if ours && !is.accountGone(refused) {
		if refused = is.unknownKey(ctx); refused == nil {
			return false, nil
		}
	}
	if ours {
		is.log.Warn("the CA does not know the account, or has closed it; it is looked up", "account", former.url, "error", refused)
		a.URL = ""
		if _, err := is.e.records.PutAccount(ctx, former.ref.ca, former.ref.id, a, v); err != nil && !errors.Is(err, store.ErrConflict) {
			return false, err
		}
	}
	is.session = nil
	if err := is.open(ctx); err != nil {
		return false, err
	}
	// One that is registered again may look like the one that was forgotten.
	return errors.Is(refused, acmeclient.ErrNoAccount) || !is.account.is(former), nil
}

// isOurs reports whether an account is the one of the session, and may have
// its key.
func (is *acmeIssuer) isOurs(a *record.Account) bool {
	keys, err := keysOf(is.ca, a)
	return err == nil && a.URL == is.account.url && containsKey(keys, is.account.key)
}

// unknownKey returns an error if the CA knows no account with the session's
// key: it was changed elsewhere, and the Store does not know that.
func (is *acmeIssuer) unknownKey(ctx context.Context) error {
	client, err := is.e.client(is.ca)
	if err != nil {
		return nil
	}
	if _, err = client.Lookup(ctx, is.account.key); errors.Is(err, acmeclient.ErrNoAccount) {
		return err
	}
	return nil
}

// accountGone reports whether the CA has said that it does not know the
// account, or that it is closed.
func (is *acmeIssuer) accountGone(err error) bool {
	return errors.Is(err, acmeclient.ErrNoAccount) || errors.Is(err, acmeclient.ErrAccountClosed)
}
