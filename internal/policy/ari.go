package policy

import "time"

// ARI is what a CA says about when to renew a certificate (RFC 9773 §4.2),
// and the moment that was drawn from it.
type ARI struct {
	Start, End time.Time
	At         time.Time // drawn once for each window
}

// shortWindow is the length below which the moment is drawn from the front
// half of the window, so that an attempt and some repetitions fit into it:
// a CA exempts renewals within the window from its limits.
const shortWindow = 12 * time.Hour

// Draw draws the moment to renew from a window (RFC 9773 §4.2); share is
// drawn by the caller from [0, 1). The window must have a length.
func Draw(start, end time.Time, share float64) ARI {
	share = min(max(share, 0), 1)
	length := end.Sub(start)
	if length < shortWindow {
		share /= 2
	}
	return ARI{Start: start, End: end, At: start.Add(time.Duration(float64(length) * share)).Truncate(time.Second)}
}

// The part of a lifetime in which the CA may choose the moment.
const (
	ariEarliest = 50 // percent
	ariLatest   = 85
)

// withARI is when to renew a certificate for which the CA has suggested a
// moment. A window that has passed is obeyed at once: that is how a CA tells
// that a certificate will be revoked. Otherwise the CA decides between half
// and 85 % of the lifetime; where the user has chosen a window, it can only
// be earlier than that.
func (r Rules) withARI(c Certificate, now time.Time) time.Time {
	at := r.windowBegins(c)
	if c.ARI == nil || !c.ARI.End.After(c.ARI.Start) {
		return at
	}
	if !now.Before(c.ARI.End) {
		return c.ARI.End
	}
	life := c.life()
	suggested := c.ARI.At
	if soonest := c.NotBefore.Add(life / 100 * ariEarliest); suggested.Before(soonest) {
		suggested = soonest
	}
	if latest := c.NotBefore.Add(life / 100 * ariLatest); suggested.After(latest) {
		suggested = latest
	}
	if r.Window != nil && at.Before(suggested) {
		return at
	}
	return suggested
}
