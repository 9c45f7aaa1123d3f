package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

var (
	// ErrHeld reports that someone else holds a lease. The error that wraps
	// it says who.
	ErrHeld = errors.New("store: the lease is held by another")

	// ErrLeaseLost is the cause with which a Lease's Context ends when its
	// holder must stop acting: another may take over, or has.
	ErrLeaseLost = errors.New("store: the lease is lost")
)

const (
	defaultTTL = 20 * time.Second
	minTTL     = time.Millisecond
	maxTTL     = time.Hour
)

// Leaser makes leases, so that of all who share a Store one acts on a key at
// a time. It needs nothing of the Store but its compare-and-swap, and compares
// no clocks: a holder counts up the lease's value every TTL/4, and whoever
// has seen the same Version for a whole TTL, by its own monotonic clock,
// takes over. A holder that could not renew stops after TTL/2.
//
// A process that is stopped as a whole (SIGSTOP, a suspended machine) learns
// that it has lost a lease only when it runs again, and may act for a moment
// before. What must never happen twice needs a compare-and-swap of its own;
// a lease saves double work.
//
// Fields must not be changed after the first call. Methods may be called
// concurrently. A Leaser must not be copied after first use.
type Leaser struct {
	// Store is where leases are kept. It must be set.
	Store Store

	// Holder is what others are told of who holds a lease. It need not be
	// unique. Zero: the host's name and the process id.
	Holder string

	// TTL is how long after the last renewal that others saw they take over.
	// Zero: 20 s. From a millisecond to an hour. Where Leasers differ, the longer TTL of
	// holder and taker holds.
	TTL time.Duration

	mu        sync.Mutex          // guards what follows
	sightings map[string]sighting // of keys that others hold
}

// Try returns a lease on key if it is free, or if its holder has been seen to
// do nothing for the whole TTL. Otherwise it returns at once, with an error
// that wraps ErrHeld, or with the Store's. What it has seen it remembers, so
// that calling it again at times is all that is needed to take over.
//
// The lease is renewed until ctx ends, it is released, or it is lost. A Leaser
// that holds a lease on key does not get it again before it is released.
func (l *Leaser) Try(ctx context.Context, key string) (*Lease, error) {
	lease, _, err := l.look(ctx, key)
	return lease, err
}

// Acquire waits until it can return a lease on key. The error is the Store's,
// or, if ctx ended while it waited, wraps both its cause and ErrHeld.
func (l *Leaser) Acquire(ctx context.Context, key string) (*Lease, error) {
	var held error
	for {
		lease, free, err := l.look(ctx, key)
		if errors.Is(err, ErrHeld) {
			held = err
		} else if err == nil || held == nil || ctx.Err() == nil {
			return lease, err
		}
		select {
		case <-time.After(min(l.ttl()/8, free)):
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lease %q: %w: %w", key, context.Cause(ctx), held)
		}
	}
}

// look is one Try. With ErrHeld it also says when the lease is free if its
// holder does nothing.
func (l *Leaser) look(ctx context.Context, key string) (lease *Lease, free time.Duration, err error) {
	ttl := l.ttl()
	if ttl < minTTL || ttl > maxTTL {
		return nil, 0, fmt.Errorf("store: Leaser.TTL is %v; it must be from %v to %v", ttl, minTTL, maxTTL)
	}
	if l.Store == nil {
		return nil, 0, errors.New("store: Leaser.Store is not set")
	}
	value, version, err := l.Store.Get(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		version = None
	case err != nil:
		return nil, 0, fmt.Errorf("looking at the lease %q: %w", key, err)
	default:
		claim := decodeClaim(value)
		free := l.sighted(key, version, claim)
		if free > 0 {
			return nil, free, fmt.Errorf("%w: %q by %s", ErrHeld, key, claim.who())
		}
	}
	lease, err = l.take(ctx, key, version)
	return lease, ttl, err
}

// take puts a first claim over version.
func (l *Leaser) take(ctx context.Context, key string, version Version) (*Lease, error) {
	c := claim{Holder: l.holder(), ID: rand.Text(), Count: 1, TTL: l.ttl().Milliseconds()}
	sent := time.Now()
	at, err := l.Store.Put(ctx, key, c.encode(), version)
	if errors.Is(err, ErrConflict) {
		return nil, fmt.Errorf("%w: %q was taken at this moment", ErrHeld, key)
	}
	if err != nil {
		at, err = l.settle(ctx, key, c, err)
	}
	if err == nil && time.Since(sent) >= l.ttl()/2 {
		err = fmt.Errorf("%w: the store took %v", ErrLeaseLost, time.Since(sent))
	}
	if err != nil {
		// The claim may stand, or yet come to stand. Nobody acts under it.
		l.disown(key, c.ID)
		return nil, fmt.Errorf("taking the lease %q: %w", key, err)
	}
	l.forget(key)
	return newLease(ctx, l.Store, key, l.ttl(), c, at, sent), nil
}

// settle finds out whether a Put whose outcome is unknown has happened.
func (l *Leaser) settle(ctx context.Context, key string, c claim, putErr error) (Version, error) {
	value, version, err := l.Store.Get(ctx, key)
	if err != nil || !decodeClaim(value).is(c) {
		return None, putErr
	}
	return version, nil
}

func (l *Leaser) ttl() time.Duration {
	if l.TTL == 0 {
		return defaultTTL
	}
	return l.TTL
}

func (l *Leaser) holder() string {
	if l.Holder != "" {
		return l.Holder
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}
