package engine

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
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

// makeKey returns the key for a new certificate, in PKCS #8 form: another than
// before, unless the Domain wants to go on with it, and it need not be feared
// that it is known to others.
func (is *acmeIssuer) makeKey(ctx context.Context, t acmeclient.KeyType) ([]byte, error) {
	if c := is.active.Credential(string(t)); c != nil && is.def.ReuseKey && !is.keySuspect(c) {
		return c.Key, nil
	}
	is.step("generating the key")
	key, err := is.e.newKey(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("generating a %s key: %w", t, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	return der, nil
}

// keySuspect reports whether the certificate of a credential is to be revoked,
// or its CA wants it replaced at once.
func (is *acmeIssuer) keySuspect(c *record.Credential) bool {
	if is.task.revoke != nil || toBeRevoked(is.job, c.Chain[0]) {
		return true
	}
	leaf, err := c.Leaf()
	if err != nil {
		return true
	}
	id, err := acmeclient.CertID(leaf)
	said := is.job.ARI[id]
	return err == nil && !said.End.IsZero() && !said.End.After(is.e.now())
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
