package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/manageddomains/md"
)

// kms keeps keys that nobody can read, and counts what it is asked for.
type kms struct {
	latency time.Duration

	mu     sync.Mutex // guards what follows
	keys   map[string]*ecdsa.PrivateKey
	made   int
	opened int
	signed int
	away   error         // what it answers; nil: what it should
	breaks string        // "panics", "lies" or "" for what opening does
	hangs  chan struct{} // until it is closed, opening does not return, whatever the context
	stuck  chan struct{} // the same, for signing while nothing is served
}

func (k *kms) set(change func(k *kms)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

func (k *kms) counts() (made, opened, signed int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.made, k.opened, k.signed
}

// wait is what each call takes.
func (k *kms) wait(ctx context.Context) error {
	k.mu.Lock()
	away, latency := k.away, k.latency
	k.mu.Unlock()
	select {
	case <-time.After(latency):
		return away
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (k *kms) NewKey(ctx context.Context, t md.KeyType) (crypto.Signer, error) {
	if err := k.wait(ctx); err != nil {
		return nil, err
	}
	curve := elliptic.P256()
	if t == md.P384 {
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = make(map[string]*ecdsa.PrivateKey)
	}
	k.made++
	id := fmt.Sprintf("key/%d", k.made)
	k.keys[id] = key
	return &kmsKey{k, id, &key.PublicKey}, nil
}

func (k *kms) OpenKey(ctx context.Context, provider, id string) (crypto.Signer, error) {
	k.mu.Lock()
	k.opened++
	hangs, breaks := k.hangs, k.breaks
	k.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	if breaks == "panics" {
		panic("the KMS's library is broken")
	}
	if err := k.wait(ctx); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.keys[id]
	if breaks == "lies" {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if provider != "kms" || key == nil {
		return nil, fmt.Errorf("no key %q: %w", id, fs.ErrNotExist)
	}
	return &kmsKey{k, id, &key.PublicKey}, nil
}

// use has the Domains of d use the KMS.
func (k *kms) use(d md.Domain) md.Domain {
	d.NewKey, d.OpenKey = k.NewKey, k.OpenKey
	return d
}

// kmsKey is one key of a kms.
type kmsKey struct {
	kms    *kms
	id     string
	public *ecdsa.PublicKey
}

func (key *kmsKey) Public() crypto.PublicKey            { return key.public }
func (key *kmsKey) KeyReference() (provider, id string) { return "kms", key.id }

func (key *kmsKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k := key.kms
	k.mu.Lock()
	k.signed++
	private, stuck, latency := k.keys[key.id], k.stuck, k.latency
	k.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	time.Sleep(latency)
	if private == nil {
		return nil, errors.New("there is no such key any more")
	}
	return private.Sign(rand.Reader, digest, opts)
}
