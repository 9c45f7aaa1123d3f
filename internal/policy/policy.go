// Package policy decides what is due, and when to look again.
//
// It has no hands: everything it knows is given to it, the moment included,
// and everything it says is a value. So a table can test it, and what was
// decided can be told from what was known.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rules are what is wanted of a Domain.
type Rules struct {
	// Names are the DNS names to cover, in ASCII.
	Names []string
	// KeyTypes are the types of which there must be a certificate each: one
	// or more, none twice.
	KeyTypes []string
	// Window says when the time to renew begins for a certificate's
	// validity; nil stands for DefaultWindow. What it says is obeyed if it is
	// not in the first tenth of the validity, or before it: a window of 30
	// days is not meant for a certificate that lives for six, which would be
	// due when it comes.
	Window func(notBefore, notAfter time.Time) time.Time
	// Manual: nothing is due unless somebody has asked for it.
	Manual bool
	// Restless: what is forced is done without a rest between two
	// certificates. Tests need it.
	Restless bool
}

// Facts are what is known of a Domain.
type Facts struct {
	Certificates []Certificate
	// NotBefore is the earliest moment of the next attempt, after a failure.
	// One further away than Retry ever says was written by a wrong clock, and
	// is not obeyed.
	NotBefore time.Time
	// Forced: somebody asked for new certificates. It also overrides NotBefore.
	Forced bool
	// Revoked: the certificates are, or will be, of no use. It is as if they
	// were not there.
	Revoked bool
	// CA is the one to be asked. The rest between two certificates for the
	// same names is one between those of one CA.
	CA string
}

// Certificate is one certificate in use.
type Certificate struct {
	KeyType             string
	Names               []string
	NotBefore, NotAfter time.Time
	// Issued is when it came, by our own clock; zero if that is not known. It
	// is not renewed within ten minutes or a hundredth of its lifetime,
	// whichever is longer, but half of its lifetime at most: neither a wrong
	// clock nor a CA that issues what is due already makes us order all the
	// time.
	Issued time.Time
	// CA is where it comes from.
	CA string
	// ARI is what that CA says about when to renew it, nil if nothing.
	ARI *ARI
}

// Decision is what follows from rules and facts.
type Decision struct {
	// KeyTypes are those to order now; empty means nothing is to be done.
	KeyTypes []string
	// Reason says why, in words for people. It is also given while an
	// attempt has to wait.
	Reason string
	// Missing: what is in use lacks a certificate or a name, so that waiting
	// for the next deadline is no choice.
	Missing bool
	// At is the moment of the next attempt: now or later.
	At time.Time
}

// Due reports whether there is something to order now.
func (d Decision) Due() bool { return len(d.KeyTypes) > 0 }

// shortLife is the lifetime below which certificates are renewed at half of
// it instead of two thirds.
const shortLife = 10 * 24 * time.Hour

// DefaultWindow begins when a third of the lifetime is left, or half of it
// for lifetimes under ten days, which leave less time for trouble.
func DefaultWindow(notBefore, notAfter time.Time) time.Time {
	life := notAfter.Sub(notBefore)
	if life <= 0 {
		return notAfter
	}
	if life < shortLife {
		return notAfter.Add(-life / 2)
	}
	return notAfter.Add(-life / 3)
}

// Next decides what is due for a Domain at the moment now.
func Next(r Rules, f Facts, now time.Time) Decision {
	d := look(r, f, now)
	if d.At.IsZero() {
		d.At = now
	}
	if r.Manual && !f.Forced && !f.Revoked && (d.Due() || !d.At.After(now)) {
		d.KeyTypes, d.At = nil, now.AddDate(1, 0, 0)
	}
	if d.Due() && !f.Forced && now.Before(f.NotBefore) && believable(f.NotBefore, now) {
		d.KeyTypes, d.At = nil, f.NotBefore
	}
	return d
}

// believable reports whether the moment of the next attempt can come from
// Retry, by a clock that differs from ours by less than a day.
func believable(next, now time.Time) bool {
	return !next.After(now.Add(longestWait + 24*time.Hour))
}

// look decides without regard to former failures. At stays zero if the time
// is now.
func look(r Rules, f Facts, now time.Time) Decision {
	if f.Revoked {
		return Decision{KeyTypes: slices.Clone(r.KeyTypes), Reason: "what there is is to be revoked", Missing: true}
	}
	if f.Forced {
		return r.forced(f, now)
	}
	var d Decision
	var due []string // why, for each key type
	for _, t := range r.KeyTypes {
		cert, why := r.fault(f.Certificates, t)
		if cert == nil || why != "" {
			d.Missing = true
		}
		if cert != nil && why == "" {
			at := r.renewAt(*cert, now)
			if now.Before(at) {
				d.At = earliest(d.At, at)
				continue
			}
			why = "its time to renew has come"
			if !now.Before(cert.NotAfter) {
				why = "it has expired"
			}
		}
		d.KeyTypes = append(d.KeyTypes, t)
		due = append(due, fmt.Sprintf("certificate (%s): %s", t, why))
	}
	if d.Due() {
		d.At = time.Time{}
		d.KeyTypes = r.along(f, d, now)
	}
	d.Reason = strings.Join(due, "; ")
	return d
}

