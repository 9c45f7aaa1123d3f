package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Lease is the right to act on a key until its Context ends. Its methods may
// be called concurrently.
type Lease struct {
	store Store
	key   string
	ttl   time.Duration

	ctx    context.Context // the right itself
	cancel context.CancelCauseFunc
	expiry *time.Timer   // ends ctx with ErrLeaseLost, even while a Put hangs
	done   chan struct{} // closed when keep has returned

	// What follows belongs to keep until done is closed.
	claim   claim   // what the Store has, as far as is known
	version Version // of claim
	next    uint64  // the Count of the next renewal; each try has its own
	doubt   bool    // a renewal's outcome is unknown: it may yet happen
}

// newLease begins to renew a claim that was sent to the Store at sent and is
// there at version.
func newLease(ctx context.Context, s Store, key string, ttl time.Duration, c claim, version Version, sent time.Time) *Lease {
	l := &Lease{
		store: s, key: key, ttl: ttl,
		claim: c, version: version, next: c.Count + 1,
		done: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.expiry = time.AfterFunc(time.Until(sent.Add(l.ttl/2)), func() {
		l.cancel(fmt.Errorf("%w: %q could not be renewed in time", ErrLeaseLost, key))
	})
	go l.keep()
	return l
}

// Key returns the key that the lease is on.
func (l *Lease) Key() string { return l.key }

// Context returns the context under which the holder may act. It derives from
// the one that the lease was acquired with. It is cancelled with a cause that
// wraps ErrLeaseLost TTL/2 after the last renewal that is known to have
// succeeded was sent, or as soon as another's claim is seen; and it is
// cancelled by Release.
func (l *Lease) Context() context.Context { return l.ctx }

// keep renews the lease until its context ends. It never outlives it by more
// than the Store needs to notice.
func (l *Lease) keep() {
	defer close(l.done)
	defer l.expiry.Stop()
	wait := l.ttl / 4
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = l.ttl / 4
		if !l.renew() {
			wait = l.ttl / 16
		}
	}
}

// renew counts the claim up, and reports whether that is known to have
// happened. It ends the lease when another's claim is there.
func (l *Lease) renew() bool {
	c := l.claim
	c.Count = l.next
	l.next++
	sent := time.Now()
	version, err := l.put(c)
	switch {
	case err == nil:
		l.claim, l.version, l.doubt = c, version, false
	case errors.Is(err, ErrConflict) && !l.doubt:
		l.lose()
		return false
	default:
		// The Put may have happened, or one before it that was in doubt.
		l.doubt = true
		if !l.reread() || !l.claim.is(c) {
			return false
		}
	}
	l.expiry.Reset(time.Until(sent.Add(l.ttl / 2)))
	return true
}

// put puts c over the claim that is known to be there. If the Store hangs, it
// leaves time to look what has happened and to try again.
func (l *Lease) put(c claim) (Version, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.ttl/8)
	defer cancel()
	return l.store.Put(ctx, l.key, c.encode(), l.version)
}

// reread learns which claim is there, and ends the lease if it is not ours.
// It reports whether it could learn that.
func (l *Lease) reread() bool {
	ctx, cancel := context.WithTimeout(l.ctx, l.ttl/8)
	defer cancel()
	value, version, err := l.store.Get(ctx, l.key)
	if errors.Is(err, fs.ErrNotExist) {
		l.lose()
		return false
	}
	if err != nil {
		return false
	}
	c := decodeClaim(value)
	if c.ID != l.claim.ID {
		l.lose()
		return false
	}
	l.claim.Count, l.version = c.Count, version
	return true
}

func (l *Lease) lose() {
	l.cancel(fmt.Errorf("%w: another has taken %q", ErrLeaseLost, l.key))
}

// Release gives the lease up, so that others need not wait for its TTL. It
// ends the Context, waits for a renewal under way, and removes the claim from
// the Store; it is best called with a context that outlives the work. An
// error means that others may have to wait. A lease that is lost, or
// released already, is released without error.
func (l *Lease) Release(ctx context.Context) error {
	l.cancel(fmt.Errorf("store: the lease %q was released: %w", l.key, context.Canceled))
	select {
	case <-l.done:
	case <-ctx.Done():
		return fmt.Errorf("releasing the lease %q: %w", l.key, context.Cause(ctx))
	}
	if err := l.remove(ctx); err != nil {
		return fmt.Errorf("releasing the lease %q: %w", l.key, err)
	}
	return nil
}

// remove deletes the claim if it is still ours. At a conflict it looks again,
// since a renewal whose outcome was unknown may have happened, even now.
func (l *Lease) remove(ctx context.Context) error {
	version := l.version
	var err error
	for range 3 {
		err = l.store.Delete(ctx, l.key, version)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		var value []byte
		value, version, err = l.store.Get(ctx, l.key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case decodeClaim(value).ID != l.claim.ID:
			return nil
		}
	}
	return err
}
