package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/status"
)

// tellAll tells the Notifier what the attempt has led to.
func (a *attempt) tellAll(ctx context.Context, result outcome, err error) {
	if result == failed {
		_ = a.tell(ctx, time.Hour, status.Event{
			Kind: status.Errored, Err: err, Attempts: a.job.Errors, NextAttempt: a.job.NextRun,
		})
	}
	if result == succeeded {
		a.tellUnopened(ctx)
	}
	if result != interrupted { // whether there is something to renew by now or not
		a.announce(ctx)
	}
	_ = a.tellInstalled(ctx) // which is never an error
	// What waits does not help what is in use, and where somebody else renews,
	// nothing is due before somebody has asked for it.
	if !a.upToDate || a.stagedComplete() || a.def.Manual {
		a.warn(ctx, result, err)
	}
}

// tellInstalled raises Installed for what the Domain serves, if that is other
// than what the Notifier was told of. Nobody can veto what has happened.
func (a *attempt) tellInstalled(ctx context.Context) error {
	a.e.mu.Lock()
	news, certs := a.d.news || a.installed, a.d.served(a.e.now())
	a.d.news, a.installed = false, false
	a.e.mu.Unlock()
	if news {
		_ = a.notify(ctx, status.Event{Kind: status.Installed, Certificates: describe(certs)}) // it is logged
	}
	return nil
}

// bringNews has an attempt tell the Notifier that other certificates are
// served: only attempts do that, so that an event of a Domain waits for the one
// before, and what is served for no event. e.mu is held.
func (e *Engine) bringNews(d *domain) {
	d.news = true
	switch d.state {
	case working:
		d.dueAgain = true
	case idle:
		e.schedule(d, e.now())
	}
}

// warn raises Expiring, once a day, for certificates that are near their end
// and have not been renewed; and when a veto has lasted for a third of the
// time in which they should have been.
func (a *attempt) warn(ctx context.Context, result outcome, err error) {
	now := a.e.now()
	a.e.mu.Lock()
	certs := a.d.served(now)
	a.e.mu.Unlock()
	near := slices.ContainsFunc(certs, func(c certificate) bool {
		if !now.Before(a.def.warnAt(c)) {
			return true
		}
		c.ARI = suggestion(a.job, c.id)
		begins := policy.Begins(a.def.rules(), c.Certificate, now)
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
		Attempts: a.job.Errors, NextAttempt: cmp.Or(a.vetoedUntil, a.job.NextRun),
	})
}

// warnAt is when the Domain's warning window for a certificate begins.
func (d *Domain) warnAt(c certificate) time.Time {
	if d.WarnWindow != (status.Window{}) {
		return d.WarnWindow.Before(c.NotBefore, c.NotAfter)
	}
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 10)
}

// announce raises Renewed for the Set that was obtained last, until the
// Notifier accepts it.
func (a *attempt) announce(ctx context.Context) {
	a.e.mu.Lock()
	due := a.e.unannounced(a.d)
	hash, certs := a.d.newest()
	a.e.mu.Unlock()
	now := a.e.now()
	if !due || now.Before(a.job.AnnounceAt) && hash != a.accepted {
		return
	}
	var err error
	if hash != a.accepted {
		err = a.notify(ctx, status.Event{Kind: status.Renewed, Certificates: describe(certs)})
	}
	j := a.job
	if err == nil {
		j.Announced, j.AnnounceErrors, j.AnnounceAt = hash, 0, time.Time{}
		return
	}
	j.AnnounceErrors++
	j.AnnounceAt = now.Add(policy.Backoff(a.e.cfg.RetryDelay, j.AnnounceErrors, a.e.jitter())).UTC()
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
	return e.cfg.Notifier != nil && hash != "" && d.version != unstored && d.job.Announced != hash && d.job.Part != hash
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
	ev.CA = cmp.Or(origin(ev), a.ca.URL, a.e.caAt(a.def, a.job.CA).URL)
	canVeto := ev.Kind == status.Renewing || ev.Kind == status.ChallengeSetup
	if !canVeto {
		var cancel context.CancelFunc
		ctx, cancel = a.inGrace(ctx)
		defer cancel()
		if ctx.Err() != nil { // who was told before has taken it all
			return context.Cause(ctx)
		}
	}
	err := a.e.notify(ctx, a.d, ev)
	veto := canVeto && errors.Is(err, status.ErrVeto)
	a.show(ev.Kind, err, veto)
	if canVeto && !veto {
		return nil
	}
	return err
}

// show has the status tell of what the Notifier has returned.
func (a *attempt) show(kind status.Kind, err error, veto bool) {
	if err == nil {
		return
	}
	a.countPanic(err)
	what := "notify-error"
	if veto {
		what = "vetoed"
	}
	a.job.Tell(a.e.now(), what, bounded(string(kind)+": "+err.Error()))
}

// countPanic counts a panic that does not end the attempt.
func (a *attempt) countPanic(err error) {
	if errors.Is(err, errPanic) {
		a.job.Panics++
	}
}

// origin is the CA that the certificates come from of which an event tells that
// they were obtained or are served, the newest first. It may not be in use by
// now. For other events it is "".
func origin(ev status.Event) string {
	if ev.Kind != status.Renewed && ev.Kind != status.Installed || len(ev.Certificates) == 0 {
		return ""
	}
	return slices.MaxFunc(ev.Certificates, func(a, b status.Certificate) int { return a.NotBefore.Compare(b.NotBefore) }).CA
}

// inGrace is ctx or, if that has ended, one for what has happened and is told
// all the same. There is one grace for all events.
func (a *attempt) inGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return context.WithCancel(ctx)
	}
	if a.graceEnds.IsZero() {
		a.graceEnds = time.Now().Add(a.e.graceLeft() - a.e.hookGrace()/10)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), a.graceEnds)
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
