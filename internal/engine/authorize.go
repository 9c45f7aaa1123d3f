package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// proof is an authorization that has to be given, and how.
type proof struct {
	authz *acmeclient.Authorization
	// choices are the challenges that the CA offers and we can answer, best
	// first; the first is the one in use.
	choices []choice
}

type choice struct {
	offered acmeclient.Challenge
	by      challenge.Challenger
}

func (c choice) challenge(name string) challenge.Challenge {
	return challenge.Challenge{
		Type: c.offered.Type, Name: name, Token: c.offered.Token, KeyAuthorization: c.offered.KeyAuthorization,
	}
}

// authorize gives all proofs that the order still asks for, and returns it as
// it is when it is no longer pending.
func (is *acmeIssuer) authorize(ctx context.Context, order *acmeclient.Order) (*acmeclient.Order, error) {
	proofs, err := is.pending(ctx, order)
	if err != nil {
		return nil, err
	}
	// The answers stay until all authorizations are final: CAs look from
	// several places, and more than once.
	defer is.cleanUpBehind(ctx)
	if err := is.presentAll(ctx, proofs); err != nil {
		return nil, err
	}
	is.step("telling the CA to validate")
	for _, p := range proofs {
		if err := is.session.Accept(ctx, p.choices[0].offered); err != nil {
			return nil, err
		}
	}
	is.step("waiting for the CA to validate")
	ready, err := is.session.WaitReady(ctx, order.URL)
	if err != nil {
		return nil, is.whyNotReady(ctx, proofs, err)
	}
	for _, p := range proofs {
		is.log.Info("name validated", "name", p.authz.Name, "type", p.choices[0].offered.Type)
	}
	return ready, nil
}

// nameOf is the name of an authorization as the order has it (RFC 8555
// §7.1.4).
func nameOf(a *acmeclient.Authorization) string {
	if a.Wildcard {
		return "*." + a.Name
	}
	return a.Name
}

// whyNotReady asks which names could not be validated when the order does not
// become ready: few CAs say so in the order itself, and some leave it pending
// for ever. The next attempt prefers another challenge type.
func (is *acmeIssuer) whyNotReady(ctx context.Context, proofs []*proof, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var errs []error
	for _, p := range proofs {
		authz, lookErr := is.session.Authorization(ctx, p.authz.URL)
		if lookErr != nil && !errors.Is(err, acmeclient.ErrWait) {
			// Some name has failed, maybe this one. One failure too many is
			// counted rather than one that the CA counts and we do not.
			_ = is.countFailure(ctx, p.authz) // an error is logged, and whoever looks next counts
		}
		if lookErr != nil || authz.Problem == nil {
			continue
		}
		is.job.FailedChallenge = p.choices[0].offered.Type
		_ = is.countFailure(ctx, p.authz) // as above
		why := *authz.Problem
		why.Op, why.Name, why.URL = "prove control of the name", authz.Name, authz.URL
		errs = append(errs, &why)
	}
	return cmp.Or(errors.Join(errs...), err)
}

// keepFailed is how many authorizations are remembered as counted: those of two
// orders with as many names as CAs take.
const keepFailed = 200

// countFailure counts the failed validation of an authorization, which fails
// once.
func (is *acmeIssuer) countFailure(ctx context.Context, authz *acmeclient.Authorization) error {
	if slices.Contains(is.job.Failed, authz.URL) {
		return nil
	}
	if err := is.ledger(is.ca).failed(ctx, nameOf(authz)); err != nil {
		return err
	}
	counted := append(slices.Clone(is.job.Failed), authz.URL)
	is.job.Failed = counted[max(len(counted)-keepFailed, 0):]
	return nil
}

