package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// parallelReads bounds how many Domains are read from the Store at once.
const parallelReads = 16

// Load reads what the Store has for all declared Domains that have not been
// read yet, so that it is served. It contacts nobody else but those who keep
// the keys of it, and leaves nothing running that returns in time. A value that is broken is logged; a Domain that cannot be read is
// an error, but does not keep the others from being served.
func (e *Engine) Load(ctx context.Context) error {
	e.adopt(ctx)
	recallErr := e.recall(ctx)
	e.mu.Lock()
	domains := slices.SortedFunc(maps.Values(e.domains), byName)
	e.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(parallelReads)
	for _, d := range domains {
		group.Go(func() error {
			err := ctx.Err()
			if err == nil {
				err = e.loadOne(ctx, d)
			}
			if err == nil {
				err = e.readFiles(ctx, d) // which may be others since it was loaded
			}
			if err != nil {
				e.mu.Lock()
				if d.state == idle && !d.loaded {
					e.schedule(d, e.now())
				}
				e.mu.Unlock()
			}
			return err
		})
	}
	err := group.Wait()
	e.openAll(ctx, domains)
	if ctx.Err() == nil {
		e.findLenders(ctx)
	}
	return cmp.Or(err, recallErr)
}

// A flight is one reading of a Domain for all who need it.
type flight struct {
	done chan struct{}
	err  error // set when done is closed
}

// loadOne reads what the Store has for d, once. If another is reading it
// already, it waits for that, but no longer than ctx lasts; and if that one
// had to give up, it reads itself.
func (e *Engine) loadOne(ctx context.Context, d *domain) error {
	for {
		e.mu.Lock()
		if d.loaded {
			e.mu.Unlock()
			return nil
		}
		f := d.reading
		mine := f == nil
		if mine {
			f = &flight{done: make(chan struct{})}
			d.reading = f
		}
		e.mu.Unlock()
		if mine {
			e.fly(ctx, d, f)
			return f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return fmt.Errorf("reading %s: %w", e.nameOf(d), context.Cause(ctx))
		}
	}
}

func (e *Engine) fly(ctx context.Context, d *domain, f *flight) {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		d.reading = nil
		close(f.done)
	}()
	f.err = e.guarded(e.log, func() error { return e.readDomain(ctx, d) })
}

// readDomain reads the active Set and the Job of d and has them served.
func (e *Engine) readDomain(ctx context.Context, d *domain) error {
	name := e.nameOf(d)
	set, version, err := e.records.Active(ctx, name)
	if err := e.tolerate(name, err); err != nil {
		return err
	}
	job, jobVersion, err := e.records.Job(ctx, name)
	if err := e.tolerate(name, err); err != nil {
		return err
	}
	if job == nil {
		job = new(record.Job)
	}
	corrected := setRight(job, e.now())
	if set != nil {
		if e.closed(d, set) {
			e.setUnopened(d, set, version)
		} else if _, err := e.install(ctx, d, set, version, store.Any); err != nil {
			e.log.Error("stored certificates cannot be served", "domain", name, "error", err)
		}
	}
	filesErr := e.readFiles(ctx, d)
	e.mu.Lock()
	defer e.mu.Unlock()
	d.loaded, d.job, d.jobVersion = true, job, jobVersion
	d.reconfigured = job.For != d.def.print
	if d.state == idle {
		at := e.nextLook(d)
		if d.def.HoldActivation || d.def.ActivationDelay > 0 || corrected {
			at = e.now() // something may wait in staging; what is corrected is to be written
		}
		e.schedule(d, at)
	}
	e.announceChange()
	return filesErr
}

func (e *Engine) versionOf(d *domain) store.Version {
	e.mu.Lock()
	defer e.mu.Unlock()
	return d.version
}

func (e *Engine) nameOf(d *domain) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return d.def.Name
}

// tolerate returns nil for a value that is missing or broken: it will be
// made again. A broken one is logged.
func (e *Engine) tolerate(name string, err error) error {
	_, err = orAside(store.None, err, func(b *record.BrokenError) error {
		e.log.Error("stored value is broken and will be replaced", "domain", name, "error", b)
		return nil
	})
	if err != nil {
		return fmt.Errorf("loading %s: %w", name, err)
	}
	return nil
}

// nextLook is when to look at d next: now if something is due or left over,
// else at the next deadline or the next regular look. e.mu is held.
func (e *Engine) nextLook(d *domain) time.Time {
	now := e.now()
	_, certs := d.newest()
	if d.unopened != nil && d.waiting == nil {
		certs = d.unopened.certs // what is due does not hang on who can serve it
	}
	f := policy.Facts{
		Certificates: factsOf(certs, d.job), NotBefore: d.job.NextRun,
		Revoked: d.waiting == nil && someToBeRevoked(d.job, certs),
	}
	if d.reconfigured {
		f.NotBefore = time.Time{}
	}
	at := policy.Next(d.def.rules(), f, now).At
	switch {
	case d.unused(now): // nothing is renewed, and nobody is asked
		at = d.expiry()
	default:
		at = earlierOf(at, d.nextAsk(now))
		if d.onDemand != nil {
			at = earlierOf(at, d.onDemand.askAt)
		}
	}
	if warn := d.firstWarning(now); warn.After(now) {
		at = earlier(at, warn)
	}
	if d.waiting != nil && !d.def.HoldActivation {
		at = earlier(at, d.activateAt)
	}
	at = d.keysWanted(at)
	if len(d.job.SetUps) > 0 {
		at = earlier(at, d.job.CleanUpAt)
	}
	if slices.ContainsFunc(d.job.Revocations, d.replaced) {
		at = earlier(at, d.job.RevokeAt)
	}
	if e.unannounced(d) {
		at = earlier(at, d.job.AnnounceAt)
	}
	return earlier(at, now.Add(policy.CheckDelay(e.cfg.CheckInterval, e.jitter())))
}

// replaced reports whether a certificate that is to be revoked is not in use
// any more. e.mu is held.
func (d *domain) replaced(r record.Revocation) bool {
	return !slices.ContainsFunc(d.certs, func(c certificate) bool { return bytes.Equal(c.leaf, r.Leaf) })
}

// earlierOf is a, or b if that is earlier and not zero.
func earlierOf(a, b time.Time) time.Time {
	if b.IsZero() {
		return a
	}
	return earlier(a, b)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
