package engine

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/status"
)

// outcome is what an attempt's end means for the next one.
type outcome int

const (
	succeeded   outcome = iota // also when there was nothing to do
	interrupted                // by us: it counts as nothing, and goes on later
	waiting                    // for a time that the CA has named
	vetoed                     // by the Notifier
	failed
)

func outcomeOf(ctx context.Context, err error) outcome {
	switch {
	case err == nil:
		return succeeded
	case errors.Is(err, errVetoed):
		return vetoed
	case errors.Is(ctx.Err(), context.Canceled): // the end of Run, or of the lease
		return interrupted
	case errors.Is(err, acmeclient.ErrWait):
		return waiting
	}
	return failed
}

// conclude writes down how the attempt ended, says in d.due when to look
// again, and tells the Notifier. It returns err.
func (a *attempt) conclude(ctx context.Context, err error) error {
	result := outcomeOf(ctx, err)
	// What has happened is written down even if ctx has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.e.hookGrace())
	defer cancel()
	now := a.e.now()
	switch result {
	case succeeded:
		a.succeed(now)
	case failed:
		a.fail(err, now)
	case waiting:
		a.job.NextRun = retryAt(err)
		a.log.Info("the CA needs time", "until", a.job.NextRun, "error", err)
	}
	a.saveJob(ctx)
	switch {
	case result == failed:
		_ = a.notify(ctx, status.Event{
			Kind: status.Errored, Err: err, Attempts: a.job.Errors, NextAttempt: a.job.NextRun,
		})
	case a.satisfied:
		a.announce(ctx)
	}
	if a.renewed {
		a.e.tellInstalled(ctx, a.d)
	}
	a.e.lookAgain(a.d, a.nextLook(result, now))
	return err
}

// succeed forgets former failures, unless the attempt only found that it is
// too early.
func (a *attempt) succeed(now time.Time) {
	if !a.satisfied {
		return
	}
	j := a.job
	j.Errors, j.NextRun = 0, time.Time{}
	j.LastError, j.LastProblem, j.Permanent = "", "", false
	if a.renewed {
		j.LastRun, j.FailedChallenge = now.UTC(), ""
		j.Tell(now, "renewed", "")
	}
}

// fail counts a failure and computes when to try again.
func (a *attempt) fail(err error, now time.Time) {
	j := a.job
	j.Errors++
	j.LastRun = now.UTC()
	j.LastError, j.LastProblem, j.Permanent = bounded(err.Error()), "", false
	f := policy.Failure{RetryAt: retryAt(err)}
	var p *acmeclient.Problem
	if errors.As(err, &p) {
		j.LastProblem = p.Type
		f.Permanent = p.Permanent()
	}
	j.Permanent = f.Permanent
	j.NextRun = policy.Retry(f, a.e.cfg.RetryDelay, j.Errors, now, jitter()).UTC()
	j.Tell(now, "renewal-error", j.LastError)
	a.log.Error("renewal failed", "error", err, "attempts", j.Errors, "next", j.NextRun)
}

// retryAt is when the CA wants to hear from us again, zero if it did not say.
func retryAt(err error) time.Time {
	var p *acmeclient.Problem
	if errors.As(err, &p) {
		return p.RetryAt
	}
	return time.Time{}
}

// bounded cuts a text that goes into the Store.
func bounded(s string) string {
	const most = 4 << 10
	return s[:min(len(s), most)]
}

// saveJob writes the Job if the Store has another, and shows it in the
// status. One that cannot be written is obeyed all the same.
func (a *attempt) saveJob(ctx context.Context) {
	if a.written != nil && !reflect.DeepEqual(a.job, a.written) {
		if err := a.putJob(ctx); err != nil {
			a.log.Warn("the Domain's job could not be written; it is kept in memory", "error", err)
		}
	}
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	a.d.job = a.job.Clone()
}

// nextLook is when to look at the Domain again.
func (a *attempt) nextLook(result outcome, now time.Time) time.Time {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	var at time.Time
	switch result {
	case interrupted:
		at = now.Add(a.e.leaseTTL())
	case vetoed:
		at = now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, jitter()))
	case failed, waiting:
		at = a.job.NextRun
	default:
		at = a.e.nextLook(a.d)
	}
	if a.d.held != nil || a.leftover { // the Store may do it any time
		at = earlier(at, now.Add(a.e.tick()))
	}
	return at
}

// lookAgain says when to look at d next; who ends the attempt schedules it.
func (e *Engine) lookAgain(d *domain, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.due = at
}

// announce raises Renewed for the active Set until the Notifier accepts it.
func (a *attempt) announce(ctx context.Context) {
	a.e.mu.Lock()
	due, hash := a.e.unannounced(a.d), a.d.hash
	a.e.mu.Unlock()
	now := a.e.now()
	if !due || now.Before(a.job.AnnounceAt) {
		return
	}
	err := a.notify(ctx, status.Event{Kind: status.Renewed, Certificates: a.e.reportCertificates(a.d)})
	j := a.job
	if err == nil {
		j.Announced, j.AnnounceErrors, j.AnnounceAt = hash, 0, time.Time{}
	} else {
		j.AnnounceErrors++
		j.AnnounceAt = now.Add(policy.Backoff(a.e.cfg.RetryDelay, j.AnnounceErrors, jitter())).UTC()
		j.Tell(now, "notify-error", bounded(err.Error()))
	}
	a.saveJob(ctx)
}

// unannounced reports whether the Notifier has still to accept a Renewed
// event for what is active. e.mu is held.
func (e *Engine) unannounced(d *domain) bool {
	return e.cfg.Notifier != nil && d.hash != "" && d.version != unstored && d.job.Announced != d.hash
}

// notify raises an event of the attempt's Domain.
func (a *attempt) notify(ctx context.Context, ev status.Event) error {
	return a.e.notify(ctx, a.d, ev)
}

// notifyLimit bounds what a Notifier may take for one event.
const notifyLimit = time.Minute

// notify raises an event. The error is the Notifier's; one that is not a veto
// where there is one is only logged.
func (e *Engine) notify(ctx context.Context, d *domain, ev status.Event) error {
	if e.cfg.Notifier == nil {
		return nil
	}
	e.mu.Lock()
	def := d.def
	e.mu.Unlock()
	ev.Domain, ev.Names, ev.CA, ev.Time = def.Name, def.Names, def.CA.URL, e.now()
	ctx, cancel := context.WithTimeout(ctx, notifyLimit)
	defer cancel()
	err := e.cfg.Notifier.Notify(ctx, ev)
	if err == nil {
		return nil
	}
	canVeto := ev.Kind == status.Renewing || ev.Kind == status.ChallengeSetup
	e.log.Warn("the Notifier returned an error", "domain", def.Name, "event", ev.Kind, "error", err)
	if canVeto && !errors.Is(err, status.ErrVeto) {
		return nil
	}
	return err
}
