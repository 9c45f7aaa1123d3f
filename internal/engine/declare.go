package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/record"
)

// SetDomains declares the Domains, without any I/O: those that are unchanged
// keep everything, those that are gone are no longer served.
func (e *Engine) SetDomains(defs []*Domain) {
	for _, def := range defs {
		def.print = def.fingerprint(e.cfg.AcceptTerms) // it asks the Challengers, which may do anything
	}
	contacts := contactsOf(defs)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.contacts = contacts
	wanted := make(map[string]*Domain, len(defs))
	taken := make(map[string]bool) // names that cannot be had on demand
	for _, def := range defs {
		wanted[def.Name] = def
		for _, name := range def.Names {
			taken[name] = e.cfg.OnDemand != nil
		}
	}
	gone := make(map[string][]string) // names that leave, by the Domain that had them
	for _, name := range slices.Sorted(maps.Keys(e.domains)) {
		d := e.domains[name]
		if def := wanted[name]; def != nil {
			d.onDemand = nil // it is declared by now
			e.lendLost(d, def.Names)
			gone[name] = slices.DeleteFunc(slices.Clone(d.def.Names), func(n string) bool {
				return slices.Contains(def.Names, n)
			})
		} else if d.onDemand == nil || slices.ContainsFunc(d.def.Names, func(n string) bool { return taken[n] }) {
			e.lendLost(d, nil)
			e.forget(d)
			gone[name] = d.def.Names
		}
	}
	for _, def := range defs {
		if d := e.domains[def.Name]; d != nil {
			e.redefine(d, def)
			continue
		}
		d := &domain{def: def, at: -1, job: new(record.Job), site: &live.Site{Domain: def.Name}}
		e.domains[def.Name] = d
		e.serve(d)
	}
	// Names go last, and only from those who still have them: a name that moves
	// is served all the time.
	for domain, names := range gone {
		e.table.Remove(names, domain)
	}
	e.declared++
	e.unsearched = true
	e.announceChange()
}

// forget stops looking after d. e.mu is held.
func (e *Engine) forget(d *domain) {
	d.removed = true
	e.unschedule(d)
	if d.cancel != nil {
		d.cancel()
	}
	delete(e.domains, d.def.Name)
}

// redefine gives d another definition; it keeps what it serves until it has
// better. e.mu is held.
func (e *Engine) redefine(d *domain, def *Domain) {
	if !slices.Equal(d.def.Files, def.Files) {
		d.files = nil
	}
	same := slices.Equal(d.def.Files, def.Files) && d.def.Manual == def.Manual && d.def.print == def.print && d.def.RenewWindow == def.RenewWindow &&
		d.def.HoldActivation == def.HoldActivation && d.def.ActivationDelay == def.ActivationDelay
	d.def = def
	if d.unopened != nil { // OpenKey may be another
		d.unopened.at = e.now()
		if d.state == idle && d.loaded {
			e.schedule(d, e.now())
		}
	}
	if same {
		return
	}
	e.serve(d)
	d.reconfigured = d.job.For != def.print
	switch {
	case d.state == working:
		d.dueAgain = true
	case d.state == idle && d.loaded:
		e.schedule(d, e.now())
	}
}

// fingerprint tells apart the configurations with which an attempt may end
// differently: after a change, a failure is no reason to wait.
func (d *Domain) fingerprint(termsAccepted bool) string {
	h := sha256.New()
	fmt.Fprintln(h, d.Names, d.KeyTypes, d.urls(), d.Contacts, termsAccepted, d.Wishes)
	for _, ca := range d.CAs {
		if !ca.EAB.IsZero() || ca.AccountKey != nil {
			fmt.Fprintln(h, sharingOf(ca), ca.EAB.HMAC.Reveal()) // who mends a wrong one need not wait
		}
	}
	if d.Keys.New != nil || d.Keys.Open != nil {
		fmt.Fprintln(h, d.Keys.New != nil, d.Keys.Open != nil)
	}
	for _, c := range d.Challengers {
		fmt.Fprintln(h, c.Types())
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
