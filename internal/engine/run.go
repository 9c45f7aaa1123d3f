package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/store"
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
	var work sync.WaitGroup
	e.loop(ctx, &work)
	e.beginEnd()
	work.Wait()
	e.idle()
	return e.hangs()
}

// loop starts what is due until ctx ends. It looks at the clock at least
// every tick: deadlines are wall-clock times, and a machine may have been
// suspended, or its clock set.
func (e *Engine) loop(ctx context.Context, work *sync.WaitGroup) {
	e.watch(ctx, work)
	clock := clock{wall: e.now(), mono: time.Now()}
	for lastTick := time.Now(); ; {
		if clock.wentBack(e.now(), time.Now()) {
			e.lookAtEverything()
		}
		for _, d := range e.admit(e.now()) {
			work.Go(func() { e.drive(ctx, d) })
		}
		timer := time.NewTimer(e.untilNext(e.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-e.wake:
			timer.Stop()
		case <-timer.C:
		}
		if time.Since(lastTick) >= e.tick() && e.mayRefresh() {
			lastTick = time.Now()
			work.Go(func() { e.refresh(ctx) })
		}
	}
}

// clock compares the wall clock with the monotonic one.
type clock struct{ wall, mono time.Time }

// wentBack reports whether the wall clock was set back since the last call.
func (c *clock) wentBack(wall, mono time.Time) bool {
	moved := wall.Round(0).Sub(c.wall.Round(0)) - mono.Sub(c.mono)
	c.wall, c.mono = wall, mono
	return moved < -time.Second
}

// lookAtEverything has all Domains looked at soon: their moments were computed
// with a clock that was ahead, and may be years away.
func (e *Engine) lookAtEverything() {
	e.log.Warn("the clock was set back; looking at all Domains")
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.domains {
		switch d.state {
		case working:
			d.dueAgain = true
		case idle:
			e.schedule(d, e.now())
		}
	}
}

func (e *Engine) setRunning(running bool) (ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if running && e.running {
		return false
	}
	e.running, e.graceEnds = running, time.Time{}
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
		e.mu.Lock()
		lane := d.lane
		e.mu.Unlock()
		e.attemptNow(ctx, d)
		d = e.leave(lane)
	}
}

// attemptNow makes one attempt for d and schedules the next look.
func (e *Engine) attemptNow(ctx context.Context, d *domain) {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptLimit, errTooLong)
	defer cancel()
	e.mu.Lock()
	d.cancel = cancel
	e.mu.Unlock()

	err := e.guarded(e.log, func() error { return e.attempt(ctx, d, task{}) })

	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if errors.Is(err, errPanic) && !d.due.After(now) {
		// The attempt ended before it could say when to try again.
		d.due = now.Add(e.tick())
	}
	if !errors.Is(err, store.ErrHeld) { // to wait for another process has its own pace, and ends
		e.bound(d, now)
	}
	d.cancel = nil
	e.rest(d)
}

// bound counts an attempt: whatever the Store holds, a Domain is not looked at
// without end. What policy and Jobs say is far below this rate. e.mu is held.
func (e *Engine) bound(d *domain, now time.Time) {
	looks := policy.Rate{Count: 60, Per: time.Hour}
	d.looks = d.looks.Take(looks, 1, now)
	if free := d.looks.Free(looks, now); free.After(d.due) {
		d.due = free
	}
}

// rest ends the work on d in this process, until it is due again. e.mu is
// held.
func (e *Engine) rest(d *domain) {
	d.state, d.activity = idle, ""
	if d.dueAgain {
		d.dueAgain, d.due = false, e.now()
	}
	e.schedule(d, d.due)
	e.announceChange()
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
	now := e.now()
	look := func(d *domain, names []string) {
		switch {
		case err != nil, d.covers(names, now):
		case d.helpNeeded() != "":
			err = fmt.Errorf("%w for %s: %s", ErrNotReady, d.def.Name, d.helpNeeded())
		default:
			wait = true
		}
	}
	for _, name := range names {
		d := e.find(name)
		switch {
		case d == nil:
			return false, fmt.Errorf("%w: %s", ErrNotManaged, name)
		case name == d.def.Name:
			look(d, d.def.Names)
		default:
			look(d, []string{name})
		}
	}
	if len(names) == 0 {
		for _, d := range e.domains {
			look(d, d.def.Names)
		}
	}
	return wait, err
}

// helpNeeded is why d will not get certificates unless somebody helps, empty
// if it may. e.mu is held.
func (d *domain) helpNeeded() string {
	switch {
	case d.state != idle || !d.loaded || d.unopened != nil:
		return ""
	case d.job.Permanent && !d.reconfigured:
		return d.job.LastError
	case d.waiting != nil && d.def.HoldActivation:
		return "the certificates wait until somebody calls Activate"
	case d.waiting != nil || !d.def.Manual:
		return ""
	case d.filesError() != nil:
		return d.filesError().Error()
	}
	return "nothing is ordered for it until somebody calls Renew"
}

// covers reports whether d has a certificate in date for each of names.
func (d *domain) covers(names []string, now time.Time) bool {
	return covers(d.served(now), names, now)
}

// covers reports whether there is a certificate in date for each of names.
func covers(certs []certificate, names []string, now time.Time) bool {
	for _, name := range names {
		good := slices.ContainsFunc(certs, func(c certificate) bool {
			return now.Before(c.NotAfter) && policy.Covers(c.Names, name)
		})
		if !good {
			return false
		}
	}
	return true
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
