package engine

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// externalKey is a key that does not leave the place where it is kept.
type externalKey interface {
	KeyReference() (provider, id string)
}

// makeKey returns a credential that has a key for a new certificate, and
// nothing else: another key than before, unless the Domain wants to go on with
// it, and it need not be feared that it is known to others.
func (is *acmeIssuer) makeKey(ctx context.Context, t acmeclient.KeyType) (record.Credential, error) {
	var none record.Credential
	if c := is.active.Credential(string(t)); c != nil && is.def.ReuseKey && !is.keySuspect(c) {
		_, err := is.e.signer(ctx, is.d, c) // before anything is ordered
		if err == nil {
			return record.Credential{Key: c.Key, Reference: c.Reference}, nil
		}
		if !errors.Is(err, errKeyGone) {
			return none, err
		}
		is.log.Warn("the key of the certificate cannot be used again; making another", "error", err)
	}
	is.step("generating the key")
	if is.def.Keys.New != nil {
		return is.newDomainKey(ctx, t)
	}
	key, err := is.e.newKey(ctx, t)
	if err != nil {
		return none, fmt.Errorf("generating a %s key: %w", t, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, fmt.Errorf("encoding the key: %w", err)
	}
	return record.Credential{Key: der}, nil
}

// newDomainKey has the Domain make a key. One that is kept elsewhere is taken
// for all orders until a certificate has come for it: failures leave no keys
// behind there that nobody needs.
func (is *acmeIssuer) newDomainKey(ctx context.Context, t acmeclient.KeyType) (record.Credential, error) {
	var none, cred record.Credential
	is.e.mu.Lock()
	ref := is.d.spare[t]
	is.e.mu.Unlock()
	if ref != nil {
		return record.Credential{Reference: ref}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, newKeyLimit, errSlowNew)
	defer cancel()
	var key crypto.Signer
	err := is.e.hook(ctx, "NewKey of "+is.def.Name, func(ctx context.Context) error {
		made, err := is.def.Keys.New(ctx, t)
		if err != nil {
			return err
		}
		c, err := credentialFor(made, t)
		key, cred = made, c
		return err
	})
	if err != nil {
		return none, fmt.Errorf("NewKey for a %s key: %w", t, err)
	}
	if cred.Reference != nil {
		is.e.keepKey(is.d, cred.Reference, key)
		is.e.mu.Lock()
		defer is.e.mu.Unlock()
		if is.d.spare == nil {
			is.d.spare = make(map[acmeclient.KeyType]*record.KeyReference)
		}
		is.d.spare[t] = cred.Reference
	}
	return cred, nil
}

var errSlowNew = fmt.Errorf("it was not made within %v", newKeyLimit)

// keyUsed notes that the key of a credential is not for another order.
func (a *attempt) keyUsed(c *record.Credential) {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	t := acmeclient.KeyType(c.KeyType)
	if ref := a.d.spare[t]; ref != nil && c.Reference != nil && nameOfKey(ref) == nameOfKey(c.Reference) {
		delete(a.d.spare, t)
	}
}

// credentialFor makes a credential of a key that NewKey has returned.
func credentialFor(key crypto.Signer, t acmeclient.KeyType) (record.Credential, error) {
	var none record.Credential
	if key == nil {
		return none, errors.New("it returned neither a key nor an error")
	}
	if acmeclient.KeyTypeOf(key.Public()) != t {
		return none, fmt.Errorf("a %s key was asked for, and it returned one of type %s", t, typeOfKey(key))
	}
	if kept, ok := key.(externalKey); ok {
		provider, id := kept.KeyReference()
		ref, err := record.NewKeyReference(provider, id, key.Public())
		if err != nil {
			return none, fmt.Errorf("the KeyReference of what it returned cannot be kept: %w", err)
		}
		return record.Credential{Reference: ref}, nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, fmt.Errorf("it returned a %T, which is neither a private key of the standard library, to be kept in the Store, nor has it a method KeyReference", key)
	}
	return record.Credential{Key: der}, nil
}
