package engine

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// Wishes are what a Domain asks of its certificates beside names and keys.
// What a CA does not offer is left out, and told.
type Wishes struct {
	Profile         string
	ProfileRequired bool
	Lifetime        time.Duration
	Chain           string // the common name of the root that is preferred
	TrimChain       bool
	MustStaple      bool
	ReuseKey        bool
	Rehearse        bool
}

// request is the order for a certificate.
func (d *Domain) request() acmeclient.OrderRequest {
	return acmeclient.OrderRequest{
		Names: acmeclient.Identifiers(d.Names), Profile: d.Profile, ProfileRequired: d.ProfileRequired,
		Lifetime: d.Lifetime, MustStaple: d.MustStaple,
	}
}

// keySuspect reports whether the certificate of a credential is to be revoked,
// or its CA wants it replaced at once.
func (a *attempt) keySuspect(c *record.Credential) bool {
	if a.task.revoke != nil || toBeRevoked(a.job, c.Chain[0]) {
		return true
	}
	leaf, err := c.Leaf()
	if err != nil {
		return true
	}
	id, err := acmeclient.CertID(leaf)
	said := a.job.ARI[id]
	return err == nil && !said.End.IsZero() && !said.End.After(a.e.now())
}

// exposed reports whether a staged credential has the key of a certificate in
// use of which it must be feared that others know it: with ReuseKey, it was
// taken before that was so.
func (a *attempt) exposed(staged *record.Credential) bool {
	c := a.active.Credential(staged.KeyType)
	return c != nil && shareKey(c, staged) && a.keySuspect(c)
}

func shareKey(a, b *record.Credential) bool {
	if a.Reference != nil && b.Reference != nil {
		return bytes.Equal(a.Reference.Public, b.Reference.Public)
	}
	return a.Reference == nil && b.Reference == nil && bytes.Equal(a.Key, b.Key)
}

// finalize has the order finalized, and remembers what became of it.
func (is *acmeIssuer) finalize(ctx context.Context, order *acmeclient.Order, key crypto.Signer) (*acmeclient.Order, error) {
	done, warnings, err := is.session.FinalizeFor(ctx, order, is.def.request(), key)
	is.tellWarnings(warnings)
	return done, err
}

// download gets the chain that the Domain prefers, without what it does not
// want.
func (is *acmeIssuer) download(ctx context.Context, order *acmeclient.Order) ([][]byte, error) {
	is.step("downloading the certificate")
	chain, warnings, err := is.session.ChainTo(ctx, order, is.def.Chain)
	if err != nil {
		return nil, err
	}
	is.tellWarnings(warnings)
	if is.def.TrimChain {
		var removed []string
		if chain, removed = acmeclient.TrimChain(chain, is.e.now()); len(removed) > 0 {
			is.log.Info("the chain was trimmed", "removed", removed)
		}
	}
	return chain, nil
}

// tellWarnings shows where the CA has not done as it was asked. That is no
// reason to ask again: it would do the same.
func (is *acmeIssuer) tellWarnings(warnings []string) {
	for _, w := range warnings {
		is.log.Warn("the CA has not done all that was asked for", "what", w, "ca", caName(is.ca))
		is.job.Tell(is.e.now(), "warning", w)
	}
}

// deviations are in what a certificate is not what was asked for.
func (is *acmeIssuer) deviations(c *record.Credential) []string {
	leaf, err := c.Leaf()
	if err != nil {
		return nil
	}
	return is.def.request().Deviations(leaf)
}

// profileOf is the profile of a certificate: as the CA says, or as it was
// asked for.
func (d *Domain) profileOf(order *acmeclient.Order) string { return cmp.Or(order.Profile, d.Profile) }
