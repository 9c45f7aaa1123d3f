package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// happening is something that is to be done at a time.
type happening struct {
	at time.Time
	do func()
}

// driver lets happen what the seed has in store.
type driver struct {
	*sim
	later []happening // ascending
	work  sync.WaitGroup
}

// at does something after a while.
func (v *driver) after(wait time.Duration, do func()) {
	h := happening{time.Now().Add(wait), do}
	i, _ := slices.BinarySearchFunc(v.later, h, func(a, b happening) int { return a.at.Compare(b.at) })
	for i < len(v.later) && !v.later[i].at.After(h.at) {
		i++
	}
	v.later = slices.Insert(v.later, i, h)
}

// again lets do happen again and again, once in mean on average.
func (v *driver) again(what string, mean time.Duration, do func(d draw)) {
	for n, at := 0, time.Duration(0); ; n++ {
		d := v.draw.of("again", what, n)
		// All are put down at once, up to the end.
		if at += d.of("gap").gap(mean); at > v.length {
			return
		}
		v.after(at, func() { do(d) })
	}
}

// during makes a trouble that ends by itself.
func (v *driver) during(key, what string, length time.Duration, begin, end func()) {
	v.mu.Lock()
	list := v.troubles[key]
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		v.mu.Unlock()
		return // it is there already
	}
	v.troubles.begin(key, what, time.Now())
	v.mu.Unlock()
	v.trace("%s: %s for %v", key, what, length)
	begin()
	v.after(length, func() {
		end()
		v.mu.Lock()
		v.troubles.end(key, time.Now())
		v.mu.Unlock()
		v.trace("%s: %s is over", key, what)
	})
}

// All is checked every few hours, at the end of each certificate that is
// served, and soon after each event: when the nodes have been told of it.
const (
	checkEvery = 4 * time.Hour
	soonAfter  = 2 * time.Minute
)

// run simulates years, and then some calm days.
func (s *sim) run() {
	v := &driver{sim: s}
	v.plan()
	var nodes sync.WaitGroup
	for id := range s.places {
		nodes.Go(func() { s.keep(id) })
	}
	v.drive(s.began.Add(s.length))
	s.trace("from here on all is calm")
	for len(v.later) > 0 && !s.failed() { // what goes on ends
		h := v.later[0]
		v.later = v.later[1:]
		h.do()
	}
	close(s.calm)
	for id := range s.places {
		s.places[id].offset.Store(0)
	}
	if !s.failed() {
		v.drive(time.Now().Add(10 * day))
		s.checker.end()
	}
	v.work.Wait()
	s.trace("the end")
	close(s.ended)
	nodes.Wait()
	for _, ca := range s.cas {
		ca.Close()
	}
	s.report()
}

// drive does what is to happen, and checks all in between.
func (v *driver) drive(until time.Time) {
	check := time.Now().Add(checkEvery)
	for !v.failed() && time.Now().Before(until) {
		next := check
		if len(v.later) > 0 && v.later[0].at.Before(next) {
			next = v.later[0].at
		}
		if e := v.checker.expiry; e.After(time.Now()) && e.Before(next) {
			next = e
		}
		time.Sleep(time.Until(next))
		if len(v.later) > 0 && !v.later[0].at.After(time.Now()) {
			h := v.later[0]
			v.later = v.later[1:]
			h.do()
			check = time.Now().Add(soonAfter)
			continue
		}
		if e := v.checker.expiry; !check.After(time.Now()) || e.Equal(time.Now()) {
			check = time.Now().Add(checkEvery)
			v.checker.look()
		}
	}
}

