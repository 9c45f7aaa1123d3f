package md_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io/fs"
	"sync"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store"
)

// vault stands for a KMS or an HSM: keys do not leave it. They are named by
// numbers here.
type vault struct {
	mu   sync.Mutex // guards keys
	keys []crypto.Signer
}

// vaultKey is a key in a vault.
type vaultKey struct {
	crypto.Signer
	id string
}

// KeyReference makes it an md.ExternalKey.
func (k vaultKey) KeyReference() (provider, id string) { return "vault", k.id }

// NewKey is for md.Domain.NewKey.
func (v *vault) NewKey(_ context.Context, t md.KeyType) (crypto.Signer, error) {
	if t != md.P256 {
		return nil, fmt.Errorf("the vault makes no %s keys", t)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = append(v.keys, key)
	return vaultKey{key, fmt.Sprint(len(v.keys))}, nil
}

// OpenKey is for md.Domain.OpenKey.
func (v *vault) OpenKey(_ context.Context, provider, id string) (crypto.Signer, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, key := range v.keys {
		if provider == "vault" && id == fmt.Sprint(i+1) {
			return vaultKey{key, id}, nil
		}
	}
	return nil, fmt.Errorf("the vault has no key %q any more: %w", id, fs.ErrNotExist)
}

// Keys that stay in a KMS or an HSM. The Store remembers which one belongs to
// a certificate, and what serves it finds it there again.
func ExampleExternalKey() {
	ca := new(acmetest.CA)
	defer ca.Close()
	keys := new(vault)
	m := &md.Manager{
		Domains: []md.Domain{{
			Names:   []string{"example.com"},
			NewKey:  keys.NewKey,
			OpenKey: keys.OpenKey,
		}},
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	if err := m.Renew(context.Background(), "example.com"); err != nil {
		fmt.Println(err)
		return
	}

	// After a restart, or on another node:
	again := &md.Manager{Domains: m.Domains, Default: m.Default, HTTPClient: m.HTTPClient, Store: m.Store}
	if err := again.Load(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	for d := range again.Status() {
		fmt.Println(d.Name, d.State, d.Certificates[0].KeyType)
	}
	// Output: example.com good P-256
}
