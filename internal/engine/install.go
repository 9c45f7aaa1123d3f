package engine

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// unstored is the version of certificates that are served, but not known to
// be in the Store as the active ones. No Store has such a Version.
const unstored store.Version = "not stored"

// errUnfit marks a staged Set that may not be used, whoever tries.
var errUnfit = errors.New("the staged certificates cannot be used")

// install has set served for d from here on, if what is served at that moment
// has the Version old; store.Any stands for whatever is served.
func (e *Engine) install(ctx context.Context, d *domain, set *record.Set, version, old store.Version) (installed bool, err error) {
	creds, err := e.credentials(ctx, d, set)
	if errors.As(err, new(*keyError)) {
		e.notOpened(d, set, version, err)
	}
	if err != nil {
		return false, err
	}
	certs := certificatesOf(set)
	hash, err := set.Hash()
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.removed || old != store.Any && old != d.version {
		return false, nil
	}
	// A key type that the new Set lacks is served on while it is valid, to
	// clients that can use no other.
	var former []*live.Credential
	for i, c := range d.certs {
		if set.Credential(c.KeyType) == nil && e.now().Before(c.NotAfter) {
			former = append(former, d.site.Credentials[i])
		}
	}
	d.site = &live.Site{Domain: d.def.Name, Credentials: creds, Former: former}
	if d.onDemand != nil {
		d.site.Asked = &d.onDemand.asked
	}
	d.certs, d.version, d.hash, d.unfit, d.unopened = certs, version, hash, unfit{}, nil
	d.dropKeys(set)
	e.serve(d)
	e.announceChange()
	return true, nil
}

// credentials makes of a complete Set what live serves for d.
func (e *Engine) credentials(ctx context.Context, d *domain, set *record.Set) ([]*live.Credential, error) {
	creds := make([]*live.Credential, 0, len(set.Credentials))
	for i := range set.Credentials {
		c := &set.Credentials[i]
		key, err := e.signer(ctx, d, c)
		if err != nil {
			return nil, err
		}
		cred, err := e.chains.NewCredential(c.Chain, key)
		if err != nil {
			return nil, fmt.Errorf("the %s certificate: %w", c.KeyType, err)
		}
		creds = append(creds, cred)
	}
	return creds, nil
}

// serve puts what d has into the table. A name that its certificates do not
// cover keeps what it is served with if that covers it: the name may have
// come from another Domain, whose certificate is good until there is a better
// one. e.mu is held.
func (e *Engine) serve(d *domain) {
	var own []string
	for _, name := range d.def.Names {
		if site := d.siteFor(name, e.now()); site != nil {
			e.table.Put([]string{name}, site)
			delete(e.lenders, name)
			continue
		}
		if borrowed := e.lent(name); borrowed != nil {
			e.table.Put([]string{name}, d.siteOf(borrowed))
		} else {
			own = append(own, name)
		}
	}
	if d.onDemand != nil { // who asks for them waits until they are covered
		e.table.Put(own, d.siteOf(nil))
		return
	}
	e.table.Put(own, d.site)
}

// certificatesOf are the facts about the certificates of a Set; of one that
// cannot be read there are none.
func certificatesOf(set *record.Set) []certificate {
	if set == nil {
		return nil
	}
	certs := make([]certificate, 0, len(set.Credentials))
	for i := range set.Credentials {
		c := &set.Credentials[i]
		leaf, err := c.Leaf()
		if err != nil {
			return nil
		}
		id, err := acmeclient.CertID(leaf)
		if err != nil {
			id = "" // a certificate without key identifier has no ID
		}
		certs = append(certs, certificate{
			Certificate: policy.Certificate{
				KeyType: c.KeyType, Names: namesIn(leaf), CA: c.CA,
				NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Issued: c.When,
			},
			url: c.Meta.Certificate, id: id, leaf: c.Chain[0],
		})
	}
	return certs
}

// namesIn are the DNS names and the addresses that a certificate is for.
func namesIn(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, addr.Unmap().String())
		}
	}
	return names
}

// factsOf are certificates as policy wants them, with what their CAs say of
// them.
func factsOf(certs []certificate, job *record.Job) []policy.Certificate {
	list := make([]policy.Certificate, 0, len(certs))
	for _, c := range certs {
		c.ARI = suggestion(job, c.id)
		list = append(list, c.Certificate)
	}
	return list
}

// activateInTime activates the staged Set when it is time to.
func (a *attempt) activateInTime(ctx context.Context) error {
	now := a.e.now()
	at, held := a.activationTime(now)
	switch {
	case held:
		a.log.Info("certificates wait until they are activated by hand", "names", a.def.Shown)
		return nil
	case now.Before(at):
		a.activateAt = at
		a.log.Info("certificates wait for their activation", "names", a.def.Shown, "at", at)
		return nil
	}
	return a.activate(ctx, a.staged)
}

// activationTime is when the staged Set may be activated. What is in use is
// replaced without delay when it lacks something or nears its end; with held,
// somebody has to ask for it.
func (a *attempt) activationTime(now time.Time) (at time.Time, held bool) {
	switch {
	case a.task.asked(), someToBeRevoked(a.job, a.inUse()):
		return now, false
	case same(a.staged, a.active): // a former attempt has activated it, but not cleared staging
		return now, false
	case a.def.HoldActivation:
		return time.Time{}, true
	case a.def.ActivationDelay <= 0, a.e.holds(a.d):
		return now, false
	}
	certs := factsOf(a.inUse(), a.job)
	return policy.Activation(a.def.rules(), certs, a.staged.When(), a.def.ActivationDelay, now), false
}

