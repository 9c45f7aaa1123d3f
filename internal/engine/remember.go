package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// onDemand is what a Domain has that was allowed on demand, and not declared.
// Its fields are guarded by the Engine's mu, but for asked.
//
// Such a Domain is remembered in the Store, served after a restart, and
// renewed like any other, if OnDemand still allows it and somebody has asked
// for it since its certificates came. One that nobody asks for is forgotten
// when its certificates have expired.
type onDemand struct {
	asked   atomic.Bool // by a handshake, since somebody last looked
	used    time.Time   // when that was
	askAt   time.Time   // when to ask OnDemand again after a start; zero: it was
	waiting int         // handshakes
}

// triedUnused is how long a certificate is tried to be had that nobody asks
// for any more.
const triedUnused = 7 * 24 * time.Hour

// recallSpread is the time within which Domains that are remembered are asked
// for again after a start.
const recallSpread = time.Hour

// declare adds a Domain that OnDemand has allowed, or gives it another
// definition. What is declared comes first: neither its Names nor its DNS names
// can be had on demand. Wanted says that a client asks for it.
func (e *Engine) declare(def *Domain, wanted bool) error {
	def.print = def.fingerprint(e.cfg.AcceptTerms)
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.domains[def.Name]
	if d != nil && d.onDemand == nil {
		return fmt.Errorf("OnDemand has returned a Domain with the Name %q of a declared one", def.Name)
	}
	for _, name := range def.Names {
		if other := e.owner(name); other != nil && other != d {
			return fmt.Errorf("OnDemand has returned a Domain with %s, which is in Domain %q", name, other.def.Name)
		}
	}
	if d == nil {
		e.addOnDemand(def)
		return nil
	}
	d.onDemand.askAt = time.Time{}
	if wanted {
		d.want()
	}
	e.lendLost(d, def.Names)
	gone := without(d.def.Names, def.Names)
	e.redefine(d, def)
	e.table.Remove(gone, def.Name)
	return nil
}

// addOnDemand has a Domain looked after that nobody has declared. e.mu is held.
func (e *Engine) addOnDemand(def *Domain) *domain {
	d := &domain{def: def, at: -1, job: new(record.Job), onDemand: &onDemand{used: e.now()}}
	d.site = &live.Site{Domain: def.Name, Asked: &d.onDemand.asked}
	e.domains[def.Name] = d
	e.serve(d)
	e.announceChange()
	return d
}

// want notes that a client asks for d, also if it cannot be served yet. e.mu is
// held.
func (d *domain) want() {
	if d.onDemand != nil {
		d.onDemand.asked.Store(true)
	}
}

// siteOf makes a Site of credentials that d does not serve otherwise. e.mu is
// held.
func (d *domain) siteOf(creds []*live.Credential) *live.Site {
	s := &live.Site{Domain: d.def.Name, Credentials: creds}
	if d.onDemand != nil {
		s.Asked = &d.onDemand.asked
	}
	return s
}

// owner returns the Domain that has name itself, not a wildcard for it. e.mu is
// held.
func (e *Engine) owner(name string) *domain {
	site := e.table.Lookup(name)
	if site == nil {
		return nil
	}
	d := e.domains[site.Domain]
	if d == nil || !slices.Contains(d.def.Names, name) {
		return nil
	}
	return d
}

// without returns those of names that are not among others.
func without(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(others, n) })
}

// recall adds the Domains that are remembered, as far as nobody has declared
// them: they are served as before, and OnDemand is asked again before anything
// is ordered.
func (e *Engine) recall(ctx context.Context) error {
	if e.cfg.OnDemand == nil {
		return nil
	}
	var group errgroup.Group
	group.SetLimit(parallelReads)
	for name, err := range e.records.AllDeclared(ctx) {
		if err != nil {
			group.Go(func() error { return fmt.Errorf("reading what was allowed on demand: %w", err) })
			break
		}
		e.mu.Lock()
		known := e.domains[name] != nil
		e.mu.Unlock()
		if !known {
			group.Go(func() error { return e.recallOne(ctx, name) })
		}
	}
	err := group.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unrecalled = err != nil
	return err
}

// recallAgain adds what could not be read at the start.
func (e *Engine) recallAgain(ctx context.Context) {
	e.mu.Lock()
	unrecalled := e.unrecalled
	e.mu.Unlock()
	if !unrecalled || e.recall(ctx) != nil { // which was logged at the start
		return
	}
	if err := e.Load(ctx); err != nil && ctx.Err() == nil {
		e.log.Warn("not all that was allowed on demand could be read from the Store; trying again", "error", err)
	}
}

func (e *Engine) recallOne(ctx context.Context, name string) error {
	said, _, err := e.records.Declared(ctx, name)
	if err = e.tolerate(name, err); err != nil || said == nil {
		return err
	}
	def, err := e.cfg.Recall(name, said.Names)
	if err != nil {
		e.log.Error("what was allowed on demand cannot be used any more", "domain", name, "error", err)
		return nil
	}
	def.print = def.fingerprint(e.cfg.AcceptTerms)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.domains[name] != nil || slices.ContainsFunc(def.Names, func(n string) bool { return e.owner(n) != nil }) {
		return nil // somebody has declared it
	}
	on := e.addOnDemand(def).onDemand
	on.used = said.Used
	on.askAt = e.now().Add(time.Duration(e.jitter() * float64(recallSpread)))
	return nil
}

