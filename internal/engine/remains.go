package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// readJob reads what former attempts, maybe of other processes, remember.
func (a *attempt) readJob(ctx context.Context) error {
	ours, base := a.job, a.jobVersion
	job, version, readErr := a.e.records.Job(ctx, a.def.Name)
	version, err := orAside(version, readErr, func(b *record.BrokenError) error { return a.setAside(ctx, b) })
	if err != nil {
		return err
	}
	broken := job == nil && version != store.None
	if job == nil {
		job = new(record.Job)
	}
	a.jobVersion, a.written = version, job.Clone()
	switch {
	case broken, a.unsaved && version == base:
		// What the Store has is of no use, or older than what we know.
	case a.unsaved:
		// Somebody has gone on from there, or our own Put had its effect.
		job.SetUps = union(job.SetUps, ours.SetUps)
		for _, r := range ours.Revocations {
			if !toBeRevoked(job, r.Leaf) {
				job.Revocations = append(job.Revocations, r)
			}
		}
		a.accepted = ours.Announced
		a.job = job
	default:
		a.job = job
	}
	a.job.Told = latestTold(a.job.Told, ours.Told, a.e.now())
	setRight(a.job, a.e.now())
	// Another process may have tried this configuration meanwhile: the delay
	// after its failure is for all of them.
	a.reconfigured = a.reconfigured && a.job.For != a.def.print
	return nil
}

// latestTold are the later moments of both, but for those of ours that a clock which
// was ahead has written. What was told while the Store did not
// answer must not be told again as soon as it does.
func latestTold(told, ours map[string]time.Time, now time.Time) map[string]time.Time {
	for kind, at := range ours {
		if at.After(told[kind]) && !at.After(now) {
			if told == nil {
				told = make(map[string]time.Time)
			}
			told[kind] = at
		}
	}
	return told
}

// union returns list with those of more that it lacks.
func union(list, more []record.SetUp) []record.SetUp {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// orAside sorts out what reading a value has led to, where one that is missing
// or broken is as good as none and will be replaced at the Version returned. A
// broken one is put aside first.
func orAside(v store.Version, err error, aside func(*record.BrokenError) error) (store.Version, error) {
	var broken *record.BrokenError
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, fs.ErrNotExist):
		return store.None, nil
	case errors.As(err, &broken):
		return broken.Version, aside(broken)
	}
	return store.None, err
}

// readActive reads the active Set, and has it served if another process has
// activated it. One that cannot be used is as good as none; that is told once.
func (a *attempt) readActive(ctx context.Context) error {
	a.e.mu.Lock()
	served, ahead := a.d.version, a.d.ahead()
	a.e.mu.Unlock()
	set, version, err := a.e.records.ActiveAt(ctx, a.def.Name, served)
	version, err = orAside(version, err, func(b *record.BrokenError) error {
		if a.e.passed(a.d, b.Version) {
			return nil
		}
		return a.setAside(ctx, b)
	})
	if err != nil {
		return err
	}
	a.active, a.activeVersion = set, version
	a.noteActive()
	switch {
	case set == nil && !ahead:
		a.e.pass(a.d, version)
		return nil
	case set == nil, version == served, ahead:
		return nil
	}
	installed, err := a.e.takeOver(ctx, a.d, set, version, served)
	if errors.As(err, new(*keyError)) {
		return nil // it is as good as before, and tried again
	}
	if err != nil {
		if !a.e.passed(a.d, version) {
			a.log.Error("the active certificates are not taken over; others are ordered when they are due", "error", err)
			a.job.Tell(a.e.now(), "not taken over", bounded(err.Error()))
			a.e.pass(a.d, version)
		}
		if !errors.Is(err, errWorse) {
			a.active = nil
		}
		return nil
	}
	if installed {
		a.e.mu.Lock()
		a.d.news = true
		a.e.mu.Unlock()
	}
	return nil
}

// readStaged reads the staged Set. What could not be written before is
// written now; what is broken is put aside.
func (a *attempt) readStaged(ctx context.Context) error {
	set, version, err := a.e.records.Staged(ctx, a.def.Name)
	version, err = orAside(version, err, func(b *record.BrokenError) error { return a.setAside(ctx, b) })
	if err != nil {
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
			a.countPanic(err)
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
