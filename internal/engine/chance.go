package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// A blockedError says that the limits of a CA forbid an attempt. Nothing has
// failed, and nothing was sent.
type blockedError struct {
	until  time.Time
	each   time.Duration // after which one more Domain may order; 0: all may
	why    string
	parked bool   // until somebody acts
	what   string // that is so; "": the CA's limits forbid an order
}

func (e *blockedError) Error() string {
	if e.parked {
		return "the CA's limits: " + e.why
	}
	return fmt.Sprintf("%s until %s: %s", cmp.Or(e.what, "the CA's limits forbid an order"), e.until.UTC().Format(time.RFC3339), e.why)
}

// choose picks the CA for this attempt: the one in use, or the next in the
// list when policy says so. If the limits of all that policy would ask forbid
// it, the error is a *blockedError.
func (a *attempt) choose(ctx context.Context) error {
	now := a.e.now()
	a.beginTrials(now)
	blocked := make(map[string]*blockedError)
	for {
		ca := a.e.caAt(a.def, policy.Chance(a.def.urls(), a.job.CA, a.trials(blocked), a.time(now), a.e.cfg.Failover, now))
		a.enter(ca, now)
		if blocked[ca.URL] != nil { // all have been asked
			a.noteBlocked(blocked)
			return soonest(blocked)
		}
		ca, err := readEAB(ctx, ca)
		if err != nil {
			a.ca = ca
			return err
		}
		noted, err := a.ledger(ca).open(ctx, a.def.Names, a.task.asked())
		var b *blockedError
		if !errors.As(err, &b) {
			a.noteBlocked(blocked)
			a.ca, a.noted, a.began = ca, noted, now
			return err
		}
		blocked[ca.URL] = b
	}
}

// noteBlocked notes until when CAs allow no order: they are not turned to
// before.
func (a *attempt) noteBlocked(blocked map[string]*blockedError) {
	for url, b := range blocked {
		t := a.job.Trials[url]
		t.Blocked = b.until.UTC()
		a.job.Trials[url] = t
	}
}

// soonest is the error that is over first.
func soonest(blocked map[string]*blockedError) *blockedError {
	var first *blockedError
	for _, b := range blocked {
		if first == nil || b.until.Before(first.until) {
			first = b
		}
	}
	return first
}

// beginTrials notes what is left of the life of the certificates in use when
// a renewal begins.
func (a *attempt) beginTrials(now time.Time) {
	if len(a.job.Trials) > 0 {
		return
	}
	a.job.CA, a.job.Left = "", a.left(now)
}

// time is what was left when the renewal began, zero once there is none.
func (a *attempt) time(now time.Time) time.Duration {
	if a.urgent(now) {
		return 0
	}
	return a.job.Left
}

// urgent reports whether a name has no certificate in date, of any of the key
// types.
func (a *attempt) urgent(now time.Time) bool {
	certs := a.served()
	return a.left(now) == 0 || slices.ContainsFunc(a.def.KeyTypes, func(t acmeclient.KeyType) bool {
		others := func(c certificate) bool { return c.KeyType != string(t) }
		return !covers(slices.DeleteFunc(slices.Clone(certs), others), a.def.Names, now)
	})
}

// left is what is left of the life of the certificates in use, zero if there
// are none or one has expired.
func (a *attempt) left(now time.Time) time.Duration {
	end := earliestEnd(a.served())
	if end.IsZero() {
		return 0
	}
	return max(end.Sub(now), 0)
}

// served are the certificates in use; if the Store has lost them, or does not
// let us read them, those that are still served.
func (a *attempt) served() []certificate {
	if a.active != nil {
		return a.inUse()
	}
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	return a.d.certs
}

// enter makes ca the one in use. One that was left before starts afresh.
func (a *attempt) enter(ca acmeclient.CA, now time.Time) {
	if a.job.CA == ca.URL {
		return
	}
	if a.job.CA != "" {
		a.log.Warn("turning to another CA", "from", a.job.CA, "to", caName(ca), "failures", a.job.Trials[a.job.CA].Failures)
		a.job.Tell(now, "failover", ca.URL)
	}
	a.job.CA = ca.URL
	if a.job.Trials == nil {
		a.job.Trials = make(map[string]record.Trial)
	}
	a.job.Trials[ca.URL] = record.Trial{Since: now.UTC(), Turns: a.job.Trials[ca.URL].Turns + 1}
}

func (a *attempt) trials(blocked map[string]*blockedError) map[string]policy.Trial {
	trials := make(map[string]policy.Trial, len(a.job.Trials))
	for url, t := range a.job.Trials {
		trials[url] = policy.Trial{Failures: t.Failures, Since: t.Since, Failing: t.Failing, Blocked: t.Blocked, Next: t.Next, Slow: t.Slow}
	}
	for url, b := range blocked {
		t := trials[url]
		t.Blocked = b.until
		trials[url] = t
	}
	return trials
}

func (d *Domain) urls() []string {
	urls := make([]string, 0, len(d.CAs))
	for _, ca := range d.CAs {
		urls = append(urls, ca.URL)
	}
	return urls
}

// caAt returns the Domain's CA with a directory URL, the first if it has none
// with that.
func (e *Engine) caAt(def *Domain, url string) acmeclient.CA {
	for _, ca := range def.CAs {
		if ca.URL == url {
			return ca
		}
	}
	return def.CAs[0]
}
