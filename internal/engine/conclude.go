package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
)

// outcome is what an attempt's end means for the next one.
type outcome int

const (
	succeeded   outcome = iota // also when there was nothing to do
	interrupted                // by us: it counts as nothing, and goes on later
	waiting                    // for a time that the CA has named
	vetoed                     // by the Notifier
	refused                    // what was asked for is not done; nothing has changed
	failed
)

func outcomeOf(ctx context.Context, err error) outcome {
	switch {
	case err == nil:
		return succeeded
	case errors.Is(err, status.ErrVeto):
		return vetoed
	case errors.Is(err, errTooSoon), errors.Is(err, errRefused):
		return refused
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTooLong): // the end of Run, of the caller's patience, or of the lease
		return interrupted
	case errors.Is(err, acmeclient.ErrWait), errors.As(err, new(*blockedError)):
		return waiting
	}
	return failed
}

// maxWaits is how often in a row a CA may ask for more time before that counts
// as a failure, with its growing delays.
const maxWaits = 5

// conclude writes down how the attempt ended, says in d.due when to look
// again, and tells the Notifier. It returns err.
func (a *attempt) conclude(ctx context.Context, err error) error {
	result := outcomeOf(ctx, err)
	if result == waiting && errors.Is(err, acmeclient.ErrWait) && a.job.Waits >= maxWaits {
		result = failed
	}
	// What has happened is written down, and told, even if ctx has ended, or
	// ends meanwhile.
	behind := context.WithoutCancel(ctx)
	late, cancel := context.WithTimeout(behind, a.e.hookGrace())
	defer cancel()
	writing := ctx
	if ctx.Err() != nil {
		writing = late
	}
	now := a.e.now()
	ordered := result == waiting && errors.Is(err, acmeclient.ErrWait) // the CA works on this configuration
	if result == failed || ordered || result == succeeded && a.upToDate {
		a.job.For = a.def.print
	}
	switch result {
	case succeeded:
		a.succeed(now)
	case failed:
		a.fail(writing, err, now)
	case waiting:
		a.wait(err)
	case vetoed:
		a.vetoedUntil = earlier(now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter())), now.Add(a.soon(now)))
		a.postpone()
	case refused:
		a.postpone()
	}
	a.showWaiting()
	a.saveJob(late)
	a.tellAll(ctx, result, err)
	told, cancel := context.WithTimeout(behind, a.e.hookGrace()) // who hears of it may have taken all the time there was
	defer cancel()
	a.saveJob(told)
	a.e.lookAgain(a.d, a.nextLook(result, now))
	return err
}

// dueElsewhere reports whether another process is about to renew what is not
// due here: its clock is ahead of ours, or it has another configuration. Its
// failures are not ours to forget, unless nobody has gone on for a day.
func (a *attempt) dueElsewhere() bool {
	j := a.job
	// With what is cleared, this renewal has come to its end, after a failure
	// that was none: the Store had activated it.
	if a.task.asked() || a.reconfigured || len(j.Trials) == 0 || a.stagedComplete() || a.cleared {
		return false
	}
	replaced := a.active == nil || a.active.When().After(j.LastRun)
	return !replaced && a.e.now().Before(j.NextRun.Add(policy.MaxRetryDelay))
}

// succeed forgets former failures, unless the attempt only found that it is
// too early.
func (a *attempt) succeed(now time.Time) {
	if !a.upToDate {
		return
	}
	j := a.job
	done := a.activated || a.cleared || a.stagedComplete()
	if done && len(j.Trials) > 0 {
		j.LastRun, j.FailedChallenge, j.Failed = now.UTC(), "", nil
		j.Tell(now, "renewed", "")
	}
	j.Errors, j.StoreErrors, j.Waits, j.Blocks, j.NextRun = 0, 0, 0, 0, time.Time{}
	j.LastError, j.LastProblem, j.Permanent = "", "", false
	j.CA, j.Trials, j.Left = "", nil, 0
	j.Part = ""               // it is all that is wanted by now
	if a.task.restore != "" { // it is not to be replaced at once
		j.LastRun = now.UTC()
		j.NextRun = now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter())).UTC()
	}
}

// postpone has a renewal that was vetoed, or refused, before it began begin
// later: a CA that was not asked has not had its share of the time.
func (a *attempt) postpone() {
	if j := a.job; j.Errors+j.Waits+j.Blocks == 0 && !a.ordered() {
		j.CA, j.Trials, j.Left = "", nil, 0
	}
}

// ordered reports whether something was ordered since the renewal began. What is
// staged may be older: a Renew that has failed leaves its order.
func (a *attempt) ordered() bool {
	var began time.Time
	for _, t := range a.job.Trials {
		if began.IsZero() || t.Since.Before(began) {
			began = t.Since
		}
	}
	return a.staged != nil && slices.ContainsFunc(a.staged.Credentials, func(c record.Credential) bool {
		return !c.When.Before(began.Truncate(time.Second)) // as it is written in Sets
	})
}

// showWaiting has the status tell of certificates that wait for activation.
func (a *attempt) showWaiting() {
	var w *waitingSet
	if a.written != nil && a.stagedComplete() {
		if hash, err := a.staged.Hash(); err == nil {
			w = &waitingSet{hash: hash, certs: certificatesOf(a.staged)}
		}
	}
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	if a.written != nil {
		a.d.waiting, a.d.activateAt = w, a.activateAt
	}
}

// saveJob writes the Job if the Store has another, and shows it in the
// status. One that cannot be written is obeyed all the same.
func (a *attempt) saveJob(ctx context.Context) {
	if a.written != nil {
		err := a.putJob(ctx)
		a.countPanic(err)
		a.unsaved = err != nil
		if err != nil {
			a.log.Warn("the Domain's job could not be written; it is kept in memory", "error", err)
		}
	}
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	a.d.job, a.d.jobVersion, a.d.unsaved = a.job.Clone(), a.jobVersion, a.unsaved
	a.d.reconfigured = a.d.reconfigured && a.job.For != a.d.def.print
}

// soon is how long what is due may wait for nothing but the next look, where
// certificates are in use: the shorter the rest of their life, the less.
func (a *attempt) soon(now time.Time) time.Duration {
	if a.active == nil {
		return math.MaxInt64
	}
	return max(a.left(now)/10, time.Minute, a.e.tick())
}

// nextLook is when to look at the Domain again.
func (a *attempt) nextLook(result outcome, now time.Time) time.Time {
	part := a.partAt(now)
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	var at time.Time
	switch result {
	case interrupted:
		at = now.Add(a.e.leaseTTL())
	case vetoed:
		at = a.vetoedUntil
	case failed, waiting: // looked at before, so that somebody is warned
		at = earlier(a.job.NextRun, now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter())))
		at = a.d.errand(at, now)
	default:
		at = a.e.nextLook(a.d)
	}
	at = earlierOf(a.d.keysWanted(at), part)
	if a.d.held != nil || a.leftover { // the Store may do it any time
		at = earlier(at, now.Add(a.e.tick()))
	}
	return at
}

// errand is at, or before that the earliest moment to come at which something
// is to be done that does not wait for the next attempt to renew. e.mu is held.
func (d *domain) errand(at, now time.Time) time.Time {
	for _, t := range []time.Time{d.firstWarning(now), d.job.AnnounceAt, d.job.CleanUpAt, d.job.RevokeAt} {
		if t.After(now) {
			at = earlier(at, t)
		}
	}
	return at
}

// lookAgain says when to look at d next; who ends the attempt schedules it.
func (e *Engine) lookAgain(d *domain, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.due = at
}