// forced decides what is done because somebody asked for it: all, once the
// rest between two certificates is over.
func (r Rules) forced(f Facts, now time.Time) Decision {
	for _, t := range r.KeyTypes {
		cert, why := r.fault(f.Certificates, t)
		if r.Restless || cert == nil || why != "" || f.CA != cert.CA || len(cert.Names) != len(r.Names) {
			continue
		}
		if rest := cert.restUntil(now); now.Before(rest) {
			return Decision{At: rest, Reason: fmt.Sprintf(
				"a %s certificate for the same names was issued at %s; the next can be ordered at %s",
				t, cert.Issued.UTC().Format(time.RFC3339), rest.UTC().Format(time.RFC3339))}
		}
	}
	return Decision{KeyTypes: slices.Clone(r.KeyTypes), Reason: "it was asked for"}
}

// fault finds the certificate of a key type, and says what it lacks.
func (r Rules) fault(certs []Certificate, keyType string) (*Certificate, string) {
	i := slices.IndexFunc(certs, func(c Certificate) bool { return c.KeyType == keyType })
	if i < 0 {
		return nil, "it is missing"
	}
	for _, name := range r.Names {
		if !Covers(certs[i].Names, name) {
			return &certs[i], "it does not cover " + name
		}
	}
	return &certs[i], ""
}

// renewAt is when the time to renew a certificate begins, and never after
// its end.
func (r Rules) renewAt(c Certificate, now time.Time) time.Time {
	at := r.withARI(c, now)
	if rest := c.restUntil(now); at.Before(rest) {
		at = rest
	}
	if at.After(c.NotAfter) {
		at = c.NotAfter
	}
	// One that came with its end in the past is not ordered again at once.
	if rest := c.Issued.Add(leastRest); !c.restUntil(now).IsZero() && at.Before(rest) && c.life() > 2*leastRest {
		at = rest
	}
	return at
}

// Begins is when the time to renew a certificate that is in use begins, as is
// known now. What there should be beside it has no say.
func Begins(r Rules, c Certificate, now time.Time) time.Time { return r.renewAt(c, now) }

// windowBegins is when the window begins in which a certificate is renewed.
func (r Rules) windowBegins(c Certificate) time.Time {
	if r.Window != nil {
		if t := r.Window(c.NotBefore, c.NotAfter); t.After(c.NotBefore.Add(c.life() / 10)) {
			return t
		}
	}
	return DefaultWindow(c.NotBefore, c.NotAfter)
}

func (c Certificate) life() time.Duration { return max(c.NotAfter.Sub(c.NotBefore), 0) }

// restUntil is the moment before which a certificate is not renewed, whatever
// its window. One that is said to come from the future sets no bound: it would
// keep us from renewing in time.
func (c Certificate) restUntil(now time.Time) time.Time {
	if c.Issued.IsZero() || c.Issued.After(now) {
		return time.Time{}
	}
	return c.Issued.Add(min(max(leastRest, c.life()/100), c.life()/2))
}

// leastRest is the shortest time between two certificates for the same names,
// for all but the shortest lifetimes.
const leastRest = 10 * time.Minute

// along adds key types that are not due but will be within a twentieth of
// their lifetime: certificates that were ordered in one attempt are renewed
// in one, although the window of the second begins seconds later.
func (r Rules) along(f Facts, d Decision, now time.Time) []string {
	var types []string
	for _, t := range r.KeyTypes {
		cert, why := r.fault(f.Certificates, t)
		soon := cert != nil && why == "" && !d.Missing && !now.Before(cert.restUntil(now)) &&
			!now.Before(r.renewAt(*cert, now).Add(-cert.life()/20))
		if soon || slices.Contains(d.KeyTypes, t) {
			types = append(types, t)
		}
	}
	return types
}

// Covers reports whether a certificate with the given DNS names is good for
// name: by the same name, or by a wildcard for its first label (RFC 9525
// §6.3). As clients do, it does not tell upper from lower case (RFC 4343):
// a CA may write names as it likes, and a certificate that all clients accept
// must not be ordered again and again.
func Covers(names []string, name string) bool {
	wildcard := name
	if first, parent, ok := strings.Cut(name, "."); ok && first != "" && !strings.Contains(name, "*") {
		wildcard = "*." + parent
	}
	return slices.ContainsFunc(names, func(n string) bool {
		return strings.EqualFold(n, name) || strings.EqualFold(n, wildcard)
	})
}

// Stale reports whether a staged Set should not take the place of the active
// one: it would have to be renewed at once, and the active one would not.
func Stale(r Rules, staged, active []Certificate, now time.Time) bool {
	return Next(r, Facts{Certificates: staged}, now).Due() &&
		!Next(r, Facts{Certificates: active}, now).Due()
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
