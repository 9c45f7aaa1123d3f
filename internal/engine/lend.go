package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// A lender has a certificate for a name that its own Domain does not have any
// more. Names move: between Domains, with a Domain that is renamed, split or
// merged. Who gets a name is served with the former certificate until it has
// one of its own.
type lender struct {
	creds    []*live.Credential
	notAfter time.Time
}

// An orphan is a Set in the Store whose Domain is not declared. It is left
// where it is: the Domain may come back.
type orphan struct {
	name     string
	names    []string // that all of its certificates cover
	notAfter time.Time
}

// lendLost makes d a lender for the names that it is about to lose. e.mu is
// held.
func (e *Engine) lendLost(d *domain, kept []string) {
	for i, c := range d.certs {
		if i < len(d.site.Credentials) {
			e.lend(c, d.site.Credentials, kept)
		}
	}
}

// lend offers credentials for the names of one certificate that are not among
// kept. e.mu is held.
func (e *Engine) lend(c certificate, creds []*live.Credential, kept []string) {
	for _, name := range c.Names {
		needed := strings.HasPrefix(name, "*.") || e.table.Lookup(name) != nil
		if needed && !slices.Contains(kept, name) && c.NotAfter.After(e.lenders[name].notAfter) { // the best there is
			e.lenders[name] = lender{creds: creds, notAfter: c.NotAfter}
		}
	}
}

// lent returns credentials that are good for name, nil if nobody has any.
// e.mu is held.
func (e *Engine) lent(name string) []*live.Credential {
	_, parent, _ := strings.Cut(name, ".")
	for _, n := range []string{name, "*." + parent} {
		if l, ok := e.lenders[n]; ok && e.now().Before(l.notAfter) {
			return l.creds
		}
	}
	return nil
}

// findLenders looks through the Store for certificates that are good for
// names for which a Domain has none. It does so once for all Domains, and not
// at all if nothing is lacking.
func (e *Engine) findLenders(ctx context.Context) {
	for e.lookForLenders(ctx) { // what it has found is not up to date
	}
}

