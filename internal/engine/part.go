package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/manageddomains/md/internal/record"
)

// activatePart activates the certificates that a failed attempt has in staging,
// although others of the Set are still missing, where those in use have expired
// or lack a name, or there are none: who waits for the other key type must not be
// served an expired certificate meanwhile. Orders in progress stay in staging.
func (a *attempt) activatePart(ctx context.Context) error {
	if a.staged == nil || a.stagedComplete() || a.def.HoldActivation || a.task.restore != "" || a.task.revoke != nil {
		return nil
	}
	part, pending := a.parts()
	if part == nil {
		return nil
	}
	a.log.Warn("certificates are activated although others are still missing: those in use have expired", "names", a.def.Shown)
	for _, c := range pending.Credentials { // a crash must not lose their keys
		if err := a.keepInArchive(ctx, c); err != nil {
			return err
		}
	}
	if err := a.stage(ctx, part); err != nil {
		return err
	}
	if err := a.openKeys(ctx, part); err != nil {
		return err
	}
	set, version, err := a.e.records.Activate(ctx, a.def.Name, a.checkPart)
	if set == nil {
		return err
	}
	if err := a.activeNow(ctx, set, version, same(set, part)); err != nil || len(pending.Credentials) == 0 {
		return err
	}
	return a.stage(ctx, pending)
}

// parts are the Set that can be activated, nil if it is no better than what is
// in use, and the orders in progress.
func (a *attempt) parts() (part, pending *record.Set) {
	now := a.e.now()
	part, pending = new(record.Set), new(record.Set)
	better := false
	for _, t := range a.def.KeyTypes {
		staged, active := a.staged.Credential(string(t)), a.active.Credential(string(t))
		inUse := active != nil && checkCredential(active, a.def.Names, now) == nil
		switch {
		case staged != nil && checkCredential(staged, a.def.Names, now) == nil:
			part.Credentials = append(part.Credentials, *staged)
			better = better || !inUse
			continue
		case inUse:
			part.Credentials = append(part.Credentials, *active)
		}
		if staged != nil && !staged.Complete() {
			pending.Credentials = append(pending.Credentials, *staged)
		}
	}
	if !better {
		return nil, nil
	}
	return part, pending
}

// checkPart is check for a Set that need not have all key types.
func (a *attempt) checkPart(staged, active *record.Set) error {
	now := a.e.now()
	for i := range staged.Credentials {
		if err := checkCredential(&staged.Credentials[i], a.def.Names, now); err != nil {
			return fmt.Errorf("%w: %w", errUnfit, err)
		}
	}
	if active == nil {
		return nil
	}
	for i := range active.Credentials {
		c := &active.Credentials[i]
		if staged.Credential(c.KeyType) == nil && checkCredential(c, a.def.Names, now) == nil {
			return fmt.Errorf("%w: there is no %s certificate among them", errUnfit, c.KeyType)
		}
	}
	return nil
}

// afterFailure activates what can be, and returns why the attempt has failed.
func (a *attempt) afterFailure(ctx context.Context, err error) error {
	if a.activated || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, a.activatePart(ctx))
}
