package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Run looks after the Domains until ctx ends, and returns nil then.
func (e *Engine) Run(ctx context.Context) error {
	e.adopt(ctx)
	if !e.setRunning(true) {
		return ErrRunning
	}
	defer e.setRunning(false)
	if err := e.Load(ctx); err != nil && ctx.Err() == nil {
		// A server must come up although its Store does not answer: those
		// Domains are read again with each attempt.
		e.log.Error("not everything could be read from the Store; trying again", "error", err)
	}
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer e.idle()
	for lastTick := time.Now(); ; {
		for _, d := range e.admit(e.now()) {
			attempts.Go(func() { e.drive(ctx, d) })
		}
		timer := time.NewTimer(e.untilNext(e.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-e.wake:
			timer.Stop()
		case <-timer.C:
		}
		if time.Since(lastTick) >= e.tick() {
			lastTick = time.Now()
			e.refresh(ctx)
		}
	}
}

func (e *Engine) setRunning(running bool) (ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if running && e.running {
		return false
	}
	e.running = running
	return true
}

// idle closes what is only needed while running.
func (e *Engine) idle() {
	e.mu.Lock()
	clients := make([]interface{ Close() }, 0, len(e.clients))
	for _, c := range e.clients {
		clients = append(clients, c)
	}
	e.mu.Unlock()
	for _, c := range clients {
		c.Close()
	}
}

// drive makes an attempt for d, which has a place in its CA's lane, and then
// for those that take over the place.
func (e *Engine) drive(ctx context.Context, d *domain) {
	for d != nil {
		ca := e.caOf(d)
		e.attemptNow(ctx, d)
		d = e.leave(ca)
	}
}

func (e *Engine) caOf(d *domain) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return d.def.CA.URL
}

// attemptNow makes one attempt for d and schedules the next look.
func (e *Engine) attemptNow(ctx context.Context, d *domain) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	e.mu.Lock()
	d.cancel = cancel
	e.mu.Unlock()

	err := e.guarded(d, func() error { return e.attempt(ctx, d, false) })

	e.mu.Lock()
	defer e.mu.Unlock()
	d.busy, d.activity, d.cancel = false, "", nil
	if err != nil && !d.due.After(e.now()) {
		// The attempt ended before it could say when to try again.
		d.due = e.now().Add(e.tick())
	}
	e.schedule(d, d.due)
	e.announceChange()
}

// guarded calls f, and makes an error of a panic: it costs one attempt of one
// Domain.
func (e *Engine) guarded(d *domain, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			e.log.Error("attempt panicked", "domain", d.def.Name, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// Ready returns nil when the Domains of all names, or all Domains if none is
// named, have certificates in date. It waits until that is so; it returns an
// error that is ErrNotReady and says why as soon as one of them will not get
// there without somebody's help, and ErrNotManaged for unknown names.
func (e *Engine) Ready(ctx context.Context, names ...string) error {
	for {
		e.mu.Lock()
		changed := e.changed
		wait, err := e.unready(names)
		e.mu.Unlock()
		if err != nil || !wait {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w yet: %w", ErrNotReady, context.Cause(ctx))
		}
	}
}

// unready reports whether one of the Domains has to be waited for. e.mu is
// held.
func (e *Engine) unready(names []string) (wait bool, err error) {
	domains := make([]*domain, 0, len(names))
	for _, name := range names {
		d := e.find(name)
		if d == nil {
			return false, fmt.Errorf("%w: %s", ErrNotManaged, name)
		}
		domains = append(domains, d)
	}
	if len(names) == 0 {
		for _, d := range e.domains {
			domains = append(domains, d)
		}
	}
	now := e.now()
	for _, d := range domains {
		inDate := func(c certificate) bool { return now.Before(c.NotAfter) }
		switch {
		case slices.ContainsFunc(d.certs, inDate):
		case d.job.Permanent:
			return false, fmt.Errorf("%w for %s: %s", ErrNotReady, d.def.Name, d.job.LastError)
		default:
			wait = true
		}
	}
	return wait, nil
}

// find returns the Domain that is named so, or that has the DNS name. e.mu
// is held.
func (e *Engine) find(name string) *domain {
	if d := e.domains[name]; d != nil {
		return d
	}
	if site := e.table.Lookup(name); site != nil {
		return e.domains[site.Domain]
	}
	return nil
}

// Renew orders certificates for the Domain that is named so, or that has the
// DNS name, now and whatever policy says, and returns when they are active.
func (e *Engine) Renew(ctx context.Context, name string) error {
	e.adopt(ctx)
	d, err := e.claim(ctx, name)
	if err != nil {
		return err
	}
	defer e.unclaim(d)
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	return e.guarded(d, func() error { return e.attempt(ctx, d, true) })
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
		if !d.busy {
			d.busy = true
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
	d.busy, d.activity = false, ""
	e.schedule(d, d.due)
	e.announceChange()
}