// lookForLenders reports whether other Domains have been declared meanwhile.
func (e *Engine) lookForLenders(ctx context.Context) (again bool) {
	e.mu.Lock()
	declared := e.declared
	var needy []*domain
	for _, d := range slices.SortedFunc(maps.Values(e.domains), byName) {
		if d.loaded && !d.covers(d.def.Names, e.now()) {
			needy = append(needy, d)
		}
	}
	if len(needy) == 0 {
		e.unlisted = false // nobody waits for it any more
	}
	e.mu.Unlock()
	if len(needy) == 0 {
		return false
	}
	orphans, loans, err := e.readOrphans(ctx)
	if err != nil {
		e.log.Warn("looking for former certificates failed; it is tried again", "error", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unlisted = err != nil; e.unlisted {
		return false
	}
	if e.declared != declared {
		return true
	}
	e.orphans, e.unsearched = orphans, false
	for _, d := range slices.SortedFunc(maps.Values(e.domains), byName) {
		e.lendLost(d, d.def.Names)
	}
	for _, l := range loans {
		for _, c := range l.certs {
			if l.creds != nil {
				e.lend(c, l.creds, nil)
			}
		}
	}
	for _, d := range needy {
		if d.removed {
			continue
		}
		e.serve(d)
		if d.state == idle && e.orphanFor(d.def.Names) != "" {
			e.schedule(d, e.now())
		}
	}
	return false
}

// searchAgain looks for former certificates if that could not be done: names
// may be served with them meanwhile.
func (e *Engine) searchAgain(ctx context.Context) {
	e.mu.Lock()
	unlisted := e.unlisted
	e.mu.Unlock()
	if unlisted {
		e.searches.Do("", func() (any, error) { e.findLenders(ctx); return nil, nil })
	}
}

// errUnlisted is why nothing is ordered at first for a Domain that may have
// been renamed.
var errUnlisted = &storeError{errors.New("the Store cannot list what there is of former Domains")}

// readOrphans reads the Sets of Domains that are not declared. Those that
// cannot be read are of no use here.
func (e *Engine) readOrphans(ctx context.Context) ([]orphan, []loan, error) {
	var names []string
	for item, err := range e.store.List(ctx, record.ActivePrefix) {
		if err != nil {
			return nil, nil, err
		}
		names = append(names, record.ActiveName(item.Key))
	}
	e.mu.Lock()
	names = slices.DeleteFunc(names, func(n string) bool { return e.domains[n] != nil })
	e.mu.Unlock()
	found := make([]loan, len(names))
	var group errgroup.Group
	group.SetLimit(parallelReads) // others may keep any number of them in this Store
	for i, name := range names {
		group.Go(func() error {
			return e.guarded(e.log, func() error { found[i] = e.readOrphan(ctx, name); return nil })
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var orphans []orphan
	for i, l := range found {
		if l.certs != nil {
			orphans = append(orphans, orphan{name: names[i], names: namesOfAll(l.certs), notAfter: earliestEnd(l.certs)})
		}
	}
	return orphans, found, nil
}

// readOrphan reads a Set whose Domain is not declared. There is nothing in the
// loan if it is of no use; there are no credentials if its keys are elsewhere,
// where who takes it over can open them.
func (e *Engine) readOrphan(ctx context.Context, name string) loan {
	set, _, err := e.records.Active(ctx, name)
	if err != nil {
		return loan{}
	}
	certs := certificatesOf(set)
	creds, err := e.credentials(ctx, nil, set)
	if err != nil && !errors.As(err, new(*keyError)) || !e.now().Before(earliestEnd(certs)) {
		return loan{}
	}
	return loan{certs, creds}
}

// A loan is what an orphan has to offer.
type loan struct {
	certs []certificate
	creds []*live.Credential
}

// earliestEnd is when the first of the certificates expires, zero if there are
// none.
func earliestEnd(certs []certificate) time.Time {
	var end time.Time
	for _, c := range certs {
		if end.IsZero() || c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// namesOfAll are the names that stand in every certificate.
func namesOfAll(certs []certificate) []string {
	if len(certs) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(certs[0].Names), func(n string) bool {
		return slices.ContainsFunc(certs, func(c certificate) bool { return !slices.Contains(c.Names, n) })
	})
}

// orphanFor returns the name of a Domain that is gone, if its Set covers all of
// names, else "": the smallest, which is most likely the same Domain under another
// Name. e.mu is held.
func (e *Engine) orphanFor(names []string) string {
	var best *orphan
	for i := range e.orphans {
		o := &e.orphans[i]
		all := true
		for _, name := range names {
			all = all && policy.Covers(o.names, name)
		}
		if all && (best == nil || len(o.names) < len(best.names)) {
			best = o
		}
	}
	if best == nil {
		return ""
	}
	return best.name
}

// inherit takes over what is remembered of a former Domain: what it has been
// issued, since the CA counts certificates for the same names, whatever we call the
// Domain; and what is still to be revoked, which nobody else would ever do.
func (a *attempt) inherit(ctx context.Context, former string) error {
	job, _, err := a.e.records.Job(ctx, former)
	if errors.As(err, new(*storeError)) {
		return err
	}
	if err != nil {
		return nil // the CA will say so itself
	}
	for _, r := range job.Revocations {
		if toBeRevoked(a.job, r.Leaf) {
			continue
		}
		a.job.Revocations = append(a.job.Revocations, r)
		set, err := a.e.records.FromArchive(ctx, former, r.Archived)
		if err != nil {
			continue // its key is only needed where its account is gone
		}
		if err := a.e.records.Keep(ctx, a.def.Name, set); err != nil {
			return err
		}
	}
	for key, full := range job.Issued {
		if a.job.Issued == nil {
			a.job.Issued = make(map[string]time.Time)
		}
		if full.After(a.job.Issued[key]) {
			a.job.Issued[key] = full
		}
	}
	return a.putJob(ctx) // before the Set: it is adopted once
}

// adopt gives a Domain that has nothing the Set of one that is gone, if that
// is all it needs: it was renamed.
func (a *attempt) adopt(ctx context.Context) error {
	if a.active != nil || a.staged != nil {
		return nil
	}
	a.e.mu.Lock()
	unsearched := a.e.unsearched || a.e.unlisted
	a.e.mu.Unlock()
	if unsearched { // this attempt is faster than Load
		a.e.searches.Do("", func() (any, error) { a.e.findLenders(ctx); return nil, nil })
	}
	a.e.mu.Lock()
	former, unlisted := a.e.orphanFor(a.def.Names), a.e.unlisted
	a.e.mu.Unlock()
	switch {
	case former == "" && unlisted && a.job.StoreErrors == 0: // it may be better soon; if not, a certificate is ordered
		return errUnlisted
	case former == "":
		return nil
	}
	if err := a.inherit(ctx, former); err != nil {
		return err
	}
	set, _, err := a.e.records.Active(ctx, former)
	if errors.As(err, new(*storeError)) {
		return err
	}
	if err != nil || a.adoptable(ctx, set) != nil {
		return nil // it is gone, or of no use: a certificate is ordered
	}
	version, err := a.e.records.Adopt(ctx, a.def.Name, set, a.activeVersion)
	if err != nil {
		return err
	}
	a.active, a.activeVersion = set, version
	a.log.Info("the certificates of a former Domain are used", "names", a.def.Shown, "former", former)
	a.job.Tell(a.e.now(), "adopted", former)
	a.installed, err = a.e.install(ctx, a.d, set, version, store.Any)
	return err
}

func (a *attempt) adoptable(ctx context.Context, set *record.Set) error {
	for i := range set.Credentials {
		if err := checkCredential(&set.Credentials[i], a.def.Names, a.e.now()); err != nil {
			return err
		}
	}
	return a.canOpen(ctx, set)
}
