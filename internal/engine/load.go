package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
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
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted := make(map[string]*Domain, len(defs))
	for _, def := range defs {
		wanted[def.Name] = def
	}
	for name, d := range e.domains {
		if wanted[name] == nil {
			e.forget(d)
		}
	}
	// Names that leave a Domain go before any is added: they may move.
	for _, def := range defs {
		if d := e.domains[def.Name]; d != nil {
			gone := slices.DeleteFunc(slices.Clone(d.def.Names), func(n string) bool {
				return slices.Contains(def.Names, n)
			})
			e.table.Remove(gone, def.Name)
		}
	}
	for _, def := range defs {
		if d := e.domains[def.Name]; d != nil {
			e.redefine(d, def)
			continue
		}
		d := &domain{def: def, at: -1, job: new(record.Job), site: &live.Site{Domain: def.Name}}
		e.domains[def.Name] = d
		e.table.Put(def.Names, d.site)
	}
	e.announceChange()
}

// forget stops serving and looking after d. e.mu is held.
func (e *Engine) forget(d *domain) {
	d.removed = true
	e.unschedule(d)
	if d.cancel != nil {
		d.cancel()
	}
	e.table.Remove(d.def.Names, d.def.Name)
	delete(e.domains, d.def.Name)
}

// redefine gives d another definition; it keeps what it serves until it has
// better. e.mu is held.
func (e *Engine) redefine(d *domain, def *Domain) {
	same := slices.Equal(d.def.Names, def.Names) && slices.Equal(d.def.KeyTypes, def.KeyTypes) &&
		d.def.CA.URL == def.CA.URL && d.def.RenewWindow == def.RenewWindow
	d.def = def
	if same {
		return
	}
	e.table.Put(def.Names, d.site)
	if d.loaded && !d.busy {
		e.schedule(d, e.now())
	}
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
				e.schedule(d, e.now())
				e.mu.Unlock()
			}
			return err
		})
	}
	return group.Wait()
}

// loadOne reads what the Store has for d, once.
func (e *Engine) loadOne(ctx context.Context, d *domain) error {
	e.mu.Lock()
	loaded, name := d.loaded, d.def.Name
	e.mu.Unlock()
	if loaded {
		return nil
	}
	_, err, _ := e.loads.Do(name, func() (any, error) { return nil, e.readDomain(ctx, d) })
	return err
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
	if !d.busy {
		e.schedule(d, e.nextLook(d))
	}
	e.announceChange()
	return nil
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
	decision := policy.Next(d.def.rules(), policy.Facts{Certificates: d.facts(), NotBefore: d.job.NextRun}, now)
	at := decision.At
	if len(d.job.SetUps) > 0 {
		at = earlier(at, d.job.CleanUpAt)
	}
	if e.unannounced(d) {
		at = earlier(at, d.job.AnnounceAt)
	}
	return earlier(at, now.Add(policy.CheckDelay(e.cfg.CheckInterval, jitter())))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// facts are the certificates of d as policy wants them. e.mu is held.
func (d *domain) facts() []policy.Certificate {
	facts := make([]policy.Certificate, 0, len(d.certs))
	for _, c := range d.certs {
		facts = append(facts, c.Certificate)
	}
	return facts
}

// refresh has served what other processes have activated since the last look.
func (e *Engine) refresh(ctx context.Context) {
	found := make(map[string]store.Version)
	for item, err := range e.cfg.Store.List(ctx, record.ActivePrefix) {
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
