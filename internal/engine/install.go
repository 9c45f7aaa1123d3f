package engine

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

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

// install has set served for d from here on.
func (e *Engine) install(d *domain, set *record.Set, version store.Version) error {
	creds := make([]*live.Credential, 0, len(set.Credentials))
	for i := range set.Credentials {
		c := &set.Credentials[i]
		key, err := c.Signer()
		if err != nil {
			return err
		}
		cred, err := e.chains.NewCredential(c.Chain, key)
		if err != nil {
			return fmt.Errorf("the %s certificate: %w", c.KeyType, err)
		}
		creds = append(creds, cred)
	}
	certs, err := certificates(set)
	if err != nil {
		return err
	}
	hash, err := set.Hash()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.removed {
		return nil
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
	e.table.Put(d.def.Names, d.site)
	d.certs, d.version, d.hash = certs, version, hash
	e.announceChange()
	return nil
}

// certificates are the facts about the certificates of a complete Set.
func certificates(set *record.Set) ([]certificate, error) {
	if set == nil {
		return nil, nil
	}
	certs := make([]certificate, 0, len(set.Credentials))
	for i := range set.Credentials {
		c := &set.Credentials[i]
		leaf, err := c.Leaf()
		if err != nil {
			return nil, err
		}
		certs = append(certs, certificate{
			Certificate: policy.Certificate{
				KeyType: c.KeyType, Names: leaf.DNSNames,
				NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Issued: c.When,
			},
			ca: c.CA, url: c.Meta.Certificate, leaf: c.Chain[0],
		})
	}
	return certs, nil
}

// facts are the certificates of a Set as policy wants them; of one that
// cannot be read there are none.
func facts(set *record.Set) []policy.Certificate {
	certs, err := certificates(set)
	if err != nil {
		return nil
	}
	list := make([]policy.Certificate, 0, len(certs))
	for _, c := range certs {
		list = append(list, c.Certificate)
	}
	return list
}

// activate makes the staged Set the active one and has it served. If the
// Store does not let it, the Set is served from memory, and kept there until
// it could be written: an issued certificate is never thrown away.
func (a *attempt) activate(ctx context.Context, staged *record.Set) error {
	a.step("activating the certificates")
	set, version, err := a.e.records.Activate(ctx, a.def.Name, a.check)
	if set != nil {
		if err != nil {
			a.log.Warn("certificates are active, but staging could not be cleared", "error", err)
			a.leftover = true
		}
		a.active, a.staged, a.stagedVersion = set, nil, store.None
		a.e.hold(a.d, nil)
		a.log.Info("certificates are active", "names", a.def.Shown)
		return a.e.install(a.d, set, version)
	}
	if errors.Is(err, errUnfit) {
		return a.dropStaged(ctx, staged, err)
	}
	if a.check(staged, a.active) == nil {
		a.keep(staged)
	}
	return err
}

// keep serves a Set that could not be written, and remembers to write it.
func (a *attempt) keep(set *record.Set) {
	a.log.Error("certificates could not be stored; they are served from memory until they can")
	a.e.hold(a.d, set)
	if err := a.e.install(a.d, set, unstored); err != nil {
		a.log.Error("certificates cannot be served", "error", err)
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
	if active != nil && policy.Stale(a.def.rules(), facts(staged), facts(active), now) {
		return record.ErrSuperseded
	}
	return nil
}

// dropStaged removes a staged Set that is of no use, and returns why. What is
// complete is kept in the archive.
func (a *attempt) dropStaged(ctx context.Context, set *record.Set, why error) error {
	a.log.Warn("staged certificates are dropped", "error", why)
	a.job.Tell(a.e.now(), "dropped", why.Error())
	if err := a.e.records.Unstage(ctx, a.def.Name, set, a.stagedVersion); err != nil {
		return err
	}
	a.staged, a.stagedVersion = nil, store.None
	return why
}

// tellInstalled raises Installed for what d serves.
func (e *Engine) tellInstalled(ctx context.Context, d *domain) {
	// Nobody can veto what has happened; errors are logged by notify.
	_ = e.notify(ctx, d, status.Event{Kind: status.Installed, Certificates: e.reportCertificates(d)})
}

// reportCertificates describes the certificates that d serves.
func (e *Engine) reportCertificates(d *domain) []status.Certificate {
	e.mu.Lock()
	certs := d.certs
	e.mu.Unlock()
	return describe(certs)
}

func describe(certs []certificate) []status.Certificate {
	list := make([]status.Certificate, 0, len(certs))
	for _, c := range certs {
		leaf, err := x509.ParseCertificate(c.leaf)
		if err != nil {
			continue // it was parsed when it was installed
		}
		r := status.CertificateOf(leaf)
		r.KeyType, r.CA, r.URL = c.KeyType, c.ca, c.url
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
