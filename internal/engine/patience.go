package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/manageddomains/md/store"
)

// patience bounds what the Store may take for one operation, and for a list
// of everything. A Store that hangs costs an attempt, not the node.
const (
	patience     = 15 * time.Second
	listPatience = 5 * time.Minute
)

// patient is a Store of which every operation has a deadline.
type patient struct{ inner store.Store }

func (p patient) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	value, v, err := p.inner.Get(ctx, key)
	return value, v, asStoreError(err)
}

func (p patient) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	v, err := p.inner.Put(ctx, key, value, old)
	return v, asStoreError(err)
}

func (p patient) Delete(ctx context.Context, key string, old store.Version) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	return asStoreError(p.inner.Delete(ctx, key, old))
}

func (p patient) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		ctx, cancel := context.WithTimeoutCause(ctx, listPatience, errSlowList)
		defer cancel()
		p.inner.List(ctx, prefix)(func(item store.Item, err error) bool { return yield(item, asStoreError(err)) })
	}
}

// Locate forwards to the Store, so that errors name the place.
func (p patient) Locate(key string) string { return store.Locate(p.inner, key) }

// A storeError is what keeps the Store from doing its work, as apart from
// what it answers, and from what CAs do.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

func asStoreError(err error) error {
	for _, answer := range []error{nil, store.ErrConflict, fs.ErrNotExist, store.ErrKey, store.ErrTooLarge} {
		if errors.Is(err, answer) {
			return err
		}
	}
	return &storeError{err}
}

var (
	errSlow     = fmt.Errorf("the Store has not answered within %v", patience)
	errSlowList = fmt.Errorf("the Store has not listed its keys within %v", listPatience)
)