// countFailures counts the validations of an order that failed unseen, as some
// do after the first one.
func (is *acmeIssuer) countFailures(ctx context.Context, order *acmeclient.Order) error {
	for _, url := range order.Authorizations {
		authz, err := is.session.Authorization(ctx, url)
		if orderGone(err) {
			continue
		}
		if err == nil && authz.Status == acmeclient.StatusInvalid {
			err = is.countFailure(ctx, authz)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pending reads the order's authorizations and returns those that are not
// valid yet.
func (is *acmeIssuer) pending(ctx context.Context, order *acmeclient.Order) ([]*proof, error) {
	is.step("reading the authorizations")
	var proofs []*proof
	for _, url := range order.Authorizations {
		authz, err := is.session.Authorization(ctx, url)
		if err != nil {
			if orderGone(err) {
				return nil, fmt.Errorf("%w: %w", errSpent, err)
			}
			return nil, err
		}
		switch authz.Status {
		case acmeclient.StatusValid:
			continue
		case acmeclient.StatusPending, acmeclient.StatusProcessing:
		default:
			if authz.Status == acmeclient.StatusInvalid {
				if err := is.countFailures(ctx, order); err != nil {
					return nil, err
				}
			}
			return nil, fmt.Errorf("%w: its authorization for %s is %s", errSpent, authz.Name, authz.Status)
		}
		p := &proof{authz: authz, choices: is.choices(authz)}
		if len(p.choices) == 0 {
			return nil, noChallenge(is.def, authz)
		}
		proofs = append(proofs, p)
	}
	return proofs, nil
}

// choices are the challenges of an authorization that the Domain's
// challengers can answer, in their order; the type that the CA refused last
// comes last.
func (is *acmeIssuer) choices(authz *acmeclient.Authorization) []choice {
	var good, refused []choice
	for _, by := range is.def.Challengers {
		by = is.e.builtIn(by)
		for _, typ := range by.Types() {
			i := slices.IndexFunc(authz.Challenges, func(c acmeclient.Challenge) bool { return c.Type == typ })
			if i < 0 || authz.Challenges[i].Problem != nil && authz.Challenges[i].KeyAuthorization == "" {
				continue
			}
			c := choice{offered: authz.Challenges[i], by: by}
			if typ == is.job.FailedChallenge {
				refused = append(refused, c)
			} else {
				good = append(good, c)
			}
		}
	}
	return append(good, refused...)
}

// builtIn puts the Engine's own challenger in the place of one that only
// names it.
func (e *Engine) builtIn(c challenge.Challenger) challenge.Challenger {
	switch c := c.(type) {
	case *challenge.HTTP01:
		if c.Store == nil {
			return e.http01
		}
	case *challenge.TLSALPN01:
		if c.Store == nil {
			return e.tlsalpn01
		}
	}
	return c
}

// challenger returns the Domain's challenger for a type, nil if it has none.
func (e *Engine) challenger(def *Domain, typ string) challenge.Challenger {
	for _, c := range def.Challengers {
		if c = e.builtIn(c); slices.Contains(c.Types(), typ) {
			return c
		}
	}
	return nil
}

func noChallenge(def *Domain, authz *acmeclient.Authorization) error {
	var offered, have []string
	for _, c := range authz.Challenges {
		offered = append(offered, c.Type)
	}
	for _, c := range def.Challengers {
		have = append(have, c.Types()...)
	}
	slices.Sort(offered)
	return fmt.Errorf("no challenge for %s can be answered: the CA offers %v, the Domain's challengers know %v",
		authz.Name, offered, have)
}

// presentAll makes the answers visible. What is about to be presented is
// recorded first, so that a crash never leaves an answer behind; where a type
// cannot be set up, the next is tried.
func (is *acmeIssuer) presentAll(ctx context.Context, proofs []*proof) error {
	open := proofs
	for len(open) > 0 {
		is.step("recording the challenges")
		for _, p := range open {
			is.recordSetUp(p.choices[0].challenge(p.authz.Name))
		}
		if err := is.putJob(ctx); err != nil {
			return err
		}
		var again []*proof
		for _, p := range open {
			err := is.present(ctx, p)
			if err == nil {
				continue
			}
			if ctx.Err() != nil || len(p.choices) == 1 {
				return err
			}
			is.log.Warn("a challenge could not be set up; trying another type",
				"type", p.choices[0].offered.Type, "name", p.authz.Name, "error", err)
			is.countPanic(err)
			p.choices = p.choices[1:]
			again = append(again, p)
		}
		open = again
	}
	return nil
}

func (is *acmeIssuer) recordSetUp(c challenge.Challenge) {
	s := record.SetUp{Type: c.Type, Name: c.Name, Token: c.Token, KeyAuthorization: c.KeyAuthorization}
	if !slices.Contains(is.job.SetUps, s) {
		is.job.SetUps = append(is.job.SetUps, s)
	}
}

// present makes one answer visible, and tells the Notifier, who may veto it.
func (is *acmeIssuer) present(ctx context.Context, p *proof) error {
	use := p.choices[0]
	c := use.challenge(p.authz.Name)
	is.step("setting up " + c.Type + " for " + c.Name)
	what := "setting up " + c.Type + " for " + c.Name
	err := is.e.hook(ctx, what, func(ctx context.Context) error { return use.by.Present(ctx, c) })
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if w, ok := use.by.(challenge.Waiter); ok {
		what := "waiting until the " + c.Type + " answer for " + c.Name + " can be seen"
		if err := is.e.hook(ctx, what, func(ctx context.Context) error { return w.Wait(ctx, c) }); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	is.log.Info("challenge set up", "type", c.Type, "name", c.Name)
	err = is.notify(ctx, status.Event{Kind: status.ChallengeSetup, ChallengeType: c.Type, ChallengeName: c.Name})
	if err != nil {
		return fmt.Errorf("%s for %s: %w", c.Type, c.Name, err)
	}
	return nil
}

// cleanUpBehind takes the answers away, also when ctx has ended. The Job is
// written when the attempt ends; until then the set-ups stay recorded. Without
// the lease they are left to who has it: another process may go on with the
// order, and then its answers are the same as these.
func (is *acmeIssuer) cleanUpBehind(ctx context.Context) {
	if errors.Is(context.Cause(ctx), store.ErrLeaseLost) {
		return
	}
	ctx, cancel := is.e.graceContext(ctx)
	defer cancel()
	is.cleanUp(ctx)
}