// plan puts down all that will happen.
func (v *driver) plan() {
	for _, ca := range v.cas {
		v.again(ca.name+" down", 80*day, func(d draw) {
			v.during(ca.name, "down", d.between(time.Hour, 25*day), func() { ca.SetDown(true) }, func() { ca.SetDown(false) })
		})
		v.again(ca.name+" forgets", 700*day, func(draw) { v.forget(ca) })
		v.again(ca.name+" mass revocation", 300*day, func(d draw) { v.pullForward(ca, d) })
	}
	for id := range v.places {
		v.again(fmt.Sprint("crash ", id), 40*day, func(d draw) { v.arm(id, d) })
		v.again(fmt.Sprint("restart ", id), 60*day, func(draw) {
			select {
			case v.places[id].restart <- struct{}{}:
			default:
			}
		})
	}
	v.again("disk full", 90*day, func(d draw) {
		v.during("store", "full", d.between(time.Hour, 2*day), func() { v.storeState.Store(storeFull) }, func() { v.storeState.Store(works) })
	})
	v.again("store down", 90*day, func(d draw) {
		v.during("store", "down", d.between(time.Minute, 2*day), func() { v.storeState.Store(storeDown) }, func() { v.storeState.Store(works) })
	})
	v.again("notifier", 90*day, func(d draw) {
		state := pick(d.of("state"), notifierVetoes, notifierFails, notifierHangs)
		v.during("notifier", fmt.Sprint("state ", state), d.between(time.Hour, 10*day),
			func() { v.notifierState.Store(state) }, func() { v.endNotifier(state) })
	})
	v.again("firewall", 100*day, v.block)
	v.again("reconfigure", 45*day, v.reconfigure)
	for id := range v.places {
		v.again(fmt.Sprint("clock ", id), 200*day, func(d draw) { v.setClock(id, d) })
	}
}

// endNotifier has the Notifier work again. Who had nothing in date and was
// vetoed asks again when it looks again.
func (v *driver) endNotifier(state int32) {
	v.notifierState.Store(works)
	if state == notifierVetoes {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.troubles.brief("after a veto", "", time.Now(), 2*v.checkInterval)
	}
}

// arm lets a node crash at one of its next operations.
func (v *driver) arm(id int, d draw) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil {
		n.fuse.Store(1 + int64(d.below(60)))
	}
}

// forget makes a CA forget all accounts.
func (v *driver) forget(ca *simCA) {
	v.mu.Lock()
	ca.vanished++
	v.troubles.brief(ca.name+" accounts", "vanished", time.Now(), time.Hour)
	v.mu.Unlock()
	v.trace("%s forgets all accounts", ca.name)
	ca.ForgetAccounts()
}

// pullForward has a CA want all its certificates to be renewed at once.
func (v *driver) pullForward(ca *simCA, d draw) {
	if !ca.RenewalInfo {
		return
	}
	v.trace("%s wants all certificates to be renewed at once", ca.name)
	for _, c := range ca.Certificates() {
		if c.Wrong == acmetest.NotWrong && time.Now().Before(c.Leaf.NotAfter) {
			v.checker.pulled(c)
			ca.SetRenewalInfo(c.Leaf, acmetest.RenewalInfo{
				Start: time.Now().Add(-2 * day), End: time.Now().Add(-day), ExplanationURL: "https://ca.test/incident",
			})
		}
	}
}

// block lets no validator reach the names of a Domain.
func (v *driver) block(d draw) {
	domains := v.config()
	if len(domains) == 0 {
		return
	}
	v.blockNames(d, domains[d.of("which").below(len(domains))].Names...)
}

func (v *driver) blockNames(d draw, names ...string) {
	length := d.of("length").between(time.Hour, 5*day)
	for _, name := range names {
		v.during("name "+name, "validators cannot reach it", length, func() {}, func() {})
	}
}

// tell gives the Domains as they are to a node.
func (v *driver) tell(n *simNode) {
	v.mu.Lock()
	if n == nil || v.nodes[n.id] != n {
		v.mu.Unlock()
		return
	}
	n.domains = slices.Clone(v.domains)
	domains := n.domains
	v.mu.Unlock()
	v.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		n.update <- struct{}{}
		err := n.m.Update(ctx, domains)
		<-n.update
		v.trace("%v is told of the Domains; error: %v", n, err)
	})
}

// change changes the Domains.
func (v *driver) change(what string, do func(domains []md.Domain) []md.Domain) {
	v.mu.Lock()
	v.domains = do(slices.Clone(v.domains))
	v.declare(v.domains)
	v.troubles.brief("Domains", what, time.Now(), 2*time.Hour) // until all nodes were told
	v.traceConfig(what, v.domains)
	v.mu.Unlock()
}
