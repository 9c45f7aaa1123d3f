package engine

import (
	"context"
	"fmt"
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
	ctx, cancel := impatient(ctx, patience)
	defer cancel()
	return p.inner.Get(ctx, key)
}

func (p patient) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	ctx, cancel := impatient(ctx, patience)
	defer cancel()
	return p.inner.Put(ctx, key, value, old)
}

func (p patient) Delete(ctx context.Context, key string, old store.Version) error {
	ctx, cancel := impatient(ctx, patience)
	defer cancel()
	return p.inner.Delete(ctx, key, old)
}

func (p patient) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		ctx, cancel := impatient(ctx, listPatience)
		defer cancel()
		p.inner.List(ctx, prefix)(yield)
	}
}

// Locate forwards to the Store, so that errors name the place.
func (p patient) Locate(key string) string { return store.Locate(p.inner, key) }

func impatient(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("the Store has not answered within %v", limit))
}
