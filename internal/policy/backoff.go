package policy

import (
	"math"
	"time"
)

// The delays between attempts.
const (
	// DefaultRetryDelay is the base of the back-off.
	DefaultRetryDelay = 30 * time.Second
	// MaxRetryDelay is the longest delay of our own, and that after a
	// permanent problem.
	MaxRetryDelay = 24 * time.Hour
	// urgentDelay is the longest delay, but for jitter, where there is no
	// certificate in date, and nobody says that soon is no use.
	urgentDelay = 4 * time.Hour
	// costlyDelay is the base after a certificate that cannot be used.
	costlyDelay = time.Hour
	// longestWait is the longest delay that a CA is given: its limits refill
	// within a week.
	longestWait = 7 * 24 * time.Hour
	// maxDoublings bounds the work, whatever count is read from the Store.
	maxDoublings = 64
)

// Backoff is the delay before the next attempt after errors failures in a
// row: base doubled for each failure after the first, with a jitter of ±50 %,
// at most MaxRetryDelay. A base of zero or less means DefaultRetryDelay, one
// over MaxRetryDelay means that. Jitter is drawn by the caller from [0, 1).
// The delay is never under half of the base, for any count.
func Backoff(base time.Duration, errors int, jitter float64) time.Duration {
	if base <= 0 {
		base = DefaultRetryDelay
	}
	base = min(base, MaxRetryDelay)
	doublings := min(max(errors, 1)-1, maxDoublings)
	delay := base
	for range doublings {
		delay = min(2*delay, MaxRetryDelay)
	}
	return min(scatter(delay, jitter), MaxRetryDelay)
}

// scatter moves a duration by up to half of it in either direction. One of
// over 146 years, which only stands for never, counts as 146 years: more could
// overflow.
func scatter(d time.Duration, jitter float64) time.Duration {
	if math.IsNaN(jitter) {
		jitter = 0
	}
	jitter = min(max(jitter, 0), 1)
	d = min(d, math.MaxInt64/2)
	return d/2 + time.Duration(float64(d)*jitter)
}

// CheckDelay is the time to the next regular look: interval with a jitter of
// ±50 %, drawn by the caller from [0, 1). An interval of zero or less means
// 12 hours. The delay is never under half of the interval, up to 146 years.
func CheckDelay(interval time.Duration, jitter float64) time.Duration {
	if interval <= 0 {
		interval = 12 * time.Hour
	}
	return scatter(interval, jitter)
}

// Failure is what policy must know of a failed attempt.
type Failure struct {
	// Permanent: trying again soon is no use.
	Permanent bool
	// RetryAt is when the CA wants to hear from us again; zero: it did not say.
	RetryAt time.Time
	// Costly: the attempt has spent a certificate that cannot be used. There
	// are few of them in a CA's limits.
	Costly bool
	// Left is what is left of the life of the certificates in use; zero: there
	// are none, or they have expired.
	Left time.Duration
	// Lacking: a name has no certificate in date, though others have.
	Lacking bool
}

// Retry is when the next attempt may be made after errors failures in a row:
// after a permanent problem in a day, and in any case while there is time for
// some attempts more.
// What the CA has asked for is obeyed, up to a week.
func Retry(f Failure, base time.Duration, errors int, now time.Time, jitter float64) time.Time {
	if f.Costly {
		base = max(base, costlyDelay)
	}
	if f.Permanent { // soon is no use
		base = max(base, costlyDelay)
	}
	delay := Backoff(base, errors, jitter)
	if f.Permanent {
		delay = MaxRetryDelay
	}
	if f.Left > 0 { // there must be time for some attempts more
		delay = min(delay, max(f.Left/10, Backoff(base, 1, jitter)))
	}
	if (f.Left <= 0 || f.Lacking) && !f.Permanent { // nothing that is in date is served meanwhile
		delay = min(delay, max(scatter(urgentDelay, jitter), Backoff(base, 1, jitter)))
	}
	at := now.Add(delay)
	if f.RetryAt.After(at) {
		at = f.RetryAt
	}
	if last := now.Add(longestWait); at.After(last) {
		at = last
	}
	return at
}

// Look is when to look at an order again of which the CA has said that it takes
// until at. Left is as for Failure. A look costs none of a CA's limits: it is not
// put off to the end of the certificates in use, but made when half of what is
// left of their life is over; where nothing is in date, every few hours.
func Look(at time.Time, left time.Duration, now time.Time, jitter float64) time.Time {
	last := now.Add(scatter(urgentDelay, jitter))
	if left > 0 {
		last = now.Add(max(left/2, shortBlock))
	}
	if at.After(last) {
		return last
	}
	return at
}
