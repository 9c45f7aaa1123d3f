package engine

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
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
	if result == waiting && a.job.Waits >= maxWaits {
		result = failed
	}
	// What has happened is written down, and told, even if ctx has ended.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.e.hookGrace())
	defer cancel()
	if ctx.Err() != nil {
		ctx = late
	}
	now := a.e.now()
	if result == failed || result == succeeded && a.satisfied {
		a.job.For = a.def.print
	}
	switch result {
	case succeeded:
		a.succeed(now)
	case failed:
		a.fail(ctx, err, now)
	case waiting:
		a.wait(err)
	}
	a.showWaiting()
	a.saveJob(late)
	a.tellAll(ctx, result, err)
	a.saveJob(ctx)
	a.e.lookAgain(a.d, a.nextLook(result, now))
	return err
}

// tellAll tells the Notifier what the attempt has led to.
func (a *attempt) tellAll(ctx context.Context, result outcome, err error) {
	if result == failed {
		_ = a.tell(ctx, time.Hour, status.Event{
			Kind: status.Errored, Err: err, Attempts: a.job.Errors, NextAttempt: a.job.NextRun,
		})
	}
	if result != interrupted { // whether there is something to renew by now or not
		a.announce(ctx)
	}
	if a.activated {
		a.e.tellInstalled(ctx, a.d)
	}
	if !a.satisfied || a.stagedComplete() { // what waits does not help what is in use
		a.warn(ctx, result, err)
	}
}

// warn raises Expiring, once a day, for certificates that are near their end
// and have not been renewed; and when a veto has lasted for a third of the
// time in which they should have been.
func (a *attempt) warn(ctx context.Context, result outcome, err error) {
	now := a.e.now()
	certs := certificatesOf(a.active)
	near := slices.ContainsFunc(certs, func(c certificate) bool {
		if !now.Before(a.def.warnAt(c)) {
			return true
		}
		begins := policy.Next(a.def.rules(), policy.Facts{Certificates: []policy.Certificate{c.Certificate}}, c.NotBefore).At
		return result == vetoed && now.Sub(begins) > c.NotAfter.Sub(begins)/3
	})
	if !near {
		return
	}
	if err == nil && a.job.LastError != "" {
		err = errors.New(a.job.LastError)
	}
	_ = a.tell(ctx, 24*time.Hour, status.Event{
		Kind: status.Expiring, Certificates: describe(certs), Err: err,
		Attempts: a.job.Errors, NextAttempt: a.job.NextRun,
	})
}

// warnAt is when the Domain's warning window for a certificate begins.
func (d *Domain) warnAt(c certificate) time.Time {
	if d.WarnWindow != (status.Window{}) {
		return d.WarnWindow.Before(c.NotBefore, c.NotAfter)
	}
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 10)
}

// succeed forgets former failures, unless the attempt only found that it is
// too early.
func (a *attempt) succeed(now time.Time) {
	if !a.satisfied {
		return
	}
	j := a.job
	done := a.activated || a.stagedComplete()
	if done && len(j.Trials) > 0 {
		j.LastRun, j.FailedChallenge = now.UTC(), ""
		j.Tell(now, "renewed", "")
	}
	j.Errors, j.Waits, j.NextRun = 0, 0, time.Time{}
	j.LastError, j.LastProblem, j.Permanent = "", "", false
	j.CA, j.Trials, j.Left = "", nil, 0
	if a.task.restore != "" { // it is not to be replaced at once
		j.NextRun = now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter())).UTC()
	}
}

// fail counts a failure and computes when to try again.
func (a *attempt) fail(ctx context.Context, err error, now time.Time) {
	j := a.job
	j.Errors++
	j.Waits = 0
	j.LastRun = now.UTC()
	j.LastError, j.LastProblem = bounded(err.Error()), ""
	if errors.Is(err, errPanic) {
		j.Panics++
	}
	f := policy.Failure{
		RetryAt: retryAt(err, now), Left: a.left(now), Costly: errors.Is(err, errBadCertificate),
	}
	count := j.Errors
	var p *acmeclient.Problem
	if errors.As(err, &p) {
		j.LastProblem = p.Type
		f.Permanent = p.Permanent()
	}
	if a.ca.URL != "" {
		a.ledger(a.ca).heard(ctx, err, a.def.Names)
		if p != nil && !p.AboutName() || errors.Is(err, errBadCertificate) { // the CA's own fault
			count = a.countFailure()
		}
	}
	j.Permanent = f.Permanent
	j.NextRun = a.inTime(policy.Retry(f, a.e.cfg.RetryDelay, count, now, a.e.jitter()), f.RetryAt, now)
	j.Tell(now, "renewal-error", j.LastError)
	a.log.Error("renewal failed", "error", err, "attempts", j.Errors, "next", j.NextRun)
}

// wait notes what the CA, or its limits, let us wait for.
func (a *attempt) wait(err error) {
	now := a.e.now()
	var blocked *blockedError
	if errors.As(err, &blocked) {
		a.job.NextRun = a.inTime(blocked.until, blocked.until, now)
		a.job.LastError, a.job.Permanent = bounded(err.Error()), blocked.parked
	} else {
		a.job.Waits++
		at := retryAt(err, now)
		a.job.NextRun = a.inTime(at, at, now)
	}
	a.log.Info("waiting for the CA", "until", a.job.NextRun, "why", err)
}

// countFailure counts a failure that is the CA's own fault, and returns the
// count that the back-off goes by: the CA's own, and when all CAs have been
// asked before, each one's share of all failures.
func (a *attempt) countFailure() int {
	t := a.job.Trials[a.ca.URL]
	t.Failures++
	a.job.Trials[a.ca.URL] = t
	if t.Turns > 1 {
		return max(t.Failures, a.job.Errors/len(a.def.CAs))
	}
	return t.Failures
}

