package policy

import "time"

// activationMargin is how long before the end of what is in use its successor
// is activated at the latest, whatever the delay.
const activationMargin = time.Hour

// Activation is when certificates that were obtained at the moment staged may
// take the place of those in use, if that is to be delayed. There is no delay
// for what lacks something, has expired or is to be revoked; and none that
// gets near the end of what is in use.
func Activation(r Rules, inUse []Certificate, staged time.Time, delay time.Duration, now time.Time) time.Time {
	if look(r, Facts{Certificates: inUse}, now).Missing {
		return now
	}
	at := staged.Add(delay)
	for _, c := range inUse {
		if c.ARI != nil && !now.Before(c.ARI.End) {
			return now
		}
		if latest := c.Latest(); at.After(latest) {
			at = latest
		}
	}
	if at.Before(now) {
		return now
	}
	return at
}

// Latest is when a certificate is to be out of use, if there is another.
func (c Certificate) Latest() time.Time {
	return c.NotAfter.Add(-min(activationMargin, c.life()/10))
}
