package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// An issuer gets one certificate. What it must not forget meanwhile, it
// stages.
type issuer interface {
	issue(ctx context.Context, t acmeclient.KeyType) (record.Credential, error)
}

// acmeIssuer gets certificates over ACME for one attempt.
type acmeIssuer struct {
	*attempt
	session *acmeclient.Session
	account knownAccount
	spent   map[string]bool // URLs of orders of which the CA has said that they lead nowhere

	reopened bool // it was tried to mend the account
	agreed   bool // it was tried to agree to the CA's terms
}

// issue orders a certificate, or goes on with the order that a former attempt
// has staged.
func (is *acmeIssuer) issue(ctx context.Context, t acmeclient.KeyType) (record.Credential, error) {
	var cred record.Credential
	err := is.withAccount(ctx, func() (err error) {
		cred, err = is.issueOnce(ctx, t)
		return err
	})
	return cred, err
}

func (is *acmeIssuer) issueOnce(ctx context.Context, t acmeclient.KeyType) (record.Credential, error) {
	var none record.Credential
	if err := is.open(ctx); err != nil {
		return none, err
	}
	cred, order, err := is.resume(ctx, t)
	if err != nil {
		return none, err
	}
	if order != nil {
		cred, err = is.complete(ctx, cred, order)
		if !errors.Is(err, errSpent) {
			return cred, err
		}
		// The order of a former attempt is of no use any more.
		is.log.Info("the open order cannot be used any more; ordering anew", "order", order.URL, "reason", err)
		is.spent[order.URL] = true
	}
	if len(is.spent) > 0 { // its failures may be all that the CA allows
		if _, err := is.ledger(is.ca).open(ctx, is.def.Names, is.task.asked()); err != nil {
			return none, err
		}
	}
	if cred, ok, err := is.giveUp(ctx, t); ok || err != nil {
		return cred, err
	}
	if cred, order, err = is.reclaim(ctx, t); order == nil && err == nil {
		cred, order, err = is.begin(ctx, t)
	}
	if err != nil {
		return none, err
	}
	return is.complete(ctx, cred, order)
}

// errBadCertificate marks what a CA has issued, but nobody can use.
var errBadCertificate = errors.New("the certificate cannot be used")

// errSpent marks an order that can lead nowhere.
var errSpent = errors.New("the order is spent")

// open makes sure that there is an account and a session with the CA.
func (is *acmeIssuer) open(ctx context.Context) error {
	if is.session != nil {
		return nil
	}
	client, err := is.e.client(is.ca)
	if err != nil {
		return err
	}
	is.step("selecting the account")
	contacts, _ := is.e.wantedContacts(is.def, is.ca.URL)
	if is.account, err = is.e.accountAt(ctx, client, contacts); err != nil {
		return err
	}
	is.session = client.Session(is.account.key, is.account.url)
	is.tellContacts(ctx)
	return nil
}

// resume looks at the order that a former attempt has left. It returns none
// if there is none that may still lead to a certificate.
func (is *acmeIssuer) resume(ctx context.Context, t acmeclient.KeyType) (record.Credential, *acmeclient.Order, error) {
	var none record.Credential
	c := is.staged.Credential(string(t))
	if c == nil || c.Order == "" || c.Complete() || !is.ours(c) {
		return none, nil, nil
	}
	if _, err := is.signer(ctx, c); errors.As(err, new(*keyError)) {
		return none, nil, err // it will be there again, and the order is as good as before
	} else if err != nil {
		is.log.Warn("the key of the open order cannot be used; ordering anew", "order", c.Order, "error", err)
		return none, nil, nil
	}
	if is.exposed(c) {
		is.log.Info("the open order is for the key that is to be replaced; ordering anew", "order", c.Order)
		return none, nil, nil
	}
	is.step("looking at the open order")
	order, err := is.session.Order(ctx, c.Order)
	if err != nil {
		if orderGone(err) {
			is.log.Info("the CA does not know the open order any more; ordering anew", "order", c.Order, "error", err)
			is.spent[c.Order] = true
			return none, nil, nil
		}
		return none, nil, err
	}
	if order.Status == acmeclient.StatusInvalid || !sameNames(order.Names, acmeclient.Identifiers(is.def.Names)) {
		is.log.Info("the open order is of no use any more; ordering anew", "order", c.Order, "status", order.Status)
		issued := order.Status == acmeclient.StatusValid || order.Status == acmeclient.StatusProcessing
		is.spent[c.Order] = !issued
		if order.Status == acmeclient.StatusInvalid {
			err = is.countFailures(ctx, order)
		}
		return none, nil, err
	}
	return *c, order, nil
}

// orderGone reports whether the CA has said that an order is not there, or
// not ours.
func orderGone(err error) bool {
	var p *acmeclient.Problem
	if !errors.As(err, &p) {
		return false
	}
	return p.Status == http.StatusNotFound || p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden
}

