package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// ledger is what is remembered, in the Store, of the limits of one account at
// a CA. All processes obey it, also after a restart.
type ledger struct {
	e      *Engine
	ref    accountRef
	limits acmeclient.Limits
	log    interface{ Warn(string, ...any) }
}

func (a *attempt) ledger(ca acmeclient.CA) ledger {
	return ledger{e: a.e, ref: refOf(ca), limits: ca.Allowed(), log: a.log}
}

const (
	// parkedFor is how long a name that a CA has paused is left alone, unless
	// somebody asks to renew it.
	parkedFor = 7 * 24 * time.Hour
	// untold is for limits of which a CA does not say how long they last.
	untold = time.Hour
	// slotBlock is the largest number of order slots taken with one Put.
	slotBlock = 10
)

func rate(r acmeclient.Rate) policy.Rate {
	if r.Unlimited() {
		return policy.Rate{}
	}
	return policy.Rate{Count: r.Count, Per: r.Per}
}

// open returns a *blockedError if the limits forbid to order names now. What
// a CA has parked until somebody acts is open to who was asked to try. Noted
// are the names of which something is remembered.
func (l ledger) open(ctx context.Context, names []string, asked bool) (noted []string, err error) {
	now := l.e.now()
	var worst *blockedError
	for _, name := range append([]string{record.AccountLimit}, names...) {
		limit, _, err := l.e.records.Limit(ctx, l.ref.ca, l.ref.id, name)
		if err != nil {
			return nil, err
		}
		if limit != (record.Limit{}) {
			noted = append(noted, name)
		}
		if b := l.blocks(name, limit, now, asked); b != nil && (worst == nil || b.until.After(worst.until)) {
			worst = b
		}
	}
	if worst != nil {
		return noted, worst
	}
	return noted, nil
}

// forbids reports whether what a CA has said forbids an order. What was said by
// a clock that was ahead is learnt again.
func forbids(limit record.Limit, now time.Time) bool {
	believable := limit.Until.Before(now.Add(2*parkedFor)) && !limit.Said.After(now.Add(time.Hour))
	return now.Before(limit.Until) && believable
}

func (l ledger) blocks(name string, limit record.Limit, now time.Time, asked bool) *blockedError {
	if forbids(limit, now) && !(limit.Parked && asked) {
		why := limit.Why
		if limit.URL != "" && !strings.Contains(why, limit.URL) {
			why += " (" + limit.URL + ")"
		}
		return &blockedError{until: limit.Until, why: why, parked: limit.Parked}
	}
	failures := policy.Bucket{Full: limit.Failures}
	if free := failures.Free(rate(l.limits.Failures), now); free.After(now) {
		return &blockedError{until: free, why: fmt.Sprintf("%d failed validations of %s in %v are all that the CA allows",
			l.limits.Failures.Count, name, l.limits.Failures.Per)}
	}
	return nil
}

// takeOrder takes the slot for one order. Slots are taken from the Store in
// blocks; those that a process has not used when it ends are lost.
func (l ledger) takeOrder(ctx context.Context) error {
	orders := rate(l.limits.Orders)
	if orders.Count <= 0 {
		return nil
	}
	for {
		if l.takeSlot(orders) {
			return nil
		}
		mine := false // the first slot of a block is whose who takes it
		err := together(ctx, &l.e.slots, l.ref.flight("slots"), func() error {
			err := l.takeBlock(ctx, orders)
			mine = err == nil
			return err
		})
		if mine || err != nil {
			return err
		}
	}
}

// slots are those that are left of what was taken from an account's bucket,
// which was at then.
type slots struct {
	n    int
	then policy.Bucket
}

// takeSlot takes one of those that are left. Meanwhile they come back at the
// CA, whether they were used or not: then they are in the bucket again, and to
// use them, too, would be to take more than there are.
func (l ledger) takeSlot(orders policy.Rate) bool {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	left := l.e.free[l.ref]
	left.n = left.then.Out(orders, left.n, l.e.now())
	if left.n == 0 {
		delete(l.e.free, l.ref)
		return false
	}
	left.n--
	l.e.free[l.ref] = left
	return true
}

