package engine

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// Revoke renews the certificates of a Domain, activates the successors, and
// then revokes what there was before. What could not be revoked then is
// revoked later, also by another process.
func (e *Engine) Revoke(ctx context.Context, name string, reason acmeclient.Reason) error {
	if err := reason.Check(); err != nil {
		return err
	}
	return e.perform(ctx, name, task{revoke: &reason})
}

// listRevocations writes down what is to be revoked when it is not active any
// more, before its successors are staged: whoever activates these, a crash or the
// Store must not keep it from being revoked.
func (a *attempt) listRevocations(ctx context.Context) error {
	if a.active == nil {
		return nil
	}
	id, err := record.ArchiveID(a.active)
	if err != nil {
		return err
	}
	for i := range a.active.Credentials {
		c := &a.active.Credentials[i]
		if !toBeRevoked(a.job, c.Chain[0]) {
			a.job.Revocations = append(a.job.Revocations, record.Revocation{
				CA: c.CA, Account: c.Account, Certificate: c.Certificate, Reason: int(*a.task.revoke),
				Leaf: c.Chain[0], KeyType: c.KeyType, Archived: id,
			})
		}
	}
	return a.putJob(ctx)
}

// toBeRevoked reports whether a leaf is among what is to be revoked.
func toBeRevoked(job *record.Job, leaf []byte) bool {
	return slices.ContainsFunc(job.Revocations, func(r record.Revocation) bool { return bytes.Equal(r.Leaf, leaf) })
}

// someToBeRevoked reports whether some of the certificates are to be revoked,
// and so to be replaced.
func someToBeRevoked(job *record.Job, certs []certificate) bool {
	return len(job.Revocations) > 0 && slices.ContainsFunc(certs, func(c certificate) bool { return toBeRevoked(job, c.leaf) })
}

// revokeListed revokes what is to be revoked and not active any more. What
// could not be revoked is tried again later, until it has expired.
func (a *attempt) revokeListed(ctx context.Context) error {
	j, now := a.job, a.e.now()
	wait := now.Before(j.RevokeAt) && a.task.revoke == nil
	if len(j.Revocations) == 0 || wait || ctx.Err() != nil {
		return nil
	}
	if a.active == nil { // it is not known what is in use
		j.RevokeAt = now.Add(policy.CheckDelay(a.e.cfg.CheckInterval, a.e.jitter())).UTC()
		return nil
	}
	var left []record.Revocation
	var errs []error
	for _, r := range j.Revocations {
		leaf, err := x509.ParseCertificate(r.Leaf)
		if err != nil || !now.Before(leaf.NotAfter) {
			continue // it is of no use to anybody
		}
		if !a.isActive(r.Leaf) {
			if err = a.revokeOne(ctx, r); err == nil {
				a.log.Info("certificate revoked", "certificate", r.Certificate, "reason", acmeclient.Reason(r.Reason))
				j.Tell(now, "revoked", r.Certificate)
				continue
			}
			errs = append(errs, fmt.Errorf("the %.40s certificate was replaced, but not revoked yet: %w", r.KeyType, err))
		}
		left = append(left, r)
	}
	j.Revocations = left
	err := errors.Join(errs...)
	if err == nil {
		j.RevokeErrors, j.RevokeAt = 0, time.Time{}
		return nil
	}
	j.RevokeErrors++
	j.RevokeAt = now.Add(policy.Backoff(a.e.cfg.RetryDelay, j.RevokeErrors, a.e.jitter())).UTC()
	j.Tell(now, "revocation-error", bounded(err.Error()))
	a.log.Error("revoking failed; it is tried again", "error", err, "next", j.RevokeAt)
	return err
}

func (a *attempt) isActive(leaf []byte) bool {
	return slices.ContainsFunc(a.active.Credentials, func(c record.Credential) bool { return bytes.Equal(c.Chain[0], leaf) })
}

// revokeOne revokes a certificate with the account that ordered it, or else
// with its own key (RFC 8555 §7.6).
func (a *attempt) revokeOne(ctx context.Context, r record.Revocation) error {
	a.step("revoking a former certificate")
	client, account, accountErr := a.e.accountWith(ctx, a.def, r.CA, r.Account)
	if client == nil {
		return accountErr
	}
	if accountErr == nil {
		err := client.Session(account.key, account.url).Revoke(ctx, r.Leaf, acmeclient.Reason(r.Reason))
		if !errors.Is(err, acmeclient.ErrNoAccount) && !errors.Is(err, acmeclient.ErrAccountClosed) {
			return err
		}
		accountErr = err
	}
	former, err := a.e.records.FromArchive(ctx, a.def.Name, r.Archived)
	if err != nil {
		return errors.Join(accountErr, err)
	}
	c := former.Credential(r.KeyType)
	if c == nil {
		return errors.Join(accountErr, fmt.Errorf("its key is not in the archive under %.80q any more", r.Archived))
	}
	key, err := a.signer(ctx, c)
	if err != nil {
		return errors.Join(accountErr, err)
	}
	return client.RevokeWithKey(ctx, key, r.Leaf, acmeclient.Reason(r.Reason))
}
