package engine

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
)

// fail counts a failure and computes when to try again.
func (a *attempt) fail(ctx context.Context, err error, now time.Time) {
	j := a.job
	j.Errors++
	j.Blocks = 0
	if !errors.Is(err, acmeclient.ErrWait) {
		j.Waits = 0
	}
	j.LastRun = now.UTC()
	j.LastError, j.LastProblem = bounded(err.Error()), ""
	if errors.Is(err, errPanic) {
		j.Panics++
	}
	f := policy.Failure{
		RetryAt: a.retryAt(err, now), Left: a.left(now), Lacking: a.urgent(now), Costly: errors.Is(err, errBadCertificate),
	}
	count := j.Errors
	if errors.As(err, new(*storeError)) {
		// It is tried again soon after it has begun to fail, however long a
		// CA has failed before.
		j.StoreErrors++
		count = j.StoreErrors
	} else {
		j.StoreErrors = 0
	}
	var p *acmeclient.Problem
	if errors.As(err, &p) {
		j.LastProblem = p.Type
		f.Permanent = p.Permanent()
	}
	var rehearsal *rehearsalError
	switch {
	case errors.As(err, &rehearsal):
		a.ledger(rehearsal.ca).heard(ctx, err, a.def.Names)
	case a.ca.URL != "":
		a.ledger(a.ca).heard(ctx, err, a.def.Names)
		count = a.judge(err, p, count, now)
	}
	j.Permanent = f.Permanent
	at := policy.Retry(f, a.e.cfg.RetryDelay, count, now, a.e.jitter())
	switch {
	case a.ca.URL == "", j.StoreErrors > 0: // no CA has anything to do with it
		j.NextRun = at.UTC()
	case p != nil, f.Costly:
		a.said(f.RetryAt, errors.Is(err, acmeclient.ErrWait))
		j.NextRun = a.inTime(at, now)
	default:
		j.NextRun = a.inTime(at, now)
	}
	j.Tell(now, "renewal-error", j.LastError)
	a.log.Error("renewal failed", "error", err, "attempts", j.Errors, "next", j.NextRun)
}

// judge notes whether a failure is the fault of the CA that was asked, and
// returns the count that the back-off goes by.
func (a *attempt) judge(err error, p *acmeclient.Problem, count int, now time.Time) int {
	switch {
	case p != nil && !p.AboutName(), errors.Is(err, errBadCertificate), errors.As(err, new(*eabError)): // the CA's own fault
		return a.countFailure(now)
	case p != nil: // it has looked at the name, and so it works
		t := a.job.Trials[a.ca.URL]
		t.Failing = time.Time{}
		a.job.Trials[a.ca.URL] = t
	}
	return count
}

// wait notes what the CA, or its limits, let us wait for.
func (a *attempt) wait(err error) {
	now := a.e.now()
	a.job.LastRun, a.job.StoreErrors = now.UTC(), 0
	var blocked *blockedError
	if errors.As(err, &blocked) {
		a.job.Blocks++
		at := blocked.until.Add(a.stagger(blocked, now))
		if blocked.each > 0 { // the next slot is for whoever comes first; this Domain's is later
			a.said(at, false)
		} else {
			a.said(blocked.until, false)
		}
		a.job.NextRun = a.inTime(at, now)
		a.job.LastError, a.job.Permanent = bounded(err.Error()), blocked.parked
	} else {
		a.job.Waits++
		if a.job.Permanent { // what needed somebody to act is over: the CA works for us
			a.job.LastError, a.job.LastProblem, a.job.Permanent = "", "", false
		}
		at := a.retryAt(err, now)
		a.said(at, true)
		a.job.NextRun = a.inTime(at, now)
	}
	a.log.Info("waiting for the CA", "until", a.job.NextRun, "why", err)
}

// stagger is how much longer than to its end a Domain waits for a limit. Many
// Domains may wait for the same one: they are not to come back at one moment,
// only to have all but the first wait again.
func (a *attempt) stagger(b *blockedError, now time.Time) time.Duration {
	delay := policy.Backoff(cmp.Or(b.each, a.e.cfg.RetryDelay), a.job.Blocks, a.e.jitter())
	if left := a.left(now); left > 0 {
		delay = min(delay, left/20)
	}
	return delay
}

// countFailure counts a failure that is the CA's own fault, and returns the
// count that the back-off goes by: the CA's own, and when all CAs have been
// asked before, each one's share of all failures.
func (a *attempt) countFailure(now time.Time) int {
	t := a.job.Trials[a.ca.URL]
	t.Failures++
	if t.Failing.IsZero() {
		t.Failing = now.UTC()
	}
	a.job.Trials[a.ca.URL] = t
	if t.Turns > 1 {
		return max(t.Failures, a.job.Errors/len(a.def.CAs))
	}
	return t.Failures
}

// said notes what the CA in use has said: when it wants to be asked again, zero
// if it has not said; and that it is slow: it has an order.
func (a *attempt) said(blocked time.Time, slow bool) {
	if t, asked := a.job.Trials[a.job.CA]; asked {
		t.Blocked, t.Slow = blocked.UTC(), slow
		a.job.Trials[a.job.CA] = t
	}
}

// inTime is the moment of the next attempt: at, but where there is another CA
// to turn to, no later than the moment to do that.
func (a *attempt) inTime(at, now time.Time) time.Time {
	t, asked := a.job.Trials[a.job.CA]
	if !asked || len(a.def.CAs) < 2 {
		return at.UTC()
	}
	t.Next = at.UTC()
	a.job.Trials[a.job.CA] = t
	left, trials := a.time(now), a.trials(nil)
	chance := func(now time.Time) string {
		return policy.Chance(a.def.urls(), a.job.CA, trials, left, a.e.cfg.Failover, now)
	}
	turn := now
	if chance(now) == a.job.CA {
		if turn = trials[a.job.CA].Turn(left); !turn.After(now) || !turn.Before(at) {
			return at.UTC()
		}
	}
	next := chance(turn)
	if next == a.job.CA {
		return at.UTC()
	}
	for _, t := range []time.Time{trials[next].Free(), now.Add(policy.Backoff(a.e.cfg.RetryDelay, 1, a.e.jitter()))} {
		turn = earlier(at, later(turn, t))
	}
	return turn.UTC()
}

// retryAt is when the CA wants to hear from us again, zero if it did not say. An
// order that is under way is looked at before it is too late.
func (a *attempt) retryAt(err error, now time.Time) time.Time {
	var p *acmeclient.Problem
	if !errors.As(err, &p) {
		return time.Time{}
	}
	at := p.RetryTime(now)
	if errors.Is(err, acmeclient.ErrWait) {
		left := a.left(now)
		if a.urgent(now) {
			left = 0
		}
		at = policy.Look(at, left, now, a.e.jitter())
	}
	return at
}

// bounded cuts a text that goes into the Store.
func bounded(s string) string {
	const most = 4 << 10
	return s[:min(len(s), most)]
}
