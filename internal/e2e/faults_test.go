package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
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
			return nil, errors.New("the process is dead")
		}
		return base.Transport.RoundTrip(r)
	})}
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// In these tests nodes look at a Domain every few minutes, so that it does
// not take long until what is left over is cleaned up.
const (
	lookEvery = 4 * time.Minute
	aWhile    = 2 * lookEvery
)

// endure runs a first order with one operation broken, and returns how many
// operations of each kind there were.
func endure(t *testing.T, domain md.Domain, b breakage) (storeOps, caOps int) {
	w := newWorld(t)
	line := newLifeline()
	faulty := &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
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
	}}
	var requests atomic.Int64
	w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
		requests.Add(1)
		if b.where != "CA" || op.N != b.n {
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
	m := w.manager(domain)
	m.Store, m.HTTPClient, m.CheckInterval = faulty, line.client(w.ca.Client()), lookEvery
	n := w.start(m)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- n.m.Ready(ctx) }()
	select {
	case err := <-ready:
		if err != nil {
			t.Fatalf("not ready after an hour: %v", err)
		}
		time.Sleep(aWhile) // what is left over is cleaned up
		n.stopped()
	case <-line.dead:
		n.stopped()
		cancel()
		<-ready
	}
	storeOps, caOps = faulty.Count(), int(requests.Load())
	if line.cut.Load() {
		m := w.manager(domain)
		m.CheckInterval = lookEvery
		n = w.start(m)
		n.ready(time.Hour)
		time.Sleep(aWhile)
		n.stopped()
	}
	w.checkFirstOrder(domain)
	return storeOps, caOps
}

// checkFirstOrder checks what must hold when a first order has ended, however
// it got there.
func (w *world) checkFirstOrder(domain md.Domain) {
	t := w.t
	t.Helper()
	if got := len(w.ca.Accounts()); got != 1 {
		t.Errorf("%d accounts were registered, want 1", got)
	}
	if got := len(w.ca.Certificates()); got != 1 {
		t.Errorf("%d certificates were issued, want 1", got)
	}
	records := &record.Records{Store: w.store}
	ctx := context.Background()
	name := domain.Names[0]
	active, _, err := records.Active(ctx, name)
	if err != nil {
		t.Fatalf("the active Set: %v", err)
	}
	issued := slices.ContainsFunc(w.ca.Certificates(), func(c acmetest.Certificate) bool {
		return slices.Equal(c.DER, active.Credentials[0].Chain[0])
	})
	if !issued {
		t.Errorf("the active certificate is not one that the CA knows")
	}
	if _, _, err := records.Staged(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading staging: got error %v, want that there is nothing", err)
	}
	job, _, err := records.Job(ctx, name)
	if err == nil && len(job.SetUps) > 0 {
		t.Errorf("the job still records set-ups: %+v", job.SetUps)
	}
	for item, err := range w.store.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(item.Key, "challenges/") {
			t.Errorf("a challenge's answer is left behind: %s", item.Key)
		}
	}
}

// TestFirstOrderWithEachOperationBroken breaks every operation of a first
// order, before and after its effect, with and without a crash.
func TestFirstOrderWithEachOperationBroken(t *testing.T) {
	domains := map[string]md.Domain{
		"tls-alpn-01": {Names: []string{"example.com", "www.example.com"}},
		"http-01":     {Names: []string{"example.com"}, Challengers: []md.Challenger{&md.HTTP01{}}},
	}
	for kind, domain := range domains {
		t.Run(kind, func(t *testing.T) {
			var storeOps, caOps int
			synctest.Test(t, func(t *testing.T) { storeOps, caOps = endure(t, domain, breakage{}) })
			t.Logf("%d operations of the Store, %d of the CA", storeOps, caOps)
			var all []breakage
			for _, crash := range []bool{false, true} {
				for _, after := range []bool{false, true} {
					for n := 1; n <= storeOps; n++ {
						all = append(all, breakage{"store", n, after, crash})
					}
					for n := 1; n <= caOps; n++ {
						all = append(all, breakage{"CA", n, after, crash})
					}
				}
			}
			for _, b := range all {
				t.Run(b.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { endure(t, domain, b) })
				})
			}
		})
	}
}
