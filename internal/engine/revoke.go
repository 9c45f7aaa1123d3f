package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// Revoke renews the certificates of a Domain, activates the successors, and
// then revokes what there was before.
func (e *Engine) Revoke(ctx context.Context, name string, reason acmeclient.Reason) error {
	if err := reason.Check(); err != nil {
		return err
	}
	return e.perform(ctx, name, task{revoke: &reason})
}

// revoke revokes the certificates of a former Set: with the account that
// ordered them, or else with their own keys (RFC 8555 §7.6).
func (a *attempt) revoke(ctx context.Context, former *record.Set) error {
	var errs []error
	for i := range former.Credentials {
		c := &former.Credentials[i]
		if err := a.revokeOne(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("the %s certificate was replaced, but not revoked: %w", c.KeyType, err))
			continue
		}
		a.log.Info("certificate revoked", "certificate", c.Certificate, "reason", a.task.revoke)
		a.job.Tell(a.e.now(), "revoked", c.Certificate)
	}
	return errors.Join(errs...)
}

func (a *attempt) revokeOne(ctx context.Context, c *record.Credential) error {
	client, err := a.e.clientAt(a.def, c.CA)
	if err != nil {
		return err
	}
	account, accountErr := a.e.accountAt(ctx, client, a.def)
	if accountErr == nil && account.url == c.Account {
		return client.Session(account.key, account.url).Revoke(ctx, c.Chain[0], *a.task.revoke)
	}
	key, err := c.Signer()
	if err != nil {
		return errors.Join(accountErr, err)
	}
	return client.RevokeWithKey(ctx, key, c.Chain[0], *a.task.revoke)
}
