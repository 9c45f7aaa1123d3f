package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// askFormerCA bounds what another CA than the one in use may take to say what
// has become of an order: there may be a reason why it is not in use.
const askFormerCA = time.Minute

// errOfNoUse says of a credential that nothing was, or will be, issued for it.
var errOfNoUse = errors.New("nothing was issued for it")

// errWorn says of a staged credential that it is due itself.
var errWorn = errors.New("its own time to be renewed has come")

// giveUp is for the staged credential of a key type which is about to be
// written over, because its order leads nowhere at the CA and the account in
// use. An issued certificate is never thrown away: the CA that has the order
// is asked once what has become of it. If it has issued, that is the
// certificate that is returned. If it cannot be asked, or what it has issued
// is not what is wanted now, the credential goes to the archive, with its key
// and the URL of its order.
func (is *acmeIssuer) giveUp(ctx context.Context, t acmeclient.KeyType) (cred record.Credential, ok bool, err error) {
	staged := is.staged.Credential(string(t))
	if staged == nil || staged.Order == "" || is.spent[staged.Order] {
		return record.Credential{}, false, nil
	}
	cred = *staged
	if is.exposed(&cred) {
		return record.Credential{}, false, is.keepInArchive(ctx, cred)
	}
	if !cred.Complete() && !is.ours(&cred) {
		is.step("asking for the order at another CA")
		cred, err = is.fetch(ctx, cred)
	}
	if err == nil && cred.Complete() {
		err = checkCredential(&cred, is.def.Names, is.e.now())
		if err == nil && is.worn(&cred) {
			err = errWorn
		}
		if err == nil {
			is.log.Info("a former order has led to a certificate", "order", cred.Order, "ca", cred.CA)
			return cred, true, nil
		}
	}
	if err := is.orderable(ctx); err != nil {
		return record.Credential{}, false, err // it stays in staging, and is asked for again
	}
	if errors.Is(err, errOfNoUse) {
		is.log.Info("a former order is given up", "order", cred.Order, "ca", cred.CA, "reason", err)
		return record.Credential{}, false, nil
	}
	is.log.Warn("a former order is given up; its key and its URL are kept in the archive",
		"order", cred.Order, "ca", cred.CA, "error", err)
	return record.Credential{}, false, is.keepInArchive(ctx, cred)
}

// orderable makes sure that the CA in use is there, before anything is given up
// for an order with it.
func (is *acmeIssuer) orderable(ctx context.Context) error {
	client, err := is.e.client(is.ca)
	if err == nil {
		_, err = client.Directory(ctx)
	}
	return err
}

// reclaimFor is how long an order can be of use: CAs keep them for days.
const reclaimFor = 7 * 24 * time.Hour

// reclaim is for a CA that has another turn. If what it did not deliver in a
// former one is in the archive, that is staged again, and its order returned:
// it may be issued by now, and nothing has to be ordered twice.
func (is *acmeIssuer) reclaim(ctx context.Context, t acmeclient.KeyType) (record.Credential, *acmeclient.Order, error) {
	var none record.Credential
	if staged := is.staged.Credential(string(t)); staged != nil && is.ours(staged) || is.job.Trials[is.ca.URL].Turns < 2 {
		return none, nil, nil
	}
	oldest, active := is.e.now().Add(-reclaimFor), is.active.Credential(string(t))
	c, err := is.e.records.Unfinished(ctx, is.def.Name, func(c *record.Credential) bool {
		inUse := active != nil && active.Order == c.Order
		return c.KeyType == string(t) && is.ours(c) && c.When.After(oldest) && !inUse && !is.exposed(c)
	})
	if c == nil || err != nil {
		return none, nil, err
	}
	is.log.Info("an order that was given up is asked for again", "order", c.Order)
	set := new(record.Set)
	if is.staged != nil {
		set.Credentials = slices.Clone(is.staged.Credentials)
	}
	set.Replace(*c)
	if err := is.stage(ctx, set); err != nil {
		return none, nil, err
	}
	return is.resume(ctx, t)
}

// ours reports whether an order was made at the CA and with the account in use.
func (is *acmeIssuer) ours(c *record.Credential) bool {
	return c.CA == is.ca.URL && c.Account == is.account.url
}

// fetch gets what another CA, or another account, has issued for a staged
// credential. The error is errOfNoUse if that is nothing.
func (is *acmeIssuer) fetch(ctx context.Context, cred record.Credential) (record.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, askFormerCA)
	defer cancel()
	session, err := is.sessionFor(ctx, &cred)
	if err != nil {
		return cred, err
	}
	order, err := session.Order(ctx, cred.Order)
	if orderGone(err) {
		return cred, fmt.Errorf("%w: %w", errOfNoUse, err)
	}
	if err != nil {
		return cred, err
	}
	switch order.Status {
	case acmeclient.StatusValid:
	case acmeclient.StatusProcessing:
		key, err := is.signer(ctx, &cred)
		if err != nil {
			return cred, err
		}
		csr, err := acmeclient.CSR(key, order.Names)
		if err != nil {
			return cred, err
		}
		if order, err = session.Finalize(ctx, order, csr); err != nil {
			return cred, err
		}
	default:
		return cred, fmt.Errorf("%w: it is %s", errOfNoUse, order.Status)
	}
	chain, _, err := session.ChainTo(ctx, order, is.def.Chain)
	if err != nil {
		return cred, err
	}
	is.fill(&cred, order, chain)
	return cred, nil
}

// sessionFor opens a session with the account of a staged credential.
func (is *acmeIssuer) sessionFor(ctx context.Context, c *record.Credential) (*acmeclient.Session, error) {
	client, account, err := is.e.accountWith(ctx, is.def, c.CA, c.Account)
	if err != nil {
		return nil, err
	}
	return client.Session(account.key, account.url), nil
}

// keepInArchive keeps a credential that is not to be used now.
func (a *attempt) keepInArchive(ctx context.Context, c record.Credential) error {
	return a.e.records.Keep(ctx, a.def.Name, &record.Set{Credentials: []record.Credential{c}})
}
