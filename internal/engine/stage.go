package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// obtained returns the credential of a key type that a former attempt has
// staged, if it is good for what is wanted by now.
func (a *attempt) obtained(keyType string) (record.Credential, error) {
	c := a.staged.Credential(keyType)
	if c == nil || a.exposed(c) || a.worn(c) {
		return record.Credential{}, errUnfit
	}
	return *c, checkCredential(c, a.def.Names, a.e.now())
}

// worn reports whether a staged credential would have to be renewed itself: it
// has waited for so long, for its activation or for another key type.
func (a *attempt) worn(c *record.Credential) bool {
	certs := certificatesOf(&record.Set{Credentials: []record.Credential{*c}})
	rules := policy.Rules{Names: a.def.Names, KeyTypes: []string{c.KeyType}, Window: a.def.rules().Window}
	return c.Complete() && policy.Next(rules, policy.Facts{Certificates: factsOf(certs, a.job)}, a.e.now()).Due()
}

// stageComplete stages a credential that has its certificate. With the last
// one, the credentials that stay in use are added, so that the staged Set is
// the one to activate.
func (a *attempt) stageComplete(ctx context.Context, cred record.Credential, wanted []string) error {
	set := new(record.Set)
	if a.staged != nil {
		set.Credentials = append(set.Credentials, a.staged.Credentials...)
	}
	set.Replace(cred)
	complete := true
	for _, t := range wanted {
		c := set.Credential(t)
		complete = complete && c != nil && c.Complete()
	}
	var err error
	if complete {
		err = a.keepUnwanted(ctx, set)
		set = a.whole(set)
		if err == nil && a.task.revoke != nil { // from here on, any attempt may activate it
			err = a.listRevocations(ctx)
		}
	}
	if err == nil {
		err = a.stage(ctx, set)
	}
	switch {
	case err == nil:
		a.log.Info("certificate staged", "key", cred.KeyType)
	case errors.Is(err, store.ErrConflict): // somebody else works here; this one has lost
		err = errors.Join(err, a.keepInArchive(ctx, cred))
	case complete:
		a.keep(ctx, set)
	}
	return err
}

// keepUnwanted keeps in the archive what is staged, but will not be a part of the
// whole Set: something may have been issued for it.
func (a *attempt) keepUnwanted(ctx context.Context, staged *record.Set) error {
	for _, c := range staged.Credentials {
		if slices.Contains(a.def.KeyTypes, acmeclient.KeyType(c.KeyType)) && a.useful(&c) {
			continue
		}
		if err := a.keepInArchive(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// useful reports whether a staged credential goes into the whole Set. One that
// an order was left for, such as that of a Renew that has failed, does not take
// the place of what is in use.
func (a *attempt) useful(c *record.Credential) bool {
	return a.active.Credential(c.KeyType) == nil || checkCredential(c, a.def.Names, a.e.now()) == nil
}

// whole is the Set that a complete staged one becomes: a credential for each
// key type, in the Domain's order, the others from what is active.
func (a *attempt) whole(staged *record.Set) *record.Set {
	set := new(record.Set)
	for _, t := range a.def.KeyTypes {
		if c := staged.Credential(string(t)); c != nil && a.useful(c) {
			set.Credentials = append(set.Credentials, *c)
		} else if c := a.active.Credential(string(t)); c != nil {
			set.Credentials = append(set.Credentials, *c)
		}
	}
	return set
}

// stage writes the staged Set.
func (a *attempt) stage(ctx context.Context, set *record.Set) error {
	v, err := a.e.records.Stage(ctx, a.def.Name, set, a.stagedVersion)
	if err != nil {
		return err
	}
	a.staged, a.stagedVersion = set, v
	return nil
}