func sameNames(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// begin makes an order. Its key and URL are staged in one Put before anything
// else happens, so that a crash loses neither, and nothing is ever finalized
// with a key that is not stored.
func (is *acmeIssuer) begin(ctx context.Context, t acmeclient.KeyType) (record.Credential, *acmeclient.Order, error) {
	var none record.Credential
	if err := is.certificateAllowed(); err != nil {
		return none, nil, err
	}
	cred, err := is.makeKey(ctx, t)
	if err != nil {
		return none, nil, &keyTypeError{err}
	}
	if err := is.ledger(is.ca).takeOrder(ctx); err != nil {
		return none, nil, err
	}
	is.step("creating the order")
	request := is.def.request()
	request.Replaces = is.replaces(string(t))
	order, err := is.session.NewOrder(ctx, request)
	if err != nil {
		return none, nil, err
	}
	is.tellWarnings(order.Warnings)
	if order.ReplacesRefused {
		info := is.job.ARI[request.Replaces]
		info.Refused = true
		is.job.ARI[request.Replaces] = info
	}
	is.log.Info("order created", "order", order.URL, "ca", caName(is.ca), "key", t)
	cred.Meta = record.Meta{
		KeyType: string(t), CA: is.ca.URL, Account: is.account.url, Order: order.URL, Profile: is.def.profileOf(order),
		When: is.e.now().UTC().Truncate(time.Second),
	}
	set := new(record.Set)
	if is.staged != nil {
		set.Credentials = slices.Clone(is.staged.Credentials)
	}
	set.Replace(cred)
	return cred, order, is.stage(ctx, set)
}

// complete proves control of the names, has the order finalized, and returns
// the credential with its checked certificate.
func (is *acmeIssuer) complete(ctx context.Context, cred record.Credential, order *acmeclient.Order) (record.Credential, error) {
	key, err := is.signer(ctx, &cred)
	if err != nil {
		return cred, err
	}
	if order.Status == acmeclient.StatusPending {
		if order, err = is.authorize(ctx, order); err != nil {
			return cred, err
		}
	}
	if order.Status != acmeclient.StatusValid {
		url := order.URL
		is.countCertificate(url) // before it happens, so that a crash does not lose it
		if err = is.putJob(ctx); err != nil {
			return cred, err
		}
		is.step("finalizing the order")
		if order, err = is.finalize(ctx, order, key); err != nil {
			if saidNo(err) {
				is.uncountCertificate(url)
			}
			return cred, is.refusedKey(ctx, &cred, err)
		}
	}
	chain, err := is.download(ctx, order)
	if orderGone(err) {
		return cred, fmt.Errorf("%w: its certificate is gone: %w", errSpent, err)
	}
	if err != nil {
		return cred, err
	}
	return is.accept(ctx, cred, order, chain)
}

// saidNo reports whether the CA has refused a request, and not only failed, or
// let us wait.
func saidNo(err error) bool {
	var p *acmeclient.Problem
	return errors.As(err, &p) && p.Status >= 400 && p.Status < 500
}

// refusedKey drops an order whose key, or what is signed with it, the CA does
// not take: the next attempt makes another. It returns err.
func (is *acmeIssuer) refusedKey(ctx context.Context, c *record.Credential, err error) error {
	var p *acmeclient.Problem
	if !errors.As(err, &p) || !slices.Contains([]string{"badCSR", "badPublicKey", "badSignatureAlgorithm"}, p.Kind()) {
		return err
	}
	is.keyUsed(c)
	return is.dropBad(ctx, &record.Set{Credentials: []record.Credential{*c}}, &keyTypeError{err})
}

// accept checks a certificate that has come. One that cannot be used is kept
// in the archive, and its order dropped: the CA would send it again and again.
func (is *acmeIssuer) accept(ctx context.Context, cred record.Credential, order *acmeclient.Order, chain [][]byte) (record.Credential, error) {
	now := is.e.now()
	is.countCertificate(order.URL)
	is.fill(&cred, order, chain)
	is.keyUsed(&cred)
	err := checkCredential(&cred, is.def.Names, now)
	if err == nil {
		is.tellWarnings(is.deviations(&cred))
		is.ledger(is.ca).cleared(ctx, is.noted, is.began)
		is.log.Info("certificate obtained", "certificate", order.Certificate, "key", cred.KeyType)
		return cred, nil
	}
	if clockErr := wrongClock(&cred, now); clockErr != nil {
		err = fmt.Errorf("%w; %w", err, clockErr)
	}
	err = fmt.Errorf("%w, at %s: %w", errBadCertificate, order.Certificate, err)
	return cred, is.dropBad(ctx, &record.Set{Credentials: []record.Credential{cred}}, err)
}

// fill gives a credential the certificate that has come for it.
func (is *acmeIssuer) fill(cred *record.Credential, order *acmeclient.Order, chain [][]byte) {
	cred.Chain, cred.Certificate, cred.When = chain, order.Certificate, is.e.now().UTC().Truncate(time.Second)
}

// dropBad keeps a bad credential in the archive, and takes it out of staging.
// What stands beside it there stays.
func (is *acmeIssuer) dropBad(ctx context.Context, bad *record.Set, why error) error {
	rest := new(record.Set)
	for _, c := range is.staged.Credentials {
		if c.KeyType != bad.Credentials[0].KeyType {
			rest.Credentials = append(rest.Credentials, c)
		}
	}
	if len(rest.Credentials) == 0 {
		return is.dropStaged(ctx, bad, why)
	}
	is.log.Warn("a staged credential is dropped", "error", why)
	if bad.Complete() {
		if err := is.e.records.Keep(ctx, is.def.Name, bad); err != nil {
			return err
		}
	}
	return cmp.Or(is.stage(ctx, rest), why)
}

// checkCredential checks that a credential is good for names.
func checkCredential(c *record.Credential, names []string, now time.Time) error {
	key, err := c.Public()
	if err != nil {
		return err
	}
	if !c.Complete() {
		return fmt.Errorf("the %s certificate is missing", c.KeyType)
	}
	if _, err = acmeclient.CheckChain(c.Chain, key, names, now); err != nil {
		return err
	}
	// CheckChain bears with clocks that differ; what has expired is of no use.
	if leaf, err := c.Leaf(); err != nil || !now.Before(leaf.NotAfter) {
		return cmp.Or(err, fmt.Errorf("the %s certificate has expired", c.KeyType))
	}
	return nil
}
