package engine

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// ErrNoAccount says that there is no account at a CA that could be worked on.
var ErrNoAccount = errors.New("there is no account at the CA")

// accountWork is work on one account that somebody has asked for.
type accountWork struct {
	e      *Engine
	client *acmeclient.Client
	ca     acmeclient.CA
	ref    accountRef
}

// onAccount does work on the account of a CA, under its lease: no two
// processes do that at once.
func (e *Engine) onAccount(ctx context.Context, ca acmeclient.CA, work func(ctx context.Context, w accountWork) error) error {
	e.adopt(ctx)
	w, err := e.accountWork(ctx, ca)
	if err != nil {
		return err
	}
	lease, err := e.leases().Acquire(ctx, record.AccountLeaseKey(w.ref.ca, w.ref.id))
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.hookGrace())
		defer cancel()
		if err := lease.Release(ctx); err != nil {
			e.log.Warn("releasing the lease on the account failed; it ends by itself", "error", err)
		}
	}()
	return work(lease.Context(), w)
}

func (e *Engine) accountWork(ctx context.Context, ca acmeclient.CA) (accountWork, error) {
	if ca.Protocol != acmeclient.ACME {
		return accountWork{}, fmt.Errorf("%w %s: it does not speak ACME", ErrNoAccount, caName(ca))
	}
	ca, err := readEAB(ctx, ca)
	if err != nil {
		return accountWork{}, err
	}
	client, err := e.client(ca)
	return accountWork{e: e, client: client, ca: ca, ref: refOf(ca)}, err
}

// read returns the account in the Store.
func (w accountWork) read(ctx context.Context) (*record.Account, store.Version, error) {
	a, v, err := w.e.records.Account(ctx, w.ref.ca, w.ref.id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.None, fmt.Errorf("%w %s: none is kept in the Store", ErrNoAccount, caName(w.ca))
	}
	return a, v, err
}

// registered returns an account that the CA knows, and its URL.
func (w accountWork) registered(ctx context.Context) (*record.Account, store.Version, error) {
	a, v, err := w.read(ctx)
	if err != nil || a.URL != "" {
		return a, v, err
	}
	if err := w.e.lookUp(ctx, w.client, a); err != nil {
		return nil, store.None, err
	}
	if a.URL == "" {
		return nil, store.None, fmt.Errorf("%w %s: it is not registered yet", ErrNoAccount, caName(w.ca))
	}
	v, err = w.e.records.PutAccount(ctx, w.ref.ca, w.ref.id, a, v)
	return a, v, err
}

// RollAccountKey gives the account at a CA another key. That is kept in the
// Store, beside the one in use, before the CA hears of it: if the change is cut
// off, the next who needs the account asks the CA which of the two it has, and
// the next change goes on with the same key.
func (e *Engine) RollAccountKey(ctx context.Context, ca acmeclient.CA) error {
	if ca.AccountKey != nil {
		return fmt.Errorf("%w: the key of the account is its AccountKey, which is not kept here", errors.ErrUnsupported)
	}
	if known, ok := ca.Known(); ok && known.NoKeyChange {
		return fmt.Errorf("%w: the CA %s does not let an account change its key", errors.ErrUnsupported, caName(ca))
	}
	return e.onAccount(ctx, ca, func(ctx context.Context, w accountWork) error { return w.roll(ctx) })
}

func (w accountWork) roll(ctx context.Context) error {
	a, v, err := w.registered(ctx)
	if err != nil {
		return err
	}
	if a.Candidate != nil {
		known, err := w.e.inForce(ctx, w.client, w.ref, a, v)
		if err != nil || a.Candidate == nil { // it was promoted
			return err
		}
		return w.changeKey(ctx, a, v, known.key)
	}
	old, err := a.Signer()
	if err != nil {
		return err
	}
	key, err := w.e.newKey(ctx, accountKeyType)
	if err != nil {
		return fmt.Errorf("generating the account key: %w", err)
	}
	if err := a.SetCandidate(key); err != nil {
		return err
	}
	if v, err = w.e.records.PutAccount(ctx, w.ref.ca, w.ref.id, a, v); err != nil {
		return err
	}
	return w.changeKey(ctx, a, v, old)
}

// changeKey has the CA put the candidate in the place of the key.
func (w accountWork) changeKey(ctx context.Context, a *record.Account, v store.Version, old crypto.Signer) error {
	candidate, err := a.CandidateSigner()
	if err != nil {
		return err
	}
	if err := w.client.Session(old, a.URL).ChangeKey(ctx, candidate); err != nil {
		return err
	}
	// What has happened is written down even if ctx has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.e.hookGrace())
	defer cancel()
	if err := w.e.promote(ctx, w.ref, a, v); err != nil {
		return fmt.Errorf("the account has another key, which could not be written down yet; the next order does it: %w", err)
	}
	return nil
}

