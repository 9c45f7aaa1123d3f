package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// readJob reads what former attempts, maybe of other processes, remember.
func (a *attempt) readJob(ctx context.Context) error {
	job, version, err := a.e.records.Job(ctx, a.def.Name)
	var broken *record.BrokenError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		job, version = new(record.Job), store.None
	case errors.As(err, &broken):
		if err := a.setAside(ctx, broken); err != nil {
			return err
		}
		job, version = new(record.Job), broken.Version
	case err != nil:
		return err
	}
	a.jobVersion, a.written = version, job.Clone()
	if a.unsaved {
		return nil // what the Store has is older than what we know
	}
	a.job = job
	return nil
}

// readActive reads the active Set, and has it served if another process has
// activated it. A broken one is as good as none.
func (a *attempt) readActive(ctx context.Context) error {
	set, version, err := a.e.records.Active(ctx, a.def.Name)
	var broken *record.BrokenError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &broken):
		a.activeVersion = broken.Version
		return a.setAside(ctx, broken)
	case err != nil:
		return err
	}
	a.active, a.activeVersion = set, version
	a.e.mu.Lock()
	served := a.d.version
	a.e.mu.Unlock()
	if served == version || served == unstored {
		return nil
	}
	if err := a.e.install(a.d, set, version); err != nil {
		return err
	}
	a.e.tellInstalled(ctx, a.d)
	return nil
}

// readStaged reads the staged Set. What could not be written before is
// written now; what is broken is put aside.
func (a *attempt) readStaged(ctx context.Context) error {
	set, version, err := a.e.records.Staged(ctx, a.def.Name)
	var broken *record.BrokenError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		set, version = nil, store.None
	case errors.As(err, &broken):
		if err := a.setAside(ctx, broken); err != nil {
			return err
		}
		set, version = nil, broken.Version
	case err != nil:
		return err
	}
	a.staged, a.stagedVersion = set, version
	a.e.mu.Lock()
	held := a.d.held
	a.e.mu.Unlock()
	if held == nil || same(held, a.staged) {
		return nil
	}
	if a.stagedComplete() {
		if err := a.e.records.Keep(ctx, a.def.Name, a.staged); err != nil {
			return err
		}
	}
	return a.stage(ctx, held)
}

// same reports whether two Sets have the same content.
func same(a, b *record.Set) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, xErr := a.Hash()
	y, yErr := b.Hash()
	return xErr == nil && yErr == nil && x == y
}

// setAside keeps a copy of a broken value, which is then replaced.
func (a *attempt) setAside(ctx context.Context, broken *record.BrokenError) error {
	a.log.Error("stored value is broken; a copy is kept in the archive and it is replaced", "error", broken)
	a.job.Tell(a.e.now(), "broken", broken.Error())
	return a.e.records.SetAside(ctx, a.def.Name, broken)
}

// tidy cleans up challenges that a former attempt has left behind.
func (a *attempt) tidy(ctx context.Context) error {
	if len(a.job.SetUps) == 0 {
		return nil
	}
	a.cleanUp(ctx)
	return a.putJob(ctx)
}

// cleanUp takes away the answers of all recorded set-ups. Those that cannot
// be taken away stay recorded.
func (a *attempt) cleanUp(ctx context.Context) {
	var left []record.SetUp
	for i, s := range a.job.SetUps {
		if ctx.Err() != nil { // the time for all of them is over
			left = append(left, a.job.SetUps[i:]...)
			break
		}
		if err := a.cleanUpOne(ctx, s); err != nil {
			a.log.Warn("cleaning up a challenge failed; it will be tried again",
				"type", s.Type, "name", s.Name, "error", err)
			left = append(left, s)
		}
	}
	a.job.SetUps = left
	if len(left) == 0 {
		a.job.CleanUpErrors, a.job.CleanUpAt = 0, time.Time{}
		return
	}
	a.job.CleanUpErrors++
	a.job.CleanUpAt = a.e.now().Add(policy.Backoff(a.e.cfg.RetryDelay, a.job.CleanUpErrors, a.e.jitter())).UTC()
}

func (a *attempt) cleanUpOne(ctx context.Context, s record.SetUp) error {
	c := challenge.Challenge{Type: s.Type, Name: s.Name, Token: s.Token, KeyAuthorization: s.KeyAuthorization}
	by := a.e.challenger(a.def, s.Type)
	switch { // the built-in ones are always there
	case by == nil && s.Type == "http-01":
		by = a.e.http01
	case by == nil && s.Type == "tls-alpn-01":
		by = a.e.tlsalpn01
	}
	if by == nil {
		return fmt.Errorf("the Domain has no challenger for %s any more", s.Type)
	}
	return a.e.hook(ctx, "cleaning up "+s.Type+" for "+s.Name, func(ctx context.Context) error { return by.CleanUp(ctx, c) })
}
