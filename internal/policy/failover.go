package policy

import (
	"slices"
	"time"
)

// DefaultFailover is after how many failures in a row at one CA the next one
// is tried.
const DefaultFailover = 13

// shortBlock is a time that even a Domain without certificate waits for.
const shortBlock = 5 * time.Minute

// urgentTurn is how long one CA may fail a Domain that has nothing in date.
const urgentTurn = time.Hour

// Trial is how it went at one CA since the renewal began.
type Trial struct {
	Failures int       // in a row, that were about more than a name
	Since    time.Time // when it was first asked; zero: it was not
	Failing  time.Time // since when it has failed, with nothing but such failures; zero: it works
	Blocked  time.Time // the CA allows no order before this
	Next     time.Time // when it would be asked again if there were no other
	Slow     bool      // it has asked for more time: an order is under way
}

// Chance says which CA to ask: the current one, or the next in the list; when
// all have been asked, the one that may be asked first: no CA is asked more
// often for there being others.
//
// It is the next after failover failures in a row (zero or less means
// DefaultFailover), or when a quarter of the time is gone, or will be before
// the CA allows another order. Left is the time that was left at the start of
// the renewal. It is zero as long as there is no certificate, and as soon as
// one has expired: then it is the next when the CA has been failing for an
// hour; and when it does not allow an order for some minutes, one that was not
// asked yet, or that does so an hour earlier. Of two slow ones, the current one
// is given its time: who leaves it loses what is under way there.
func Chance(cas []string, current string, trials map[string]Trial, left time.Duration, failover int, now time.Time) string {
	if len(cas) == 0 {
		return ""
	}
	if failover <= 0 {
		failover = DefaultFailover
	}
	at := max(slices.Index(cas, current), 0)
	t, ring := trials[cas[at]], slices.Concat(cas[at:], cas[:at])
	if t.Failures >= failover || t.late(left, now) {
		return nextOf(ring, trials, now)
	}
	if left <= 0 && t.Blocked.Sub(now) > shortBlock {
		return freeFirst(ring, trials, now)
	}
	return cas[at]
}

// nextOf is the CA behind the first that was not asked yet, or else the one
// that may be asked first, and be it the first itself.
func nextOf(cas []string, trials map[string]Trial, now time.Time) string {
	next, soonest := "", time.Time{}
	for _, ca := range slices.Concat(cas[1:], cas[:1]) {
		t := trials[ca]
		if t.Since.IsZero() {
			return ca
		}
		if free := laterOf(now, t.Free()); next == "" || free.Before(soonest) {
			next, soonest = ca, free
		}
	}
	return next
}

// freeFirst is the first of the CAs, or another that was not asked yet, or that
// takes an order much earlier.
func freeFirst(cas []string, trials map[string]Trial, now time.Time) string {
	first := cas[0]
	current := trials[first]
	until := current.Blocked.Add(-urgentTurn)
	for _, ca := range cas[1:] {
		t := trials[ca]
		if t.Since.IsZero() {
			return ca
		}
		if free := laterOf(now, t.Free()); free.Before(until) && !(current.Slow && t.Slow) {
			first, until = ca, free
		}
	}
	return first
}

// late reports whether a CA has had its share of the time.
func (t Trial) late(left time.Duration, now time.Time) bool {
	turn := t.Turn(left)
	return !turn.IsZero() && !laterOf(now, t.Blocked).Before(turn)
}

// Turn is when the next CA is asked, however this one answers; zero: not
// before it has failed. Left is as for Chance.
func (t Trial) Turn(left time.Duration) time.Time {
	switch {
	case t.Since.IsZero():
		return time.Time{}
	case left > 0:
		return t.Since.Add(left / 4)
	case t.Failing.IsZero() || t.Slow: // what is wrong would be wrong at the next CA, too
		return time.Time{}
	}
	return t.Failing.Add(urgentTurn)
}

// Free is when the CA may be asked again.
func (t Trial) Free() time.Time { return laterOf(t.Blocked, t.Next) }

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
