package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store/storetest"
)

// A node whose Notifier hangs serves what another node has renewed within a
// minute or so, however many Domains that is about.
func TestAHangingNotifierKeepsNothingFromBeingServed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var domains []md.Domain
		for i := range 10 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		first := w.start(w.manager(domains...))
		first.ready(time.Minute)
		m := w.manager(domains...)
		var told, atOnce, most atomic.Int64
		m.Notifier = md.NotifierFunc(func(ctx context.Context, e md.Event) error {
			if e.Domain == "d0.example.com" {
				most.Store(max(most.Load(), atOnce.Add(1)))
				defer atOnce.Add(-1)
			}
			if e.Kind == status.Installed {
				told.Add(1)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		second := w.start(m)
		time.Sleep(day)
		for _, d := range domains {
			if err := first.m.Renew(t.Context(), d.Names[0]); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		for _, d := range domains {
			if !leafOf(t, second.m, d.Names[0]).Equal(leafOf(t, first.m, d.Names[0])) {
				t.Errorf("%s is not served by the second node yet", d.Names[0])
			}
		}
		time.Sleep(10 * time.Minute)
		if got := told.Load(); got != 10 {
			t.Errorf("%d Installed events, want one for each Domain", got)
		}
		if got := most.Load(); got > 1 {
			t.Errorf("%d events of one Domain at once", got)
		}
		first.stopped()
		second.stopped()
	})
}

// What a Notifier has accepted while the process ends is not told again after
// the restart, and what has happened is told with a context that has not ended:
// a status.Command would not even start.
func TestWhatIsToldWhileTheProcessEnds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var d diary
		notifier := md.NotifierFunc(func(ctx context.Context, e md.Event) error {
			if e.Kind == status.Installed && ctx.Err() != nil {
				t.Errorf("Installed comes with a context that has ended: %v", ctx.Err())
			}
			_ = d.Notify(ctx, e)
			if e.Kind == status.Renewed {
				time.Sleep(5 * time.Second) // it sees to its task first
			}
			return nil
		})
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = notifier
		n := w.start(m)
		for d.count(status.Renewed) == 0 {
			time.Sleep(time.Second)
		}
		n.stopped()
		m = w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = notifier
		n = w.start(m)
		time.Sleep(day)
		n.stopped()
		if got, want := d.kinds(), "renewing challenge-setup renewed installed"; got != want {
			t.Errorf("the events are %q, want %q", got, want)
		}
	})
}

// After a failover, each event names the CA that it is about: also Installed,
// also a Renewed that is repeated when the renewal is over, and also an Errored
// that is about the Store.
func TestEventsAfterAFailoverNameTheirCA(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.SetDown(true)
		var refused, locked atomic.Bool
		d := diary{answer: func(e md.Event) error {
			if e.Kind == status.Renewed && !refused.Swap(true) {
				return errors.New("not yet")
			}
			return nil
		}}
		first, second := w.ca.DirectoryURL(), secondURL+"/directory"
		m := w.manager(md.Domain{Names: []string{"example.com"}, CAs: []md.CA{{URL: first}, {URL: second}}})
		m.RetryFailover = 2
		m.Notifier = &d
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if locked.Load() && op.Kind == "get" && op.Key == "staging/example.com" {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		w.second.SetDown(true)
		n := w.start(m)
		for n.report("example.com").CA != second {
			time.Sleep(time.Minute)
		}
		locked.Store(true)
		time.Sleep(12 * time.Hour)
		d.mu.Lock()
		last := d.events[len(d.events)-1]
		d.mu.Unlock()
		if last.Kind != status.Errored || last.CA != second {
			t.Errorf("with the second CA in use, the last event is %s at %s", last.Kind, last.CA)
		}
		locked.Store(false)
		w.second.SetDown(false)
		n.ready(day)
		time.Sleep(time.Hour)
		n.stopped()
		if got := d.count(status.Renewed); got != 2 {
			t.Errorf("%d Renewed events, want one that is refused and one that is accepted", got)
		}
		for _, e := range d.events {
			for _, c := range e.Certificates {
				if e.CA != c.CA {
					t.Errorf("%s is about a certificate from %s, and says that the CA is %s", e.Kind, c.CA, e.CA)
				}
			}
		}
	})
}

// While only one of two key types is there, nobody is told that the Domain has
// been renewed, also not after a restart.
func TestAPartIsNotRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		broken.Store(true)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && op.Nth > 1 && broken.Load() {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		var d diary
		domain := md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}
		for range 2 {
			m := w.manager(domain)
			m.Notifier = &d
			n := w.start(m)
			n.ready(time.Minute)
			time.Sleep(day)
			n.stopped()
		}
		if got := d.count(status.Renewed); got != 0 {
			t.Errorf("%d Renewed events before all certificates are there: %s", got, d.kinds())
		}
		broken.Store(false)
		m := w.manager(domain)
		m.Notifier = &d
		n := w.start(m)
		time.Sleep(2 * day)
		n.stopped()
		if got := d.count(status.Renewed); got != 1 {
			t.Errorf("%d Renewed events, want 1: %s", got, d.kinds())
		}
		if got := d.count(status.Installed); got != 2 {
			t.Errorf("%d Installed events, want one for the part and one for the whole: %s", got, d.kinds())
		}
	})
}

