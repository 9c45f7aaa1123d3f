package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"time"

	"github.com/manageddomains/md/store"
)

// patience bounds what the Store may take for one operation, and for a list
// of everything. A Store that hangs costs an attempt, not the node.
const (
	patience     = 15 * time.Second
	listPatience = 5 * time.Minute
)

// patient is a Store of which every operation has a deadline, and of which a
// panic is an error like others: it may come while a lease is renewed, in a
// goroutine that nobody guards, or while the Job is written that says when to
// try again.
type patient struct {
	inner store.Store
	log   *slog.Logger
}

func (p patient) Get(ctx context.Context, key string) (value []byte, v store.Version, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	err = p.ask(func() (err error) { value, v, err = p.inner.Get(ctx, key); return err })
	return value, v, err
}

func (p patient) Put(ctx context.Context, key string, value []byte, old store.Version) (v store.Version, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	err = p.ask(func() (err error) { v, err = p.inner.Put(ctx, key, value, old); return err })
	return v, err
}

func (p patient) Delete(ctx context.Context, key string, old store.Version) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSlow)
	defer cancel()
	return p.ask(func() error { return p.inner.Delete(ctx, key, old) })
}

// ask makes one call of the Store.
func (p patient) ask(call func() error) error {
	return asStoreError(func() (err error) {
		defer rescue(p.log, &err)
		return call()
	}())
}

func (p patient) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		ctx, cancel := context.WithTimeoutCause(ctx, listPatience, errSlowList)
		defer cancel()
		more, err := p.listUntil(ctx, prefix, yield)
		if err != nil && more {
			yield(store.Item{}, err)
		}
	}
}

// listUntil lists as long as there is more wanted. A panic of whoever reads the
// list is not the Store's, and goes on.
func (p patient) listUntil(ctx context.Context, prefix string, yield func(store.Item, error) bool) (more bool, err error) {
	theirs := false
	defer func() {
		if theirs {
			return
		}
		if v := recover(); v != nil {
			err = asStoreError(panicked(p.log, v))
		}
	}()
	more = true
	p.inner.List(ctx, prefix)(func(item store.Item, err error) bool {
		theirs = true
		more = yield(item, asStoreError(err))
		theirs = false
		return more
	})
	return more, nil
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
