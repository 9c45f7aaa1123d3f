package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md"
)

// reconfigure changes the Domains in some way, and tells the nodes: one after
// the other, as a deployment does.
func (v *driver) reconfigure(d draw) {
	what := pick(d.of("what"), "add a name", "add a name", "remove a name", "move a name", "rename", "remove a Domain",
		"bring a Domain back", "key types", "CAs", "add a Domain")
	v.change(what, func(domains []md.Domain) []md.Domain { return v.reconfigured(what, d, domains) })
	if what == "add a name" && d.of("too early").chance(0.4) {
		v.blockNames(d, v.lastName)
	}
	for _, n := range v.alive() {
		v.after(d.of("telling", n.id).between(time.Second, time.Hour), func() { v.tell(n) })
	}
}

// reconfigured returns other Domains. v.mu is held.
func (v *driver) reconfigured(what string, d draw, domains []md.Domain) []md.Domain {
	if what == "add a Domain" && len(domains) < 3 || len(domains) == 0 {
		return append(domains, v.newDomain())
	}
	i := d.of("which").below(len(domains))
	x := &domains[i]
	x.Names = slices.Clone(x.Names)
	switch what {
	case "add a name":
		if len(x.Names) < 6 {
			_, zone, _ := strings.Cut(x.Names[0], ".")
			x.Names = append(x.Names, v.newName(zone))
		}
	case "remove a name":
		if len(x.Names) > 1 {
			at := d.of("name").below(len(x.Names))
			x.Names = slices.Delete(x.Names, at, at+1)
		}
	case "move a name":
		if to := &domains[d.of("to").below(len(domains))]; to != x && len(x.Names) > 1 {
			name := x.Names[len(x.Names)-1]
			x.Names = x.Names[:len(x.Names)-1]
			to.Names = append(slices.Clone(to.Names), name)
		}
	case "rename":
		v.count++
		x.Name = fmt.Sprint("renamed-", v.count)
	case "remove a Domain":
		v.parked = append(v.parked, *x)
		return slices.Delete(domains, i, i+1)
	case "bring a Domain back":
		if len(v.parked) > 0 && len(domains) < 3 {
			domains = append(domains, v.parked[0])
			v.parked = v.parked[1:]
		}
	case "key types":
		if len(x.KeyTypes) == 2 {
			x.KeyTypes = nil
		} else if !strings.HasSuffix(x.Names[0], "days.test") && d.of("both").chance(0.3) {
			x.KeyTypes = []md.KeyType{md.P256, md.P384}
		}
	case "CAs":
		x.CAs = slices.Clone(x.CAs)
		slices.Reverse(x.CAs)
	}
	return domains
}

// setClock puts a node's clock forward or back for a while.
func (v *driver) setClock(id int, d draw) {
	off := d.of("by").between(time.Minute, 20*day)
	if d.of("back").chance(0.5) {
		off = -off
	}
	v.during("clock", fmt.Sprintf("that of node %d is off by %v", id, off), d.of("for").between(time.Minute, 3*day),
		func() { v.places[id].offset.Store(int64(off)) }, func() { v.endClock(id) })
}

// endClock puts a node's clock right. What it has written meanwhile of times
// to come is found out, but not at once.
func (v *driver) endClock(id int) {
	v.places[id].offset.Store(0)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.troubles.brief("former clock", "", time.Now(), day)
}
