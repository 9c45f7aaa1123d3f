package e2e_test

import (
	"sync/atomic"

	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// Each test in a file lessons_… is something that has gone wrong once. The
// files stand for what is learnt:
//
//	loops   nobody works without a pause
//	issued  what a CA has issued, or limits, is handled with care
//	asked   who asks is served, and asking is no failure
//	hooks   user code may do anything
//	names   names that move keep their certificates
//	times   clocks, outages and short lives

// faultOn has a CA meet requests of one kind with a fault, as long as while
// is true; a nil while is for ever.
func faultOn(kind string, fault acmetest.Fault, while *atomic.Bool) func(op acmetest.Op) acmetest.Fault {
	return func(op acmetest.Op) acmetest.Fault {
		if op.Kind == kind && (while == nil || while.Load()) {
			return fault
		}
		return acmetest.FaultNone
	}
}

// breaking is a Store of which operations fail, before their effect, as long
// as broken says so.
func breaking(s store.Store, broken func(op storetest.Op) bool) store.Store {
	return &storetest.Faulty{Store: s, Fault: func(op storetest.Op) storetest.Fault {
		if broken(op) {
			return storetest.FaultBefore
		}
		return storetest.FaultNone
	}}
}

// on is a switch that is on at first.
func on() *atomic.Bool {
	b := new(atomic.Bool)
	b.Store(true)
	return b
}
