package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store/storetest"
)

// A break is one operation of a node that goes wrong: the Nth of its Store,
// or the Nth request that reaches the CA.
type breakage struct {
	where string // "store" or "CA"
	n     int
	after bool // the operation had its effect
	crash bool // the node dies with it, and another is started
}

func (b breakage) String() string {
	how, then := "before", "goes on"
	if b.after {
		how = "after"
	}
	if b.crash {
		then = "crashes"
	}
	return fmt.Sprintf("%s operation %d fails %s its effect and the node %s", b.where, b.n, how, then)
}

// lifeline connects a node to the Store and the CA. When it is cut, nothing
// the node does has an effect any more, as if its process had died.
type lifeline struct {
	cut  atomic.Bool
	dead chan struct{}
}

// errDead is what a process meets that is no more.
var errDead = errors.New("the process is dead")

func newLifeline() *lifeline { return &lifeline{dead: make(chan struct{})} }

func (l *lifeline) sever() {
	if l.cut.CompareAndSwap(false, true) {
		close(l.dead)
	}
}

// RoundTripper is the way to the CA.
func (l *lifeline) client(base *http.Client) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if l.cut.Load() {
			return nil, errDead
		}
		return base.Transport.RoundTrip(r)
	})}
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// In these tests nodes look at a Domain every hour or so, so that it does
// not take long until what is left over is cleaned up.
const (
	lookEvery = time.Hour
	aWhile    = 2 * lookEvery
)

// An ordeal is work of a node of which every operation is broken in turn.
type ordeal struct {
	domain md.Domain
	manage func(m *md.Manager) // sets more fields, if need be
	// before is what a sound node does first, and leaves in the Store.
	before func(w *world, start func() *node)
	certs  int // that are issued in the end, by all CAs
	parts  int // Sets that were in use until there was a whole one
}

// endure runs an ordeal with one operation broken, and returns how many
// operations of each kind there were.
func (o ordeal) endure(t *testing.T, b breakage) (storeOps, caOps int) {
	w := newWorld(t)
	sound := func() *node {
		m := w.manager(o.domain)
		m.CheckInterval = lookEvery
		if o.manage != nil {
			o.manage(m)
		}
		return w.start(m)
	}
	if o.before != nil {
		o.before(w, sound)
	}
	former := w.activeHash(o.domain.Names[0])

	line := newLifeline()
	faulty := &storetest.Faulty{Store: w.store}
	faulty.Fault = func(op storetest.Op) storetest.Fault {
		switch {
		case line.cut.Load():
			return storetest.FaultBefore
		case b.where != "store" || op.N != b.n:
			return storetest.FaultNone
		}
		if b.crash {
			defer line.sever()
		}
		if b.after {
			return storetest.FaultAfter
		}
		return storetest.FaultBefore
	}
	var requests atomic.Int64
	decided := w.ca.Fault
	count := func(acmetest.Op) acmetest.Fault {
		if n := int(requests.Add(1)); b.where != "CA" || n != b.n {
			return acmetest.FaultNone
		}
		if b.crash {
			defer line.sever()
		}
		if b.after {
			return acmetest.FaultAfter
		}
		return acmetest.FaultBefore
	}
	w.second.Fault = count
	w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
		if decided != nil {
			if f := decided(op); f != acmetest.FaultNone {
				return f
			}
		}
		return count(op)
	}
	m := w.manager(o.domain)
	m.CheckInterval = lookEvery
	if o.manage != nil {
		o.manage(m)
	}
	m.Store, m.HTTPClient = faulty, line.client(m.HTTPClient)
	n := w.start(m)
	if !w.changes(o.domain.Names[0], former, line.dead) {
		n.stopped()
		line.sever()
		n = sound()
		if !w.changes(o.domain.Names[0], former, nil) {
			t.Errorf("it did not come to an end within two weeks")
		}
	}
	storeOps, caOps = faulty.Count(), int(requests.Load())
	time.Sleep(aWhile) // what is left over is cleaned up
	n.stopped()
	w.checkEnd(o, former)
	return storeOps, caOps
}

// activeHash names the active Set of a Domain, "" if there is none.
func (w *world) activeHash(name string) string {
	set, _, err := (&record.Records{Store: w.store}).Active(context.Background(), name)
	if err != nil {
		return ""
	}
	hash, err := set.Hash()
	if err != nil {
		w.t.Fatal(err)
	}
	return hash
}

// changes waits until another Set is active than former, and reports whether
// that was before dead.
func (w *world) changes(name, former string, dead <-chan struct{}) bool {
	pause := time.Second
	for end := time.Now().Add(14 * day); time.Now().Before(end); {
		select {
		case <-dead:
			return false
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Hour)
		if hash := w.activeHash(name); hash != "" && hash != former {
			return true
		}
	}
	return false
}