// noteUse looks which Domains handshakes have asked for.
func (e *Engine) noteUse() {
	if e.cfg.OnDemand == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.domains {
		if d.onDemand == nil || !d.onDemand.asked.Swap(false) {
			continue
		}
		unused := d.unused(e.now())
		d.onDemand.used = e.now()
		if unused && d.loaded && d.state == idle {
			e.schedule(d, e.nextLook(d))
		}
	}
}

// unused reports whether nobody has asked for a Domain that was allowed on
// demand since its certificates came. e.mu is held.
func (d *domain) unused(now time.Time) bool {
	if d.onDemand == nil || d.onDemand.asked.Load() {
		return false
	}
	if len(d.certs) == 0 {
		return now.Sub(d.onDemand.used) > triedUnused
	}
	return !slices.ContainsFunc(d.certs, func(c certificate) bool { return !c.Issued.After(d.onDemand.used) })
}

// expiry is when all certificates of d have expired. e.mu is held.
func (d *domain) expiry() time.Time {
	var last time.Time
	for _, c := range d.certs {
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	return last
}

// What becomes of a Domain that was allowed on demand.
var (
	errUnused    = errors.New("nobody has asked for it since its certificates came")
	errForgotten = errors.New("it is forgotten")
)

// remember writes down that a Domain was allowed on demand, and when a client
// asked for it last.
func (a *attempt) remember(ctx context.Context) error {
	if a.on == nil {
		return nil
	}
	said, version, err := a.e.records.Declared(ctx, a.def.Name)
	var broken *record.BrokenError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		said = &record.Declared{Since: a.e.now().UTC().Truncate(time.Second)}
	case errors.As(err, &broken):
		said, version = &record.Declared{Since: a.e.now().UTC().Truncate(time.Second)}, broken.Version
	case err != nil:
		return err
	}
	a.e.mu.Lock()
	on := a.on
	if on.asked.Swap(false) {
		on.used = a.e.now()
	}
	if said.Used.After(on.used) {
		on.used = said.Used // another process has seen a client
	}
	used := on.used.UTC().Truncate(time.Second)
	a.e.mu.Unlock()
	if slices.Equal(said.Names, a.def.Names) && !used.After(said.Used) {
		return nil
	}
	said.Names, said.Used = a.def.Names, used
	_, err = a.e.records.PutDeclared(ctx, a.def.Name, said, version)
	return err
}

// confirm asks OnDemand whether it still wants a Domain: before anything is
// ordered for it, unless a handshake has just asked, and once after a start. If
// the Domain is another by now, the attempt goes on with that.
func (a *attempt) confirm(ctx context.Context, decision policy.Decision) error {
	e := a.e
	if a.on == nil {
		return nil
	}
	e.mu.Lock()
	askAt := a.on.askAt
	e.mu.Unlock()
	first := a.active == nil && askAt.IsZero()
	again := !askAt.IsZero() && !e.now().Before(askAt)
	if first || !again && !decision.Due() {
		return nil
	}
	def, err := e.allowed(ctx, a.def.Names[0], nil)
	switch {
	case a.declared(): // and the answer counts for nothing
		return nil
	case errors.Is(err, ErrNotManaged):
		return a.forget(err)
	case err != nil && !decision.Due():
		a.log.Warn("OnDemand cannot say whether a Domain is still wanted", "error", err)
		e.mu.Lock()
		defer e.mu.Unlock()
		a.on.askAt = e.now().Add(policy.CheckDelay(e.cfg.CheckInterval, e.jitter()))
		return nil
	case err != nil:
		return fmt.Errorf("asking OnDemand whether %s is still wanted: %w", a.def.Names[0], err)
	case def.Name != a.def.Name:
		return a.forget(fmt.Errorf("OnDemand has returned the Domain %q for it", def.Name))
	}
	a.def = def
	return e.declare(def, false)
}

// declared reports whether the Domain, which was on demand when the attempt
// began, was declared meanwhile. The attempt goes on with that then.
func (a *attempt) declared() bool {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	if a.d.removed || a.d.onDemand == a.on {
		return false
	}
	a.def, a.on = a.d.def, nil
	return true
}

// unused reports whether nobody asks for the Domain any more: nothing is renewed
// then.
func (a *attempt) unused() bool {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	return a.d.unused(a.e.now())
}

// retire forgets a Domain that is not used any more when its certificates have expired.
func (a *attempt) retire(ctx context.Context) error {
	a.e.mu.Lock()
	expired := !a.e.now().Before(a.d.expiry())
	a.e.mu.Unlock()
	if !expired {
		a.upToDate = true
		return nil
	}
	return a.forget(errUnused)
}

// forget ends the life of a Domain that was allowed on demand.
func (a *attempt) forget(why error) error {
	a.log.Info("a Domain that was allowed on demand is forgotten", "names", a.def.Shown, "reason", why)
	a.forgotten = true
	return fmt.Errorf("%w: %w", errForgotten, why)
}

// bury takes a forgotten Domain out of the Store, where its certificates stay
// while they are valid, and out of service.
func (a *attempt) bury(ctx context.Context) error {
	e := a.e
	e.mu.Lock()
	expired := !e.now().Before(a.d.expiry())
	e.mu.Unlock()
	err := e.records.Forget(ctx, a.def.Name, expired)
	if err != nil { // a restart brings it back, to be forgotten again
		a.log.Warn("a forgotten Domain could not be deleted from the Store", "error", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.d.removed || a.d.onDemand != a.on { // it was declared meanwhile: an attempt sees what the Store has left
		a.d.due = e.now()
		return err
	}
	e.forget(a.d)
	e.table.Remove(a.d.def.Names, a.d.def.Name) // which may have more than when the attempt began
	e.announceChange()
	return err
}
