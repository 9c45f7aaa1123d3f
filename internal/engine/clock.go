package engine

import (
	"fmt"
	"maps"
	"time"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// clocksApart is what the clocks of processes that share a Store may differ
// by without anybody noticing.
const clocksApart = 5 * time.Minute

// setRight corrects the moments in a Job that was written by a clock that was
// ahead: a wait lasts as long as it was meant to, from here on, and not until
// a moment that is days away. It reports whether there was something to
// correct.
func setRight(j *record.Job, now time.Time) bool {
	// One far away that could not be computed by any clock is left to policy,
	// which does not believe it.
	j.CleanUpAt = notAfter(j.CleanUpAt, now.Add(policy.MaxRetryDelay))
	j.AnnounceAt = notAfter(j.AnnounceAt, now.Add(policy.MaxRetryDelay))
	j.RevokeAt = notAfter(j.RevokeAt, now.Add(policy.MaxRetryDelay))
	ahead := j.LastRun.Sub(now)
	if ahead <= clocksApart {
		return forgetAhead(j, now)
	}
	j.LastRun = now.UTC()
	j.NextRun = sooner(j.NextRun, ahead)
	for url, t := range j.Trials {
		t.Since, t.Failing = sooner(t.Since, ahead), sooner(t.Failing, ahead)
		t.Blocked, t.Next = sooner(t.Blocked, ahead), sooner(t.Next, ahead)
		j.Trials[url] = t
	}
	return true
}

// forgetAhead has renewals begin again that have begun by a clock that was
// ahead, in attempts of which no end was written down: what was left of the
// time then was less than is left. It reports whether there were any.
func forgetAhead(j *record.Job, now time.Time) bool {
	n := len(j.Trials)
	maps.DeleteFunc(j.Trials, func(_ string, t record.Trial) bool { return t.Since.Sub(now) > clocksApart })
	if _, asked := j.Trials[j.CA]; !asked {
		j.CA = ""
	}
	return len(j.Trials) < n
}

// wrongClock says so if a certificate that has just come is out of date: then
// our clock is wrong, or the CA's.
func wrongClock(c *record.Credential, now time.Time) error {
	leaf, err := c.Leaf()
	if err != nil || !leaf.NotBefore.After(now.Add(clocksApart)) && now.Before(leaf.NotAfter) {
		return nil
	}
	return fmt.Errorf("it has just been issued, for the time from %s to %s, but this machine's clock says %s: the clock is probably wrong",
		leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// sooner moves a moment that is set.
func sooner(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-by).UTC()
}

func notAfter(t, last time.Time) time.Time {
	if t.After(last) {
		return last.UTC()
	}
	return t
}