// takeBlock takes a block of slots from the Store, one of them for the caller.
func (l ledger) takeBlock(ctx context.Context, orders policy.Rate) error {
	n := 0
	var then policy.Bucket
	var blocked *blockedError
	err := l.change(ctx, record.AccountLimit, func(limit record.Limit) (record.Limit, bool) {
		now := l.e.now()
		bucket := policy.Bucket{Full: limit.Orders}
		blocked = nil
		if free := bucket.Free(orders, now); free.After(now) {
			blocked = &blockedError{until: free, each: orders.Per / time.Duration(orders.Count), why: fmt.Sprintf("%d orders in %v are all that the CA allows", orders.Count, orders.Per)}
			return limit, false
		}
		n = bucket.Tokens(orders, min(slotBlock, max(1, orders.Count/20)), now)
		then = bucket.Take(orders, n, now)
		limit.Orders = then.Full
		return limit, true
	})
	if err != nil {
		return err
	}
	if blocked != nil {
		return blocked
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.e.free[l.ref] = slots{l.e.free[l.ref].n + n - 1, then}
	return nil
}

func (l ledger) change(ctx context.Context, name string, change func(record.Limit) (record.Limit, bool)) error {
	return l.e.records.ChangeLimit(ctx, l.ref.ca, l.ref.id, name, change)
}

// failed counts a failed validation of a name.
func (l ledger) failed(ctx context.Context, name string) error {
	failures := rate(l.limits.Failures)
	if failures.Count <= 0 {
		return nil
	}
	err := l.change(ctx, name, func(limit record.Limit) (record.Limit, bool) {
		limit.Failures = policy.Bucket{Full: limit.Failures}.Take(failures, 1, l.e.now()).Full
		return limit, true
	})
	l.warn(name, err)
	return err
}

// heard writes down what a CA has said of its limits.
func (l ledger) heard(ctx context.Context, err error, names []string) {
	var p *acmeclient.Problem
	if !errors.As(err, &p) {
		return
	}
	scope := p.Scope(names)
	var whom []string
	switch scope.Kind {
	case acmeclient.ScopeNone:
		return
	case acmeclient.ScopeAccount:
		whom = []string{record.AccountLimit}
	case acmeclient.ScopeName:
		whom = scope.Names
	}
	now := l.e.now()
	until := p.RetryTime(now)
	switch {
	case p.Paused():
		until = now.Add(parkedFor)
	case !until.After(now) && p.Status >= 500:
		return // it is only busy: the back-off is enough
	case !until.After(now):
		until = now.Add(untold)
	}
	for _, name := range whom {
		l.warn(name, l.change(ctx, name, func(limit record.Limit) (record.Limit, bool) {
			if forbids(limit, now) && !limit.Parked && limit.Until.After(until) {
				return limit, false // said to another attempt while this one was under way
			}
			limit.Until, limit.Said, limit.Parked = until.UTC(), now.UTC(), p.Paused()
			limit.Why, limit.URL = bounded(p.Detail), cmp.Or(p.UnpauseURL(), p.Help)
			return limit, true
		}))
	}
}

// cleared forgets what the CA had said of names before the moment began, now
// that it has issued a certificate for them. What it has said since, to other
// attempts, stands, and what was counted stays counted.
func (l ledger) cleared(ctx context.Context, names []string, began time.Time) {
	for _, name := range names {
		l.warn(name, l.change(ctx, name, func(limit record.Limit) (record.Limit, bool) {
			if !limit.Said.Before(began) {
				return limit, false
			}
			kept := record.Limit{Orders: limit.Orders, Failures: limit.Failures}.Still(l.e.now())
			return kept, kept != limit
		}))
	}
}

func (l ledger) warn(name string, err error) {
	if err != nil {
		l.log.Warn("the CA's limits could not be written down", "name", name, "error", err)
	}
}

// certificateAllowed returns a *blockedError if the CA allows no certificate
// more for the Domain's exact names. The Job holds the count.
func (a *attempt) certificateAllowed() error {
	limit := a.ca.Allowed().Certificates
	now := a.e.now()
	bucket := policy.Bucket{Full: a.job.Issued[a.issuedKey()]}
	if free := bucket.Free(rate(limit), now); free.After(now) {
		return &blockedError{until: free, why: fmt.Sprintf("%d certificates for the same names in %v are all that the CA allows",
			limit.Count, limit.Per)}
	}
	return nil
}

// countCertificate counts the certificate that the CA issues for an order,
// once.
func (a *attempt) countCertificate(order string) {
	now, r := a.e.now(), rate(a.ca.Allowed().Certificates)
	key := a.issuedKey()
	if a.job.Counted == order { // before it was finalized: the CA may have issued as late as now
		if full, ok := a.job.Issued[key]; ok {
			a.job.Issued[key] = policy.Bucket{Full: full}.Late(r, now).Full
		}
		return
	}
	a.job.Counted = order
	issued := make(map[string]time.Time)
	for key, full := range a.job.Issued {
		if full.After(now) {
			issued[key] = full
		}
	}
	if r.Count > 0 {
		issued[key] = policy.Bucket{Full: issued[key]}.Take(r, 1, now).Full
	}
	a.job.Issued = issued
}

// uncountCertificate takes back what was counted for an order of which the CA
// has said that there will be no certificate. Should there be one after all, it
// is counted again.
func (a *attempt) uncountCertificate(order string) {
	key := a.issuedKey()
	full, counted := a.job.Issued[key]
	if a.job.Counted != order || !counted {
		return
	}
	a.job.Counted = ""
	a.job.Issued[key] = policy.Bucket{Full: full}.Give(rate(a.ca.Allowed().Certificates)).Full
}

// issuedKey names the CA and the set of names.
func (a *attempt) issuedKey() string {
	names := slices.Clone(a.def.Names)
	slices.Sort(names)
	return a.ca.URL + " " + strings.Join(names, " ")
}
