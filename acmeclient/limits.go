package acmeclient

import (
	"cmp"
	"fmt"
	"time"
)

// Limits is what a CA allows before it refuses with rateLimited. Who stays below never has to find out.
type Limits struct {
	Orders       Rate // new orders of one account
	Failures     Rate // failed validations of one name by one account
	Certificates Rate // certificates for exactly the same set of names, whoever orders them
}

// A Rate is Count times in any time of length Per. A Count or Per of zero is as CA.Allowed says; a negative Count is no limit.
type Rate struct {
	Count int
	Per   time.Duration
}

// Unlimited reports whether r is no limit.
func (r Rate) Unlimited() bool { return r.Count < 0 }

// Check returns nil if l can be meant, else an error that says what is wrong with it.
func (l Limits) Check() error {
	for _, r := range []struct {
		what string
		rate Rate
	}{{"Orders", l.Orders}, {"Failures", l.Failures}, {"Certificates", l.Certificates}} {
		if r.rate.Per < 0 {
			return fmt.Errorf("the limit %s is per %v, which is negative; no limit is a negative Count", r.what, r.rate.Per)
		}
	}
	return nil
}

// Allowed returns ca.Limits with what is zero filled in: what is known of the CA, else a guess on the safe side, Let's
// Encrypt's limits. But certificates are not limited by a guess: one CA's days are another's weeks.
func (ca CA) Allowed() Limits {
	known := letsEncryptLimits()
	if resolved, err := ca.Resolve(); err == nil {
		// A guess that is too low lets certificates expire that live for a day. The floor between two of them holds all the same.
		known.Certificates = Rate{Count: -1, Per: known.Certificates.Per}
		if row := resolved.known(); row != nil {
			known = row.Limits.or(known)
		}
	}
	return ca.Limits.or(known)
}

func (l Limits) or(known Limits) Limits {
	return Limits{
		Orders:       l.Orders.or(known.Orders),
		Failures:     l.Failures.or(known.Failures),
		Certificates: l.Certificates.or(known.Certificates),
	}
}

func (r Rate) or(known Rate) Rate {
	return Rate{Count: cmp.Or(r.Count, known.Count), Per: cmp.Or(r.Per, known.Per)}
}

// letsEncryptLimits is https://letsencrypt.org/docs/rate-limits/ as of 2026-08-05.
func letsEncryptLimits() Limits {
	return Limits{
		Orders:       Rate{300, 3 * time.Hour},
		Failures:     Rate{5, time.Hour},
		Certificates: Rate{5, 7 * 24 * time.Hour},
	}
}

// letsEncryptStagingLimits is https://letsencrypt.org/docs/staging-environment/ as of 2026-08.
func letsEncryptStagingLimits() Limits {
	return Limits{
		Orders:       Rate{1500, 3 * time.Hour},
		Failures:     Rate{200, time.Hour},
		Certificates: Rate{30_000, 7 * 24 * time.Hour},
	}
}
