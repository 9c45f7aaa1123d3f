package policy

import "time"

// DefaultFailover is after how many failures in a row at one CA the next one
// is tried.
const DefaultFailover = 13

// shortBlock is a time that even a Domain without certificate waits for.
const shortBlock = 5 * time.Minute

// Trial is how it went at one CA since the renewal began.
type Trial struct {
	Failures int       // in a row, that were about more than a name
	Since    time.Time // when it was first asked; zero: it was not
	Blocked  time.Time // the CA allows no order before this
}

// Chance says which CA to ask: the current one, or the next in the list.
//
// It is the next after failover failures in a row (zero or less means
// DefaultFailover), or when a quarter of the time is gone, or will be before
// the CA allows another order. Time is what was left at the start of the
// renewal. Where nothing was left, or there is no certificate yet, it is the
// next as soon as the CA does not allow an order for some minutes.
func Chance(cas []string, current string, trials map[string]Trial, left time.Duration, failover int, now time.Time) string {
	if len(cas) == 0 {
		return ""
	}
	if failover <= 0 {
		failover = DefaultFailover
	}
	at := 0
	for i, ca := range cas {
		if ca == current {
			at = i
		}
	}
	t := trials[cas[at]]
	stuck := left <= 0 && t.Blocked.Sub(now) > shortBlock
	late := stuck || left > 0 && !t.Since.IsZero() && laterOf(now, t.Blocked).Sub(t.Since) >= left/4
	if t.Failures >= failover || late {
		at = (at + 1) % len(cas)
	}
	return cas[at]
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
