package acmetest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Limits is what a CA allows before it answers rateLimited. A zero Rate is no
// limit.
//
// Like Let's Encrypt, the CA checks limits at newOrder. Unlike it, the CA makes
// no exceptions for renewals: who never meets these limits meets none there.
type Limits struct {
	Orders       Rate // new orders of an account
	Failures     Rate // failed validations of a name by an account
	Certificates Rate // certificates for exactly the same names, whoever orders
}

// Rate is Count times in any time of length Per: a bucket of Count tokens, of
// which one comes back every Per/Count.
type Rate struct {
	Count int
	Per   time.Duration
}

// Refusal is an order that was refused because of a limit.
type Refusal struct {
	Limit   string    // "orders", "failures", "certificates" or "paused"
	Account string    // URL
	Names   []string  // of the order, ascending
	At      time.Time // when it was refused
	RetryAt time.Time // when it would not be; zero for "paused"
}

// String is a line for a failing test.
func (r Refusal) String() string {
	return fmt.Sprintf("%s %s: %s of %s", r.At.UTC().Format(time.RFC3339), r.Limit, strings.Join(r.Names, ","), r.Account)
}

// Refused returns the orders that were refused because of Limits or
// PauseAfter, oldest first. A client that minds its limits has none.
func (ca *CA) Refused() []Refusal {
	s := ca.lock()
	defer ca.mu.Unlock()
	return slices.Clone(s.refused)
}

// Unpause does what the owner of an account does at the page that a refusal
// for PauseAfter names. The name is as in orders, with "*." for wildcards. An
// empty account URL stands for all accounts.
func (ca *CA) Unpause(account, name string) {
	s := ca.lock()
	defer ca.mu.Unlock()
	for _, a := range s.accounts {
		if account == "" || account == s.base+a.path {
			delete(s.failures, a.path+" "+name)
		}
	}
}

// wait returns how long a bucket has no token, and what its time will be when
// one is taken. That time is when the bucket would be full again (the generic
// cell rate algorithm): a bucket is one time, and needs no cleaning up.
func (r Rate) wait(full, now time.Time) (wait time.Duration, next time.Time) {
	if r.Count <= 0 {
		return 0, full
	}
	if full.Before(now) {
		full = now
	}
	next = full.Add(r.Per / time.Duration(r.Count))
	return max(0, next.Sub(now)-r.Per), next
}

// spend takes a token from a bucket, if it has one. The state is locked.
func (s *state) spend(r Rate, bucket string, now time.Time) {
	if wait, next := r.wait(s.buckets[bucket], now); r.Count > 0 && wait == 0 {
		s.buckets[bucket] = next
	}
}

// checkLimits refuses an order over a limit, for the limit that lasts longest,
// and counts one that is not. The state is locked.
func (ca *CA) checkLimits(s *state, a *account, names []string) *problem {
	now := time.Now()
	if p := ca.checkPaused(s, a, names, now); p != nil {
		return p
	}
	type check struct {
		limit, bucket string
		rate          Rate
		text          string // of the refusal, up to the time
	}
	l, object := ca.Limits, objectOf(names)
	checks := []check{
		{"orders", "orders " + a.path, l.Orders, fmt.Sprintf("too many new orders (%d) from this account", l.Orders.Count)},
		{"certificates", "certificates " + object, l.Certificates,
			fmt.Sprintf("too many certificates (%d) already issued for this exact set of identifiers", l.Certificates.Count)},
	}
	for _, name := range names {
		checks = append(checks, check{"failures", "failures " + a.path + " " + name, l.Failures,
			fmt.Sprintf("too many failed authorizations (%d) for %q", l.Failures.Count, name)})
	}
	var worst time.Duration
	var over check
	for _, c := range checks {
		if wait, _ := c.rate.wait(s.buckets[c.bucket], now); wait > worst {
			worst, over = wait, c
		}
	}
	if worst == 0 {
		s.spend(l.Orders, "orders "+a.path, now)
		return nil
	}
	until := now.Add(worst + time.Second - 1).Truncate(time.Second) // as Retry-After has it
	s.refused = append(s.refused, Refusal{over.limit, s.base + a.path, slices.Clone(names), now, until})
	p := refuse(rateLimited, "%s in the last %s, retry after %s", over.text, over.rate.Per, until.UTC().Format("2006-01-02 15:04:05 MST"))
	p.header = http.Header{}
	writeRetryAfter(p.header, ca.RetryForm, worst)
	return p
}

// checkPaused refuses an order with paused names, with a page for their owner
// and no time. The state is locked.
func (ca *CA) checkPaused(s *state, a *account, names []string, now time.Time) *problem {
	if ca.PauseAfter <= 0 {
		return nil
	}
	var paused []string
	for _, name := range names {
		if s.failures[a.path+" "+name] >= ca.PauseAfter {
			paused = append(paused, name)
		}
	}
	if paused == nil {
		return nil
	}
	s.refused = append(s.refused, Refusal{Limit: "paused", Account: s.base + a.path, Names: slices.Clone(names), At: now})
	return refuse(rateLimited, "Your account is temporarily prevented from requesting certificates for %s and possibly others. Please visit: %s/unpause?jwt=%s",
		strings.Join(paused, ", "), s.base, digest64("unpause", a.path, paused))
}

// countValidation counts a validation that ended. The state is locked.
func (ca *CA) countValidation(s *state, a *authorization, failed bool, now time.Time) {
	key := a.account.path + " " + a.identifier()
	if !failed {
		delete(s.failures, key)
		return
	}
	s.failures[key]++
	s.spend(ca.Limits.Failures, "failures "+key, now)
}
