package engine

import (
	"context"
	"fmt"

	"github.com/manageddomains/md/acmeclient"
)

// A rehearsalError says that an order at a CA's test endpoint has failed. It
// says nothing of the CA itself.
type rehearsalError struct {
	ca  acmeclient.CA // the test endpoint
	err error
}

func (e *rehearsalError) Error() string {
	return fmt.Sprintf("the rehearsal at %s: %v", caName(e.ca), e.err)
}

func (e *rehearsalError) Unwrap() error { return e.err }

// rehearse orders a certificate from the test endpoint of the CA, which is
// thrown away, so that what is wrong with a Domain's names or challenges
// spends none of the CA's limits. It does so once for each configuration.
func (a *attempt) rehearse(ctx context.Context) error {
	if !a.def.Rehearse || a.job.Rehearsed == a.def.print {
		return nil
	}
	test, ok := a.ca.Rehearsal()
	if !ok {
		a.log.Warn("the CA has no test endpoint; ordering without a rehearsal", "ca", caName(a.ca))
		return nil
	}
	test, err := test.Resolve()
	if err == nil {
		test, err = readEAB(ctx, test)
	}
	if err == nil {
		err = a.rehearseAt(ctx, test)
	}
	if err != nil {
		return &rehearsalError{ca: test, err: err}
	}
	a.log.Info("the rehearsal went well", "ca", caName(test))
	a.job.Tell(a.e.now(), "rehearsed", test.URL)
	a.job.Rehearsed = a.def.print
	return a.putJob(ctx)
}

// rehearseAt orders at the test endpoint, with a key that nobody keeps.
func (a *attempt) rehearseAt(ctx context.Context, test acmeclient.CA) error {
	real := a.ca
	a.ca = test
	defer func() { a.ca = real }()
	if _, err := a.ledger(test).open(ctx, a.def.Names, a.task.asked()); err != nil {
		return err
	}
	is := &acmeIssuer{attempt: a, spent: make(map[string]bool)}
	var order *acmeclient.Order
	err := is.withAccount(ctx, func() (err error) {
		if err = is.open(ctx); err != nil {
			return err
		}
		if err = is.ledger(test).takeOrder(ctx); err != nil {
			return err
		}
		is.step("rehearsing at " + caName(test))
		order, err = is.session.NewOrder(ctx, a.def.request())
		return err
	})
	if err != nil {
		return err
	}
	if order.Status == acmeclient.StatusPending {
		if order, err = is.authorize(ctx, order); err != nil {
			return err
		}
	}
	if order.Status == acmeclient.StatusValid {
		return nil
	}
	key, err := a.e.newKey(ctx, a.def.KeyTypes[0])
	if err != nil {
		return err
	}
	_, err = is.finalize(ctx, order, key)
	return err
}
