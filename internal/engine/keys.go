package engine

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// Keys are a Domain's way to private keys that are made, and maybe kept,
// elsewhere.
type Keys struct {
	// New makes a key; nil: they are generated and kept in the Store.
	New func(ctx context.Context, t acmeclient.KeyType) (crypto.Signer, error)
	// Open finds one again that New has made, here or in another process. The
	// error is fs.ErrNotExist if it is gone for good.
	Open func(ctx context.Context, provider, id string) (crypto.Signer, error)
}

// What calls of Keys, and of what they return, may take.
const (
	newKeyLimit   = time.Minute      // an HSM takes that long for a large RSA key
	openKeyLimit  = 10 * time.Second // one key
	openKeysLimit = 30 * time.Second // all those of a Load
	signLimit     = 30 * time.Second
)

// errKeyGone says of a key that it will never be there again: what was issued
// for it is of no use.
var errKeyGone = errors.New("the key is gone")

// A keyError says that a key is out of reach for now. The certificates that
// need it are as good as before: none is ordered in their place, and none of
// them is thrown away.
type keyError struct {
	ref *record.KeyReference
	err error
}

func (e *keyError) Error() string { return fmt.Sprintf("the %s cannot be opened: %v", e.ref, e.err) }

func (e *keyError) Unwrap() error { return e.err }

// keyName identifies a key among those of a Domain.
type keyName struct{ provider, id string }

func nameOfKey(ref *record.KeyReference) keyName { return keyName{ref.Provider, ref.ID} }

// signer returns the private key of a credential of d; if d is nil, nobody can
// open it.
func (e *Engine) signer(ctx context.Context, d *domain, c *record.Credential) (crypto.Signer, error) {
	if c.Reference == nil {
		return c.Signer()
	}
	if d == nil {
		return nil, &keyError{c.Reference, errors.New("its Domain is not declared")}
	}
	e.mu.Lock()
	key := d.keys[nameOfKey(c.Reference)]
	e.mu.Unlock()
	if key != nil && c.Reference.Is(key.Public()) {
		return key, nil
	}
	key, err := e.openKey(ctx, d, c.Reference)
	if err != nil {
		return nil, err
	}
	e.keepKey(d, c.Reference, key)
	return key, nil
}

// openKey asks the Domain for the key that ref names.
func (e *Engine) openKey(ctx context.Context, d *domain, ref *record.KeyReference) (crypto.Signer, error) {
	e.mu.Lock()
	def := d.def
	recalled := d.onDemand != nil && !d.onDemand.askAt.IsZero() // OnDemand may know more than Recall
	e.mu.Unlock()
	switch {
	case def.Keys.Open == nil && recalled:
		return nil, &keyError{ref, errors.New("the Domain, which was allowed on demand, has no OpenKey: set it in Manager.Default")}
	case def.Keys.Open == nil:
		return nil, fmt.Errorf("%w: the Domain has no OpenKey for the %s", errKeyGone, ref)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, openKeyLimit, errSlowKey)
	defer cancel()
	var opened crypto.Signer
	err := e.hook(ctx, fmt.Sprintf("OpenKey of %s for the %s", def.Name, ref), func(ctx context.Context) error {
		key, err := def.Keys.Open(ctx, ref.Provider, ref.ID)
		switch {
		case err != nil:
			return err
		case key == nil:
			return errors.New("OpenKey returned neither a key nor an error")
		case !ref.Is(key.Public()):
			return fmt.Errorf("OpenKey returned another key, of type %s: a reference must stand for one key for ever, and not for the last version of it", typeOfKey(key))
		}
		opened = key
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Only here does that error speak of a key.
		return nil, fmt.Errorf("%w: %s: %v", errKeyGone, ref, err)
	case err != nil:
		return nil, &keyError{ref, err}
	}
	return opened, nil
}

var errSlowKey = fmt.Errorf("it was not there within %v", openKeyLimit)

// typeOfKey names the type of a key for people.
func typeOfKey(key crypto.Signer) string {
	if t := acmeclient.KeyTypeOf(key.Public()); t != "" {
		return string(t)
	}
	return fmt.Sprintf("%T (its public key is a %T)", key, key.Public())
}

func (e *Engine) keepKey(d *domain, ref *record.KeyReference, key crypto.Signer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.keys == nil {
		d.keys = make(map[keyName]crypto.Signer)
	}
	d.keys[nameOfKey(ref)] = key
}

// dropKeys forgets the keys that neither set nor an order to come needs. e.mu
// is held.
func (d *domain) dropKeys(set *record.Set) {
	needed := make(map[keyName]bool)
	for i := range set.Credentials {
		if ref := set.Credentials[i].Reference; ref != nil {
			needed[nameOfKey(ref)] = true
		}
	}
	for _, ref := range d.spare {
		needed[nameOfKey(ref)] = true
	}
	for name := range d.keys {
		if !needed[name] {
			delete(d.keys, name)
		}
	}
}

// signer returns the private key of a credential for the attempt. One that is
// kept elsewhere cannot keep the attempt from ending.
func (a *attempt) signer(ctx context.Context, c *record.Credential) (crypto.Signer, error) {
	key, err := a.e.signer(ctx, a.d, c)
	if err != nil || c.Reference == nil {
		return key, err
	}
	return &patientKey{e: a.e, ctx: ctx, what: fmt.Sprintf("signing for %s with the %s", a.def.Name, c.Reference), key: key, public: key.Public()}, nil
}

// patientKey is a key that is kept elsewhere, with a deadline for each
// signature, which crypto.Signer has no context for.
type patientKey struct {
	e      *Engine
	ctx    context.Context
	what   string
	key    crypto.Signer
	public crypto.PublicKey
}

func (k *patientKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (k *patientKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(k.ctx, signLimit, errSlowSign)
	defer cancel()
	var signature []byte
	err := k.e.hook(ctx, k.what, func(context.Context) error {
		made, err := k.key.Sign(rand, digest, opts)
		signature = made
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.what, err)
	}
	return signature, nil
}

var errSlowSign = fmt.Errorf("it was not signed within %v", signLimit)

// openKeys opens the keys of a staged Set, before it takes the place of one
// that is served. A key that is gone makes it unfit.
func (a *attempt) openKeys(ctx context.Context, staged *record.Set) error {
	err := a.canOpen(ctx, staged)
	if !errors.Is(err, errKeyGone) {
		return err
	}
	err = fmt.Errorf("%w: %w", errUnfit, err)
	if dropErr := a.dropStaged(ctx, staged, err); !errors.Is(dropErr, errDropped) {
		return dropErr
	}
	return err
}

// canOpen opens the keys of set that are kept elsewhere.
func (a *attempt) canOpen(ctx context.Context, set *record.Set) error {
	for i := range set.Credentials {
		if c := &set.Credentials[i]; c.Reference != nil {
			if _, err := a.e.signer(ctx, a.d, c); err != nil {
				return err
			}
		}
	}
	return nil
}
