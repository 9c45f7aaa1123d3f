package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// refresh has served what other processes have activated since the last look.
func (e *Engine) refresh(ctx context.Context) {
	defer e.endRefresh()
	_ = e.guarded(e.log, func() error {
		e.noteUse()
		e.recallAgain(ctx)
		e.lookAtAll(ctx)
		e.searchAgain(ctx)
		e.watchFiles(ctx)
		e.sweep(ctx)
		return nil
	})
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
		known := d != nil && d.loaded && d.state != working
		e.mu.Unlock()
		if known {
			e.reread(ctx, d)
		}
	}
	return nil
}

// lookAtAll has read again what stands in the Store at another Version than
// the one that is served.
func (e *Engine) lookAtAll(ctx context.Context) {
	e.mu.Lock()
	e.round++
	round := e.round
	e.mu.Unlock()
	var stale []*domain
	for item, err := range e.store.List(ctx, record.ActivePrefix) {
		if err != nil {
			if ctx.Err() == nil {
				e.log.Warn("looking for certificates of other processes failed", "error", err)
			}
			return
		}
		e.mu.Lock()
		if d := e.domains[record.ActiveName(item.Key)]; d != nil {
			d.seen = round
			if d.outdated(item.Version) {
				stale = append(stale, d)
			}
		}
		e.mu.Unlock()
	}
	for _, d := range append(stale, e.vanished(round)...) {
		e.reread(ctx, d)
	}
}

// ahead reports whether d serves what is still to be written to the Store, so
// that what stands there is older. e.mu is held.
func (d *domain) ahead() bool { return d.version == unstored && d.held != nil }

// vanished are the Domains whose active Set was in the Store, but not in the
// round of looking.
func (e *Engine) vanished(round int) []*domain {
	e.mu.Lock()
	defer e.mu.Unlock()
	var gone []*domain
	for _, d := range e.domains {
		if d.seen != round && d.outdated(store.None) {
			gone = append(gone, d)
		}
	}
	slices.SortFunc(gone, byName)
	return gone
}

// byName is the order in which Domains are looked at where nothing else
// decides: the same each time. e.mu is held.
func byName(a, b *domain) int { return strings.Compare(a.def.Name, b.def.Name) }

// outdated reports whether something else is served than what the Store has
// at the Version stored. What is known to be unfit is left to the attempts,
// and so is all while one is under way. e.mu is held.
func (d *domain) outdated(stored store.Version) bool {
	waits := d.unopened != nil && d.unopened.version == stored
	return d.loaded && d.state != working && d.version != stored && !d.ahead() && d.unfit != unfit{true, stored} && !waits
}

// unfit is the Version of an active Set that cannot be served, or None if
// the Store has lost it: an attempt has seen to it, and said so.
type unfit struct {
	known   bool
	version store.Version
}

// pass notes that an attempt has seen that the Store has no active Set that
// can be served, at a Version.
func (e *Engine) pass(d *domain, v store.Version) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.unfit = unfit{true, v}
}

// passed reports whether that was noted before.
func (e *Engine) passed(d *domain, v store.Version) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return d.unfit == unfit{true, v}
}

// errWorse is why an active Set is not served: what is served is better.
var errWorse = errors.New("the active certificates do not cover all names and dates, and those that are served do")

// takeOver has a Set served that another process, or a person, has made the
// active one, if d serves what has the Version old.
func (e *Engine) takeOver(ctx context.Context, d *domain, set *record.Set, version, old store.Version) (installed bool, err error) {
	if err := e.waitsAt(d, version); err != nil {
		return false, err
	}
	theirs := certificatesOf(set)
	e.mu.Lock()
	names, now := d.def.Names, e.now()
	ours, good := covers(d.certs, names, now), covers(theirs, names, now)
	worse := ours && !good
	if old == unstored { // what the Store did not take may be newer than what it has
		worse = !good || ours && earliestEnd(theirs).Before(earliestEnd(d.certs))
	}
	e.mu.Unlock()
	if worse {
		return false, errWorse
	}
	return e.install(ctx, d, set, version, old)
}

// errClosed is why an attempt follows at once.
var errClosed = errors.New("its keys are still to be opened")

// reread installs the active Set of d, unless an attempt has installed another
// meanwhile. One that cannot be used is left to the next attempt, which comes
// at once.
func (e *Engine) reread(ctx context.Context, d *domain) {
	e.mu.Lock()
	name, served, ahead := d.def.Name, d.version, d.ahead()
	e.mu.Unlock()
	if ahead {
		return
	}
	set, version, err := e.records.Active(ctx, name)
	if ctx.Err() != nil || err == nil && version == served {
		return
	}
	installed := false
	switch {
	case err != nil:
	case e.closed(d, set): // opening its keys may take time, which is an attempt's
		e.setUnopened(d, set, version)
		err = errClosed
	default:
		installed, err = e.takeOver(ctx, d, set, version, served)
	}
	unreadable := err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*record.BrokenError)) && set == nil
	if unreadable {
		e.log.Warn("certificates activated by another process cannot be read; trying again", "domain", name, "error", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case installed: // the Notifier may take its time, which is an attempt's
		e.bringNews(d)
	case d.state != idle:
	case err != nil:
		e.schedule(d, e.now())
	default:
		e.schedule(d, e.nextLook(d))
	}
}
