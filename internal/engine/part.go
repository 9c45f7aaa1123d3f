package engine

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// activatePart activates the certificates that a failed attempt has in staging,
// although others of the Set are still missing, where those in use are at their
// end or lack a name, or there are none: who waits for the other key type must not
// be served an expired certificate meanwhile.
func (a *attempt) activatePart(ctx context.Context) error {
	if a.staged == nil || a.stagedComplete() || a.def.HoldActivation || a.task.restore != "" || a.task.revoke != nil {
		return nil
	}
	part := a.part()
	if part == nil {
		return nil
	}
	a.log.Warn("certificates are activated although others are still missing: those in use do not do any more", "names", a.def.Shown)
	if err := a.openKeys(ctx, part); err != nil {
		return err
	}
	if a.active != nil {
		if err := a.e.records.Keep(ctx, a.def.Name, a.active); err != nil {
			return err
		}
	}
	// Staging stays as it is, with the orders in progress.
	version, err := a.e.records.Adopt(ctx, a.def.Name, part, a.activeVersion)
	if err != nil {
		return err
	}
	if a.job.Part, err = part.Hash(); err != nil { // the attempt's end writes it down
		return err
	}
	a.active, a.activeVersion = part, version
	a.installed, err = a.e.install(ctx, a.d, part, version, store.Any)
	return err
}

// part is the Set that can be activated, nil if it is no better than what is in
// use. What lacks a name, but is in date, comes last: for clients that can use no
// other key type, and the names that it has.
func (a *attempt) part() *record.Set {
	now := a.e.now()
	part, better := new(record.Set), false
	var lacking []record.Credential
	for _, t := range a.def.KeyTypes {
		staged, active := a.staged.Credential(string(t)), a.active.Credential(string(t))
		inUse := active != nil && checkCredential(active, a.def.Names, now) == nil && now.Before(latest(active))
		switch {
		case staged != nil && checkCredential(staged, a.def.Names, now) == nil:
			part.Credentials = append(part.Credentials, *staged)
			another := active == nil || !bytes.Equal(active.Chain[0], staged.Chain[0])
			better = better || !inUse && another
		case inUse:
			part.Credentials = append(part.Credentials, *active)
		case active != nil && inDate(active, now):
			lacking = append(lacking, *active)
		}
	}
	if !better {
		return nil
	}
	part.Credentials = append(part.Credentials, lacking...)
	return part
}

// partAt is when a part will be better than what is in use because that comes to
// its end; zero if there is none.
func (a *attempt) partAt(now time.Time) time.Time {
	var first time.Time
	if a.staged == nil || a.stagedComplete() || a.def.HoldActivation {
		return first
	}
	for _, t := range a.def.KeyTypes {
		staged, active := a.staged.Credential(string(t)), a.active.Credential(string(t))
		if staged == nil || active == nil || checkCredential(staged, a.def.Names, now) != nil {
			continue
		}
		if at := latest(active); at.After(now) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// latest is when a certificate is to be out of use, if there is another.
func latest(c *record.Credential) time.Time {
	leaf, err := c.Leaf()
	if err != nil {
		return time.Time{}
	}
	return policy.Certificate{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}.Latest()
}

func inDate(c *record.Credential, now time.Time) bool {
	leaf, err := c.Leaf()
	return err == nil && now.Before(leaf.NotAfter)
}

// afterFailure activates what can be, unless the attempt has activated
// something, and returns why the attempt has failed, if it has.
func (a *attempt) afterFailure(ctx context.Context, err error) error {
	if a.activated || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, a.activatePart(ctx))
}
