package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// parallelReads bounds how many Domains are read from the Store at once.
const parallelReads = 16

// SetDomains declares the Domains, without any I/O: those that are unchanged
// keep everything, those that are gone are no longer served.
func (e *Engine) SetDomains(defs []*Domain) {
	for _, def := range defs {
		def.print = def.fingerprint(e.cfg.AcceptTerms) // it asks the Challengers, which may do anything
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted := make(map[string]*Domain, len(defs))
	for _, def := range defs {
		wanted[def.Name] = def
	}
	gone := make(map[string][]string) // names that leave, by the Domain that had them
	for name, d := range e.domains {
		if def := wanted[name]; def != nil {
			e.lendLost(d, def.Names)
			gone[name] = slices.DeleteFunc(slices.Clone(d.def.Names), func(n string) bool {
				return slices.Contains(def.Names, n)
			})
		} else {
			e.lendLost(d, nil)
			e.forget(d)
			gone[name] = d.def.Names
		}
	}
	for _, def := range defs {
		if d := e.domains[def.Name]; d != nil {
			e.redefine(d, def)
			continue
		}
		d := &domain{def: def, at: -1, job: new(record.Job), site: &live.Site{Domain: def.Name}}
		e.domains[def.Name] = d
		e.serve(d)
	}
	// Names go last, and only from those who still have them: a name that moves
	// is served all the time.
	for domain, names := range gone {
		e.table.Remove(names, domain)
	}
	e.unsearched = true
	e.announceChange()
}

// forget stops looking after d. e.mu is held.
func (e *Engine) forget(d *domain) {
	d.removed = true
	e.unschedule(d)
	if d.cancel != nil {
		d.cancel()
	}
	delete(e.domains, d.def.Name)
}

// redefine gives d another definition; it keeps what it serves until it has
// better. e.mu is held.
func (e *Engine) redefine(d *domain, def *Domain) {
	same := d.def.print == def.print && d.def.RenewWindow == def.RenewWindow &&
		d.def.HoldActivation == def.HoldActivation && d.def.ActivationDelay == def.ActivationDelay
	d.def = def
	if same {
		return
	}
	e.serve(d)
	d.fresh = d.job.For != def.print
	switch {
	case d.busy:
		d.again = true
	case d.loaded:
		e.schedule(d, e.now())
	}
}

// fingerprint tells apart the configurations with which an attempt may end
// differently: after a change, a failure is no reason to wait.
func (d *Domain) fingerprint(termsAccepted bool) string {
	h := sha256.New()
	fmt.Fprintln(h, d.Names, d.KeyTypes, d.urls(), d.Contacts, termsAccepted)
	for _, c := range d.Challengers {
		fmt.Fprintln(h, c.Types())
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Load reads what the Store has for all declared Domains that have not been
// read yet, so that it is served. It contacts nobody else, and leaves nothing
// running. A value that is broken is logged; a Domain that cannot be read is
// an error, but does not keep the others from being served.
func (e *Engine) Load(ctx context.Context) error {
	e.adopt(ctx)
	e.mu.Lock()
	domains := slices.Collect(maps.Values(e.domains))
	e.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(parallelReads)
	for _, d := range domains {
		group.Go(func() error {
			err := ctx.Err()
			if err == nil {
				err = e.loadOne(ctx, d)
			}
			if err != nil {
				e.mu.Lock()
				if !d.busy && !d.loaded {
					e.schedule(d, e.now())
				}
				e.mu.Unlock()
			}
			return err
		})
	}
	err := group.Wait()
	if ctx.Err() == nil {
		e.findLenders(ctx)
	}
	return err
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
	job, _, err := e.records.Job(ctx, name)
	if err := e.tolerate(name, err); err != nil {
		return err
	}
	if job == nil {
		job = new(record.Job)
	}
	if set != nil {
		if err := e.install(d, set, version); err != nil {
			e.log.Error("stored certificates cannot be served", "domain", name, "error", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	d.loaded, d.job = true, job
	d.fresh = job.For != d.def.print
	if !d.busy {
		at := e.nextLook(d)
		if d.def.HoldActivation || d.def.ActivationDelay > 0 {
			at = e.now() // something may wait in staging
		}
		e.schedule(d, at)
	}
	e.announceChange()
	return nil
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
	var broken *record.BrokenError
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &broken):
		e.log.Error("stored value is broken and will be replaced", "domain", name, "error", err)
		return nil
	}
	return fmt.Errorf("loading %s: %w", name, err)
}

// nextLook is when to look at d next: now if something is due or left over,
// else at the next deadline or the next regular look. e.mu is held.
func (e *Engine) nextLook(d *domain) time.Time {
	now := e.now()
	_, certs := d.newest()
	f := policy.Facts{Certificates: factsOf(certs, d.job), NotBefore: d.job.NextRun}
	if d.fresh {
		f.NotBefore = time.Time{}
	}
	at := policy.Next(d.def.rules(), f, now).At
	if ask := d.nextAsk(now); !ask.IsZero() {
		at = earlier(at, ask)
	}
	if d.waiting != nil && !d.def.HoldActivation {
		at = earlier(at, d.activateAt)
	}
	if len(d.job.SetUps) > 0 {
		at = earlier(at, d.job.CleanUpAt)
	}
	if e.unannounced(d) {
		at = earlier(at, d.job.AnnounceAt)
	}
	return earlier(at, now.Add(policy.CheckDelay(e.cfg.CheckInterval, e.jitter())))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// refresh has served what other processes have activated since the last look.
func (e *Engine) refresh(ctx context.Context) {
	defer e.endRefresh()
	_ = e.guarded(e.log, func() error { e.lookAtAll(ctx); return nil })
}

// mayRefresh reports whether no refresh is under way, and begins one.
func (e *Engine) mayRefresh() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refreshing {
		return false
	}
	e.refreshing = true
	return true
}

func (e *Engine) endRefresh() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refreshing = false
}

// watch has served at once what other processes activate, if the Store can
// tell of it. Without, or should it fail, refresh finds it within a tick.
func (e *Engine) watch(ctx context.Context, work *sync.WaitGroup) {
	w, ok := e.cfg.Store.(store.Watcher)
	if !ok {
		return
	}
	work.Go(func() {
		for ctx.Err() == nil {
			err := e.guarded(e.log, func() error { return e.follow(ctx, w) })
			if ctx.Err() != nil {
				return
			}
			e.log.Warn("watching the Store has ended; trying again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(e.tick()):
			}
		}
	})
}

func (e *Engine) follow(ctx context.Context, w store.Watcher) error {
	for key, err := range w.Watch(ctx, record.ActivePrefix) {
		if err != nil {
			return err
		}
		e.mu.Lock()
		d := e.domains[record.ActiveName(key)]
		idle := d != nil && d.loaded && !d.busy
		e.mu.Unlock()
		if idle {
			e.reread(ctx, d)
		}
	}
	return nil
}

func (e *Engine) lookAtAll(ctx context.Context) {
	found := make(map[string]store.Version)
	for item, err := range e.store.List(ctx, record.ActivePrefix) {
		if err != nil {
			if ctx.Err() == nil {
				e.log.Warn("looking for certificates of other processes failed", "error", err)
			}
			return
		}
		found[record.ActiveName(item.Key)] = item.Version
	}
	e.mu.Lock()
	var stale []*domain
	for name, d := range e.domains {
		if d.loaded && !d.busy && d.version != found[name] && d.version != unstored {
			stale = append(stale, d)
		}
	}
	e.mu.Unlock()
	for _, d := range stale {
		e.reread(ctx, d)
	}
}

// reread installs the active Set of d if it can be read. One that cannot is
// left to the next attempt.
func (e *Engine) reread(ctx context.Context, d *domain) {
	name := e.nameOf(d)
	set, version, err := e.records.Active(ctx, name)
	if ctx.Err() != nil || err == nil && version == e.versionOf(d) {
		return
	}
	if err == nil {
		err = e.install(d, set, version)
	}
	if err != nil {
		e.log.Warn("certificates activated by another process cannot be served", "domain", name, "error", err)
	}
	e.mu.Lock()
	if !d.busy {
		if err != nil {
			e.schedule(d, e.now())
		} else {
			e.schedule(d, e.nextLook(d))
		}
	}
	e.mu.Unlock()
	if err == nil {
		e.tellInstalled(ctx, d)
	}
}