// activate makes the staged Set the active one and has it served. If the
// Store does not let it, the Set is served from memory, and kept there until
// it could be written: an issued certificate is never thrown away.
func (a *attempt) activate(ctx context.Context, staged *record.Set) error {
	a.step("activating the certificates")
	if err := a.openKeys(ctx, staged); err != nil {
		return err
	}
	if a.task.revoke != nil {
		if err := a.listRevocations(ctx); err != nil {
			return err
		}
	}
	before := a.active
	set, version, err := a.e.records.Activate(ctx, a.def.Name, a.check)
	if set != nil {
		if err != nil {
			a.log.Warn("certificates are active, but staging could not be cleared", "error", err)
			a.leftover = true
		}
		a.cleared = same(staged, before)
		return a.activeNow(ctx, set, version, same(set, staged))
	}
	if errors.Is(err, errUnfit) {
		if dropErr := a.dropStaged(ctx, staged, err); !errors.Is(dropErr, errDropped) {
			return dropErr
		}
		return err
	}
	if a.check(staged, a.active) == nil {
		a.keep(ctx, staged)
	}
	return err
}

// activeNow has served what is active after an activation: the Set that was
// staged, or, if not ours, one that is better.
func (a *attempt) activeNow(ctx context.Context, set *record.Set, version store.Version, ours bool) error {
	served := a.e.versionOf(a.d)
	a.active, a.activeVersion, a.staged, a.stagedVersion = set, version, nil, store.None
	a.activated = ours && !a.cleared
	a.e.hold(a.d, nil)
	if ours {
		a.log.Info("certificates are active", "names", a.def.Shown)
	} else {
		a.log.Info("the staged certificates went to the archive: those in use are better", "names", a.def.Shown)
	}
	a.prune(ctx)
	if served == version {
		return nil
	}
	var err error
	a.installed, err = a.e.install(ctx, a.d, set, version, store.Any)
	return err
}

// prune keeps the archive small.
func (a *attempt) prune(ctx context.Context) {
	if err := a.e.records.Prune(ctx, a.def.Name, a.e.now()); err != nil {
		a.log.Warn("the archive could not be pruned", "error", err)
	}
}

// keep serves a Set that could not be written, and remembers to write it.
func (a *attempt) keep(ctx context.Context, set *record.Set) {
	a.log.Error("certificates could not be stored; they are served from memory until they can")
	a.e.hold(a.d, set)
	if a.def.HoldActivation {
		return
	}
	if _, err := a.e.install(ctx, a.d, set, unstored, store.Any); err != nil {
		a.log.Error("certificates cannot be served", "error", err)
	}
}

// holds reports whether certificates are served that could not be written.
func (e *Engine) holds(d *domain) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return d.held != nil
}

// letGo forgets that set is to be written, now that it is in the archive: it
// would take the place of what is staged, again and again.
func (e *Engine) letGo(d *domain, set *record.Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.held != nil && same(d.held, set) {
		d.held = nil
	}
}

func (e *Engine) hold(d *domain, set *record.Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.held = set
}

// check says whether the staged Set may take the place of the active one.
func (a *attempt) check(staged, active *record.Set) error {
	now := a.e.now()
	for i := range staged.Credentials {
		if err := checkCredential(&staged.Credentials[i], a.def.Names, now); err != nil {
			return fmt.Errorf("%w: %w", errUnfit, err)
		}
	}
	for _, t := range a.def.KeyTypes {
		if staged.Credential(string(t)) == nil {
			return fmt.Errorf("%w: there is no %s certificate among them", errUnfit, t)
		}
	}
	if active != nil && !a.task.asked() && policy.Stale(a.def.rules(),
		factsOf(certificatesOf(staged), a.job), factsOf(certificatesOf(active), a.job), now) {
		return record.ErrSuperseded
	}
	return nil
}

// errDropped says that a staged Set is gone, as it was meant to be.
var errDropped = errors.New("the staged certificates were dropped")

// dropStaged removes a staged Set that is of no use. What is complete is kept
// in the archive. The error wraps errDropped and why, or says that the Store
// did not let it.
func (a *attempt) dropStaged(ctx context.Context, set *record.Set, why error) error {
	a.log.Warn("staged certificates are dropped", "error", why)
	a.job.Tell(a.e.now(), "dropped", why.Error())
	if err := a.e.records.Unstage(ctx, a.def.Name, set, a.stagedVersion); err != nil {
		return err
	}
	a.staged, a.stagedVersion = nil, store.None
	a.e.letGo(a.d, set)
	return fmt.Errorf("%w: %w", errDropped, why)
}

func describe(certs []certificate) []status.Certificate {
	list := make([]status.Certificate, 0, len(certs))
	for _, c := range certs {
		leaf, err := x509.ParseCertificate(c.leaf)
		if err != nil {
			continue // it was parsed when it was installed
		}
		r := status.CertificateOf(leaf)
		r.KeyType, r.CA, r.URL = c.KeyType, c.CA, c.url
		list = append(list, r)
	}
	return list
}

// caName is how people know a CA.
func caName(ca acmeclient.CA) string {
	if ca.Name != "" {
		return ca.Name
	}
	return ca.URL
}
