package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// ErrTaken says that what was to be taken over from somewhere else is there
// already.
var ErrTaken = errors.New("there is one already")

// Domains returns the Domains that are declared, in the order of their names.
func (e *Engine) Domains() []*Domain {
	e.mu.Lock()
	defer e.mu.Unlock()
	var defs []*Domain
	for _, d := range slices.SortedFunc(maps.Values(e.domains), byName) {
		defs = append(defs, d.def)
	}
	return defs
}

// Import makes certificates from somewhere else the active ones of a Domain
// that has none, and has them served. The error is ErrTaken if it has some.
func (e *Engine) Import(ctx context.Context, name string, set *record.Set) error {
	e.mu.Lock()
	d := e.domains[name]
	e.mu.Unlock()
	if d == nil {
		return fmt.Errorf("%w: %s", ErrNotManaged, name)
	}
	if err := e.loadOne(ctx, d); err != nil {
		return err
	}
	e.mu.Lock()
	def, version := d.def, d.version
	e.mu.Unlock()
	if version != store.None {
		return ErrTaken
	}
	for i := range set.Credentials {
		if err := checkCredential(&set.Credentials[i], def.Names, e.now()); err != nil {
			return err
		}
	}
	_, err := e.records.Adopt(ctx, name, set, store.None)
	if errors.Is(err, store.ErrConflict) {
		return ErrTaken
	}
	if err != nil {
		return err
	}
	e.reread(ctx, d)
	return nil
}

// ImportAccount keeps an account from somewhere else as the one at a CA, given
// by its directory URL. The error is ErrTaken if there is one.
func (e *Engine) ImportAccount(ctx context.Context, ca string, account *record.Account) error {
	id, err := e.accountIDAt(ctx, ca)
	if err != nil {
		return err
	}
	_, err = e.records.PutAccount(ctx, ca, id, account, store.None)
	if errors.Is(err, store.ErrConflict) {
		return ErrTaken
	}
	return err
}

// accountIDAt is the id of the account that the Domains use at a CA.
func (e *Engine) accountIDAt(ctx context.Context, url string) (string, error) {
	for _, def := range e.Domains() {
		i := slices.IndexFunc(def.CAs, func(ca acmeclient.CA) bool { return ca.URL == url })
		if i < 0 {
			continue
		}
		ca, err := def.CAs[i].ReadEAB(ctx)
		if err != nil {
			return "", err
		}
		if ca.AccountKey != nil {
			return "", fmt.Errorf("%w: the AccountKey's", ErrTaken)
		}
		return ca.AccountID()
	}
	return record.DefaultAccount, nil
}