// checkEnd checks what must hold at the end of an ordeal, however it got
// there.
func (w *world) checkEnd(o ordeal, former string) {
	t := w.t
	t.Helper()
	issued := slices.Concat(w.ca.Certificates(), w.second.Certificates())
	if len(issued) != o.certs {
		t.Errorf("%d certificates were issued, want %d", len(issued), o.certs)
	}
	for _, ca := range []*acmetest.CA{w.ca, &w.second} {
		if got := len(ca.Accounts()); got > 1 {
			t.Errorf("%d accounts were registered at one CA", got)
		}
	}
	records := &record.Records{Store: w.store}
	ctx := context.Background()
	name := o.domain.Names[0]
	active, _, err := records.Active(ctx, name)
	if err != nil {
		t.Fatalf("the active Set: %v", err)
	}
	known := slices.ContainsFunc(issued, func(c acmetest.Certificate) bool {
		return slices.Equal(c.DER, active.Credentials[0].Chain[0])
	})
	if !known {
		t.Errorf("the active certificate is not one that the CA knows")
	}
	want := o.parts
	if former != "" {
		want++
	}
	if archive := w.keys("archive/" + name + "/"); len(archive) != want {
		t.Errorf("the archive has %v, want the %d former Sets and nothing else", archive, want)
	}
	if _, _, err := records.Staged(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading staging: got error %v, want that there is nothing", err)
	}
	job, _, err := records.Job(ctx, name)
	if err == nil && len(job.SetUps) > 0 {
		t.Errorf("the job still records set-ups: %+v", job.SetUps)
	}
	if left := w.keys("challenges/"); len(left) > 0 {
		t.Errorf("challenges' answers are left behind: %v", left)
	}
}

// ordeals are what is tried with each operation broken.
func ordeals() map[string]ordeal {
	names := []string{"example.com", "www.example.com"}
	first := func(w *world, start func() *node) {
		n := start()
		n.ready(time.Minute)
		time.Sleep(time.Minute)
		n.stopped()
		time.Sleep(time.Until(w.ca.Certificates()[0].Leaf.NotBefore.Add(60*day - time.Minute)))
	}
	return map[string]ordeal{
		"first order by tls-alpn-01": {domain: md.Domain{Names: names}, certs: 1},
		"first order by http-01": {
			domain: md.Domain{Names: names[:1], Challengers: []md.Challenger{&md.HTTP01{}}}, certs: 1,
		},
		"renewal": {domain: md.Domain{Names: names}, before: first, certs: 2},
		"failover": {
			domain: md.Domain{Names: names[:1], CAs: []md.CA{{URL: "https://acme.test/directory"}, {URL: secondURL + "/directory"}}},
			manage: func(m *md.Manager) { m.RetryFailover = 2 },
			before: func(w *world, start func() *node) {
				first(w, start)
				w.ca.Fault = func(acmetest.Op) acmetest.Fault { return acmetest.Fault500 }
			},
			certs: 2,
		},
		"delayed activation": {
			domain: md.Domain{Names: names[:1], ActivationDelay: 3 * day}, before: first, certs: 2,
		},
		"a part of two key types": {
			domain: md.Domain{Names: names[:1], KeyTypes: []md.KeyType{md.P256, md.P384}},
			before: func(w *world, start func() *node) {
				first(w, start)
				time.Sleep(31 * day) // they have expired
				w.ca.Fault = failsSecond(30 * time.Minute)
			},
			certs: 4, parts: 1,
		},
	}
}

// failsSecond is a CA that finalizes one order, and takes no other for a while.
func failsSecond(length time.Duration) func(acmetest.Op) acmetest.Fault {
	var finalized atomic.Bool
	until := time.Now().Add(length)
	return func(op acmetest.Op) acmetest.Fault {
		if op.Kind == "newOrder" && finalized.Load() && time.Now().Before(until) {
			return acmetest.Fault500
		}
		if op.Kind == "finalize" {
			finalized.Store(true)
		}
		return acmetest.FaultNone
	}
}

// TestEachOperationBroken breaks every operation of an ordeal, before and
// after its effect, with and without a crash.
func TestEachOperationBroken(t *testing.T) {
	for name, o := range ordeals() {
		t.Run(name, func(t *testing.T) {
			var storeOps, caOps int
			synctest.Test(t, func(t *testing.T) { storeOps, caOps = o.endure(t, breakage{}) })
			t.Logf("%d operations of the Store, %d of the CA", storeOps, caOps)
			if testing.Short() {
				t.Skip("the breakages are left out with -short")
			}
			const most = 80 // what comes behind is the quiet life
			for _, crash := range []bool{false, true} {
				for _, after := range []bool{false, true} {
					for n := 1; n <= min(storeOps, most); n++ {
						o.breaks(t, breakage{"store", n, after, crash})
					}
					for n := 1; n <= min(caOps, most); n++ {
						o.breaks(t, breakage{"CA", n, after, crash})
					}
				}
			}
		})
	}
}

func (o ordeal) breaks(t *testing.T, b breakage) {
	t.Run(b.String(), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { o.endure(t, b) })
	})
}