// A part that becomes all that is wanted, because the key type that could not
// be had is given up, is told as what it is then.
func TestAPartThatBecomesTheWhole(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && op.Nth > 1 {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		var d diary
		domain := md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}
		m := w.manager(domain)
		m.Notifier = &d
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(time.Hour)
		domain.KeyTypes = domain.KeyTypes[:1]
		if err := n.m.Update(t.Context(), []md.Domain{domain}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		n.stopped()
		if got := d.count(status.Renewed); got != 1 {
			t.Errorf("%d Renewed events, want 1: %s", got, d.kinds())
		}
	})
}

// Whatever a Notifier returns is shown, and who is warned because of a veto is
// told when the Notifier is asked again.
func TestWhatANotifierReturnsIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var vetoing atomic.Bool
		d := diary{answer: func(e md.Event) error {
			switch {
			case e.Kind == status.Installed:
				return errors.New("the load balancer is not there")
			case e.Kind == status.Renewing && vetoing.Load():
				return fmt.Errorf("%w: not on a Friday", md.ErrVeto)
			}
			return nil
		}}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = &d
		n := w.startIn(hourly(), m)
		n.ready(time.Minute)
		time.Sleep(time.Hour)
		if got := fmt.Sprint(n.report("example.com").Renewal); !strings.Contains(got, "the load balancer is not there") {
			t.Errorf("the status does not tell of the error: %s", got)
		}
		vetoing.Store(true)
		time.Sleep(85 * day)
		if got := fmt.Sprint(n.report("example.com").Renewal); !strings.Contains(got, "not on a Friday") {
			t.Errorf("the status does not tell of the veto: %s", got)
		}
		n.stopped()
		if d.count(status.Expiring) == 0 {
			t.Error("nobody has been warned")
		}
		for _, e := range d.events {
			if wait := e.NextAttempt.Sub(e.Time); e.Kind == status.Expiring && (wait <= 0 || wait > day) {
				t.Errorf("Expiring at %v says that the next attempt is at %v", e.Time, e.NextAttempt)
			}
		}
	})
}

// Where nothing renews by itself, the warning comes when the Domain's WarnWindow
// begins, also before the time in which a Manager would have renewed.
func TestWhoRenewsByHandIsWarnedAsWanted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var first time.Time
		m := w.manager(md.Domain{
			Names: []string{"example.com"}, RenewMode: md.RenewManual, WarnWindow: md.Window{Length: 45 * day},
		})
		m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if e.Kind == status.Expiring && first.IsZero() {
				first = e.Time
			}
			return nil
		})
		n := w.startIn(hourly(), m)
		time.Sleep(time.Minute)
		if err := n.m.Renew(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		end := leafOf(t, n.m, "example.com").NotAfter
		time.Sleep(80 * day)
		n.stopped()
		if before := end.Sub(first); before > 45*day || before < 44*day {
			t.Errorf("the warning came %v before the end, want 45 days", before)
		}
	})
}

// The status of a Domain whose successors wait for activation does not say that
// a renewal is due, but when the next one is.
func TestTheStatusOfWhatWaitsForActivation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.startIn(hourly(), w.manager(md.Domain{Names: []string{"example.com"}, ActivationDelay: 5 * day}))
		n.ready(time.Minute)
		time.Sleep(62 * day)
		r := n.report("example.com")
		n.stopped()
		if r.State != status.Good || len(r.Staged) != 1 {
			t.Fatalf("the status is %+v, want a staged certificate", r)
		}
		if r.Reason != "" || time.Until(r.RenewAt) < 50*day {
			t.Errorf("the status says %q, to be renewed at %v", r.Reason, r.RenewAt)
		}
	})
}

// A Notifier that ends its goroutine, as the FailNow of a test does, is called
// again, and is not taken for one that hangs.
func TestANotifierThatEndsItsGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var renewed atomic.Int64
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if e.Kind == status.Renewed && renewed.Add(1) == 1 {
				runtime.Goexit()
			}
			return nil
		})
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(day)
		n.stopped()
		if got := renewed.Load(); got != 2 {
			t.Errorf("%d Renewed events, want one that failed and one that was accepted", got)
		}
	})
}

// A Notifier that has accepted Renewed does not hear it again because the Store
// has written the Job before that, and its answer was lost.
func TestRenewedIsToldOnceThoughAnAnswerOfTheStoreIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var d diary
		var active, lost atomic.Bool
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = &d
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			switch {
			case op.Kind != "put":
			case strings.HasPrefix(op.Key, "domains/"):
				active.Store(true)
			case strings.HasPrefix(op.Key, "jobs/") && active.Load() && !lost.Swap(true):
				return storetest.FaultAfter
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(2 * day)
		n.stopped()
		if got := d.count(status.Renewed); got != 1 || !lost.Load() {
			t.Errorf("%d Renewed events, want 1", got)
		}
	})
}
