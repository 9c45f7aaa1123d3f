package engine

import (
	"context"
	"errors"
	"fmt"
)

// Renew orders certificates for the Domain that is named so, or that has the
// DNS name, now and whatever policy says, and returns when they are active.
func (e *Engine) Renew(ctx context.Context, name string) error {
	return e.perform(ctx, name, task{renew: true})
}

// Activate activates the certificates that wait in staging for Domains, given
// like for Renew.
func (e *Engine) Activate(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := e.perform(ctx, name, task{activate: true}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// perform makes an attempt that somebody has asked for and waits for.
func (e *Engine) perform(ctx context.Context, name string, t task) error {
	e.adopt(ctx)
	d, err := e.claim(ctx, name)
	if err != nil {
		return err
	}
	defer e.unclaim(d)
	ctx, cancel := context.WithTimeoutCause(ctx, attemptLimit, errTooLong)
	defer cancel()
	return e.guarded(e.log, func() error { return e.attempt(ctx, d, t) })
}

// claim waits until no attempt for the Domain is under way in this process,
// and takes its place.
func (e *Engine) claim(ctx context.Context, name string) (*domain, error) {
	for {
		e.mu.Lock()
		changed := e.changed
		d := e.find(name)
		if d == nil {
			e.mu.Unlock()
			return nil, fmt.Errorf("%w: %s", ErrNotManaged, name)
		}
		if d.state != working { // if it is in a lane, it need not wait there
			d.state = working
			e.unschedule(d)
			e.mu.Unlock()
			return d, nil
		}
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the attempt under way for %s: %w", name, context.Cause(ctx))
		}
	}
}

func (e *Engine) unclaim(d *domain) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest(d)
}