// DeactivateAccount closes the account at a CA for good, and forgets it. The
// next order registers another.
func (e *Engine) DeactivateAccount(ctx context.Context, ca acmeclient.CA) error {
	return e.onAccount(ctx, ca, func(ctx context.Context, w accountWork) error { return w.deactivate(ctx) })
}

func (w accountWork) deactivate(ctx context.Context) error {
	a, v, err := w.registered(ctx)
	if errors.Is(err, acmeclient.ErrAccountClosed) { // a former call got this far
		return w.forget(ctx)
	}
	if err != nil {
		return err
	}
	known, err := w.e.inForce(ctx, w.client, w.ref, a, v)
	if err != nil {
		return err
	}
	err = w.client.Session(known.key, known.url).Deactivate(ctx)
	if err != nil && !errors.Is(err, acmeclient.ErrNoAccount) {
		return err
	}
	w.e.log.Info("account deactivated", "account", known.url, "ca", caName(w.ca))
	return w.forget(ctx, known)
}

// forget removes the account from the Store, unless it is another by now than
// the one that was closed.
func (w accountWork) forget(ctx context.Context, closed ...knownAccount) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.e.hookGrace())
	defer cancel()
	w.e.recollect(w.ref, nil)
	const tries = 5 // somebody may be about to find out that it is closed
	var err error
	for range tries {
		a, v, readErr := w.read(ctx)
		if errors.Is(readErr, ErrNoAccount) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
		for _, known := range closed {
			keys, err := keysOf(w.ca, a)
			if err != nil || a.URL != "" && a.URL != known.url || !containsKey(keys, known.key) {
				return err
			}
		}
		if err = w.e.records.DeleteAccount(ctx, w.ref.ca, w.ref.id, v); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func containsKey(keys []crypto.Signer, key crypto.Signer) bool {
	for _, k := range keys {
		if sameKey(k, key) {
			return true
		}
	}
	return false
}

// ExportAccount returns the account at a CA, with its private key, as PEM.
func (e *Engine) ExportAccount(ctx context.Context, ca acmeclient.CA) ([]byte, error) {
	e.adopt(ctx)
	w, err := e.accountWork(ctx, ca)
	if err != nil {
		return nil, err
	}
	a, _, err := w.read(ctx)
	if err != nil {
		return nil, err
	}
	if a.KeyElsewhere {
		return nil, fmt.Errorf("%w: the key of the account is its AccountKey, which is not kept here", errors.ErrUnsupported)
	}
	a.CA = ca.URL
	return a.Encode()
}

// TakeAccount keeps an account, as ExportAccount has returned it or a private
// key in PEM, as the one at a CA. The CA is not asked. If there is another, the
// error is ErrTaken unless that is to be replaced; it goes to the archive then.
func (e *Engine) TakeAccount(ctx context.Context, ca acmeclient.CA, text []byte, replace bool) error {
	if ca.AccountKey != nil {
		return fmt.Errorf("%w: the key of the account is its AccountKey", ErrTaken)
	}
	a, err := record.ParseAccount(text)
	if err != nil {
		return fmt.Errorf("the account cannot be read: %w", err)
	}
	if a.CA != "" && a.CA != ca.URL {
		return fmt.Errorf("the account is one at %.200q, not at %s", a.CA, ca.URL)
	}
	a.CA = ""
	return e.onAccount(ctx, ca, func(ctx context.Context, w accountWork) error { return w.take(ctx, a, replace) })
}

func (w accountWork) take(ctx context.Context, a *record.Account, replace bool) error {
	former, v, err := w.e.records.Account(ctx, w.ref.ca, w.ref.id)
	broken := errors.As(err, new(*record.BrokenError))
	if broken && !replace {
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	v, err = orAside(v, err, func(b *record.BrokenError) error { return w.e.records.SetAsideAccount(ctx, w.ref.ca, b) })
	if err != nil {
		return err
	}
	if former != nil {
		if former.Equal(a) {
			return nil
		}
		if !replace {
			return fmt.Errorf("%w: the account %q", ErrTaken, former.URL)
		}
		if err := w.e.records.KeepAccount(ctx, w.ref.ca, w.ref.id, former); err != nil {
			return err
		}
	}
	_, err = w.e.records.PutAccount(ctx, w.ref.ca, w.ref.id, a, v)
	return err
}