// inTime is the moment of the next attempt: at, but where there is another CA
// to turn to, no later than the moment to do that. Blocked is when the CA in
// use wants to be asked again, zero if it has not said.
func (a *attempt) inTime(at, blocked, now time.Time) time.Time {
	t, asked := a.job.Trials[a.job.CA]
	if !asked || len(a.def.CAs) < 2 {
		return at.UTC()
	}
	t.Blocked = blocked.UTC()
	a.job.Trials[a.job.CA] = t
	next := policy.Chance(a.def.urls(), a.job.CA, a.trials(nil), a.job.Left, a.e.cfg.Failover, now)
	if a.job.Trials[next].Turns == 0 { // one that has not been asked yet
		return earlier(at, now.Add(policy.Backoff(a.e.cfg.RetryDelay, 1, a.e.jitter()))).UTC()
	}
	if turn := t.Since.Add(a.job.Left / 4); a.job.Left > 0 && turn.After(now) && turn.Before(at) {
		at = turn
	}
	return at.UTC()
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

// retryAt is when the CA wants to hear from us again, zero if it did not say.
func retryAt(err error, now time.Time) time.Time {
	var p *acmeclient.Problem
	if errors.As(err, &p) {
		return p.RetryTime(now)
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
		err := a.putJob(ctx)
		a.unsaved = err != nil
		if err != nil {
			a.log.Warn("the Domain's job could not be written; it is kept in memory", "error", err)
		}
	}
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	a.d.job, a.d.unsaved = a.job.Clone(), a.unsaved
	a.d.fresh = a.d.fresh && a.job.For != a.d.def.print
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
		at = now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter()))
	case failed, waiting: // looked at before, so that somebody is warned
		at = earlier(a.job.NextRun, now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter())))
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

// announce raises Renewed for the Set that was obtained last, until the
// Notifier accepts it.
func (a *attempt) announce(ctx context.Context) {
	a.e.mu.Lock()
	due := a.e.unannounced(a.d)
	hash, certs := a.d.newest()
	a.e.mu.Unlock()
	now := a.e.now()
	if !due || now.Before(a.job.AnnounceAt) {
		return
	}
	err := a.notify(ctx, status.Event{Kind: status.Renewed, Certificates: describe(certs)})
	j := a.job
	if err == nil {
		j.Announced, j.AnnounceErrors, j.AnnounceAt = hash, 0, time.Time{}
		return
	}
	j.AnnounceErrors++
	j.AnnounceAt = now.Add(policy.Backoff(a.e.cfg.RetryDelay, j.AnnounceErrors, a.e.jitter())).UTC()
	j.Tell(now, "notify-error", bounded(err.Error()))
}

// newest are the certificates that were obtained last. e.mu is held.
func (d *domain) newest() (hash string, certs []certificate) {
	if d.waiting != nil {
		return d.waiting.hash, d.waiting.certs
	}
	return d.hash, d.certs
}

// unannounced reports whether the Notifier has still to accept a Renewed
// event. e.mu is held.
func (e *Engine) unannounced(d *domain) bool {
	hash, _ := d.newest()
	return e.cfg.Notifier != nil && hash != "" && d.version != unstored && d.job.Announced != hash
}

// tell raises an event that is not to come more often than every so often: as
// long as the Notifier has accepted it, it counts as accepted.
func (a *attempt) tell(ctx context.Context, every time.Duration, ev status.Event) error {
	now := a.e.now()
	kind := string(ev.Kind)
	if told := a.job.Told[kind]; !told.IsZero() && !told.After(now) && now.Sub(told) < every {
		return nil
	}
	err := a.notify(ctx, ev)
	if err == nil && a.e.cfg.Notifier != nil {
		if a.job.Told == nil {
			a.job.Told = make(map[string]time.Time)
		}
		a.job.Told[kind] = now.UTC()
	}
	return err
}

// notify raises an event of the attempt's Domain. The error is the Notifier's;
// where there is a veto, it is nil unless it is one.
func (a *attempt) notify(ctx context.Context, ev status.Event) error {
	ev.ExplanationURL = explanation(a.job)
	ev.CA = a.ca.URL
	err := a.e.notify(ctx, a.d, ev)
	canVeto := ev.Kind == status.Renewing || ev.Kind == status.ChallengeSetup
	if canVeto && !errors.Is(err, status.ErrVeto) {
		return nil
	}
	return err
}

// notifyLimit bounds what a Notifier may take for one event.
const notifyLimit = time.Minute

// notify raises an event, and logs the Notifier's error.
func (e *Engine) notify(ctx context.Context, d *domain, ev status.Event) error {
	if e.cfg.Notifier == nil {
		return nil
	}
	e.mu.Lock()
	def := d.def
	e.mu.Unlock()
	ev.Domain, ev.Names, ev.Time = def.Name, slices.Clone(def.Names), e.now()
	ev.CA = cmp.Or(ev.CA, def.CAs[0].URL)
	ctx, cancel := context.WithTimeout(ctx, notifyLimit)
	defer cancel()
	err := e.hook(ctx, "the Notifier with "+string(ev.Kind)+" of "+def.Name, func(ctx context.Context) error {
		return e.cfg.Notifier.Notify(ctx, ev)
	})
	if err != nil {
		e.log.Warn("the Notifier returned an error", "domain", def.Name, "event", ev.Kind, "error", err)
	}
	return err
}
