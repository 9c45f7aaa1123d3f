package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// Each test of this file is something that has gone wrong once.

// cool lets a node that turns in circles find time: a hot loop in a bubble
// would never end.
func (w *world) cool(m *md.Manager, hot *atomic.Int64) {
	var n atomic.Int64
	m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
		if op.Kind == "put" && strings.HasPrefix(op.Key, "leases/") {
			if n.Add(1)%200 == 0 {
				hot.Add(1)
				time.Sleep(time.Hour)
			}
		}
		return storetest.FaultNone
	}}
}

func TestHoldDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var hot atomic.Int64
		m := w.manager(md.Domain{Names: []string{"example.com"}, HoldActivation: md.On})
		w.cool(m, &hot)
		n := w.start(m)
		time.Sleep(2 * time.Hour)
		n.stopped()
		if hot.Load() > 0 {
			t.Errorf("hot loop: over %d leases in 2 hours", 200*hot.Load())
		}
	})
}

func TestExpiredWithARIDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var hot atomic.Int64
		w.ca.RenewalInfo = true
		w.ca.Lifetime = 20 * day
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Hour)
		time.Sleep(10 * day)
		w.ca.SetDown(true)
		time.Sleep(13 * day)
		n.stopped()
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		w.cool(m, &hot)
		n = w.start(m)
		time.Sleep(12 * time.Hour)
		n.stopped()
		if hot.Load() > 0 {
			t.Errorf("hot loop: over %d leases in 12 hours", 200*hot.Load())
		}
	})
}

func TestUnannouncedDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var hot atomic.Int64
		d := &diary{answer: func(e md.Event) error {
			if e.Kind == status.Renewed {
				return errors.New("down")
			}
			return nil
		}}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Hour)
		time.Sleep(59 * day)
		w.ca.SetDown(true)
		time.Sleep(5 * day)
		n.stopped()
		m = w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		w.cool(m, &hot)
		n = w.start(m)
		time.Sleep(40 * time.Hour)
		n.stopped()
		if hot.Load() > 0 {
			t.Errorf("hot loop: over %d leases", 200*hot.Load())
		}
	})
}

func TestRevokeDuringBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		time.Sleep(2 * day)
		w.ca.SetDown(true)
		if err := n.m.Renew(context.Background(), "example.com"); err == nil {
			t.Fatal("Renew: no error")
		}
		w.ca.SetDown(false)
		err := n.m.Revoke(context.Background(), "example.com", acmeclient.KeyCompromise)
		revoked := !w.ca.Certificates()[0].Revoked.IsZero()
		if err == nil && !revoked {
			t.Errorf("Revoke returned nil, but nothing was revoked; %d certificates", len(w.ca.Certificates()))
		}
		n.stopped()
	})
}

func TestOrderBudget(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		ca.Limits.Orders = acmeclient.Rate{Count: 100, Per: 10 * time.Hour}
		var domains []md.Domain
		for i := range 260 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		m := w.manager(domains...)
		m.Default.CAs = []md.CA{ca}
		var leases atomic.Int64
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "put" && strings.HasPrefix(op.Key, "leases/") {
				leases.Add(1)
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(time.Hour)
		n.stopped()
		t.Log("leases:", leases.Load())
		// A token bucket allows 100 at once and 100 more in the hour.
		if got := w.ca.Requests()["newOrder"]; got > 112 {
			t.Errorf("%d orders in an hour, the bucket has 110; leases taken: %d", got, leases.Load())
		}
	})
}

func TestClockPutRight(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var skew atomic.Int64
		ctx := engine.WithKnobs(context.Background(), engine.Knobs{Wall: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }})
		n := w.startIn(ctx, w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		skew.Store(int64(365 * day))
		time.Sleep(time.Hour)
		skew.Store(0)
		time.Sleep(88 * day)
		last := w.ca.Certificates()[0]
		for _, c := range w.ca.Certificates() {
			if c.Leaf.NotBefore.After(last.Leaf.NotBefore) {
				last = c
			}
		}
		time.Sleep(4 * day)
		if _, err := w.serial("example.com"); err != nil {
			t.Errorf("after 92 days: %v; %d certificates", err, len(w.ca.Certificates()))
		}
		n.stopped()
	})
}

func TestAccountForgottenMidOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		broken.Store(true)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if broken.Load() && op.Kind == "finalize" {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		time.Sleep(10 * time.Second)
		w.ca.ForgetAccounts()
		broken.Store(false)
		time.Sleep(20 * day)
		if err := func() error { _, err := w.serial("example.com"); return err }(); err != nil {
			r := n.report("example.com").Renewal
			t.Errorf("20 days after the CA has forgotten the account: %v, %d attempts: %s", err, r.Attempts, r.LastError)
		}
		n.stopped()
	})
}

func TestFirstCertificateFailsOverWhenLimited(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RetryAfter = 47 * time.Hour
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				return acmetest.Fault429
			}
			return acmetest.FaultNone
		}
		two := &acmetest.CA{BaseURL: "https://two.test", Dial: w.dial}
		defer two.Close()
		m := w.manager(md.Domain{Names: []string{"example.com"}, CAs: []md.CA{{URL: w.ca.DirectoryURL()}, {URL: two.DirectoryURL()}}})
		m.HTTPClient = both(w.ca, two)
		n := w.start(m)
		time.Sleep(day)
		if got := len(two.Certificates()); got != 1 {
			t.Errorf("a day after the first CA said to come back in two, the second has issued %d certificates, want 1", got)
		}
		n.stopped()
	})
}

func TestExpiredOrphanDoesNotTakeAwayALender(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		w.ca.Lifetime = 10 * day
		n := w.start(w.manager(md.Domain{Name: "old", Names: []string{"www.example.com"}}))
		n.ready(time.Minute)
		n.stopped()
		time.Sleep(20 * day)
		w.ca.Lifetime = 90 * day
		n = w.start(w.manager(md.Domain{Name: "a", Names: []string{"example.com", "www.example.com"}}))
		n.ready(time.Minute)
		w.served("www.example.com")
		w.ca.SetDown(true)
		err := n.m.Update(ctx, []md.Domain{
			{Name: "a", Names: []string{"example.com"}}, {Name: "b", Names: []string{"www.example.com"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.serial("www.example.com"); err != nil {
			t.Errorf("the name has moved, and its good certificate is gone: %v", err)
		}
		n.stopped()
	})
}

// curious is a Challenger that looks at the status.
type curious struct{ m **md.Manager }

func (c *curious) Types() []string {
	if *c.m != nil {
		for range (*c.m).Status() {
		}
	}
	return []string{"http-01"}
}
func (c *curious) Present(context.Context, challenge.Challenge) error { return nil }
func (c *curious) CleanUp(context.Context, challenge.Challenge) error { return nil }

func TestUserCodeUnderLock(t *testing.T) {
	done := make(chan error, 1)
	go func() {
		var m *md.Manager
		c := &curious{m: &m}
		x := &md.Manager{Store: new(store.Memory), Domains: []md.Domain{{Names: []string{"example.com"}, Challengers: []md.Challenger{c}}}}
		x.Check()
		for range x.Status() {
		}
		m = x
		done <- x.Load(context.Background())
	}()
	select {
	case err := <-done:
		t.Log(err)
	case <-time.After(2 * time.Second):
		t.Errorf("deadlock: Challenger.Types is called under the Engine's mu")
	}
}

func TestKeyTypeRemovedWhileStaged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		var orders atomic.Int64
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				orders.Add(1)
			}
			if op.Kind == "finalize" && orders.Load() > 1 && orders.Load() < 1000 {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}))
		time.Sleep(10 * time.Second)
		if got := len(w.ca.Certificates()); got != 1 {
			t.Fatalf("%d certificates", got)
		}
		orders.Store(1000)
		if err := n.m.Update(ctx, []md.Domain{{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256}}}); err != nil {
			t.Fatal(err)
		}
		n.ready(time.Hour)
		if got := len(w.ca.Certificates()); got != 1 {
			t.Errorf("%d certificates were issued, want 1: the one in staging was thrown away", got)
		}
		n.stopped()
	})
}

func TestStoreAwayForLongInAShortLife(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 160 * time.Hour
		var down atomic.Bool
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if down.Load() {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(70 * time.Hour)
		down.Store(true)
		time.Sleep(83 * time.Hour) // 7 hours are left
		down.Store(false)
		for range 70 {
			time.Sleep(6 * time.Minute)
			if _, err := w.serial("example.com"); err != nil {
				t.Fatalf("an expired certificate is served, although Store and CA have worked for hours: %v", n.report("example.com").Renewal.NextAttempt)
			}
		}
		if got := len(w.ca.Certificates()); got < 2 {
			t.Errorf("7 hours after the Store is back, %d certificates; next %v now %v", got, n.report("example.com").Renewal.NextAttempt, time.Now().UTC())
		}
		n.stopped()
	})
}

func TestUpdateWithAnEndedContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				return acmetest.FaultHang
			}
			return acmetest.FaultNone
		}
		d := []md.Domain{{Names: []string{"example.com"}}}
		n := w.start(w.manager(d...))
		time.Sleep(time.Second)
		if !n.report("example.com").Renewal.Running {
			t.Fatal("not running")
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.m.Update(ended, d)
		time.Sleep(time.Second)
		synctest.Wait()
		if !n.report("example.com").Renewal.Running {
			t.Errorf("a second attempt was started beside the first, and ended its place")
		}
		n.stopped()
	})
}

func TestBrokenActiveAndOrphan(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		n := w.start(w.manager(md.Domain{Name: "a", Names: []string{"example.com"}}))
		n.ready(time.Minute)
		n.stopped()
		n = w.start(w.manager(md.Domain{Name: "b", Names: []string{"example.com"}}))
		n.ready(time.Minute)
		time.Sleep(time.Minute)
		n.stopped()
		if _, err := w.store.Put(ctx, "domains/b", []byte("garbage"), store.Any); err != nil {
			t.Fatal(err)
		}
		n = w.start(w.manager(md.Domain{Name: "b", Names: []string{"example.com"}}))
		time.Sleep(day)
		if r := n.report("b"); r.State != status.Good {
			t.Errorf("a day after: %s, %+v", r.State, r.Renewal)
		}
		n.stopped()
	})
}

func TestRenamedDomainsAreServedAllTheTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const many = 300
		var as, bs []md.Domain
		for i := range many {
			name := fmt.Sprintf("d%d.example.com", i)
			as = append(as, md.Domain{Name: fmt.Sprint("a", i), Names: []string{name}})
			bs = append(bs, md.Domain{Name: fmt.Sprint("b", i), Names: []string{name}})
		}
		m := w.manager(as...)
		m.Default.CAs[0].Limits.Orders.Count = -1
		n := w.start(m)
		n.ready(time.Hour)
		stop := make(chan bool)
		bad := make(chan int)
		go func() {
			missed := 0
			for {
				select {
				case <-stop:
					bad <- missed
					return
				default:
				}
				if _, err := m.GetCertificate(helloFor("d0.example.com")); errors.Is(err, md.ErrNotManaged) {
					missed++
				}
			}
		}()
		for range 20 {
			if err := m.Update(context.Background(), bs); err != nil {
				t.Fatal(err)
			}
			as, bs = bs, as
		}
		close(stop)
		if missed := <-bad; missed > 0 {
			t.Errorf("%d handshakes found the name unknown while its Domain was renamed", missed)
		}
		n.stopped()
	})
}

type stuck struct{ challenge.Challenger }

func (stuck) Types() []string { return []string{"http-01"} }
func (stuck) Present(context.Context, challenge.Challenge) error {
	return nil
}
func (stuck) CleanUp(ctx context.Context, _ challenge.Challenge) error {
	time.Sleep(24 * time.Hour)
	return nil
}

func TestShutdownWaitsForHooksOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Faults.SlowValidation = 1
		w.ca.RetryAfter = 50 * time.Second
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("d%d.example.com", i))
		}
		n := w.start(w.manager(md.Domain{Names: names, Challengers: []md.Challenger{&stuck{}}}))
		time.Sleep(2 * time.Second)
		began := time.Now()
		n.stop()
		err := <-n.done
		if took := time.Since(began); took > 45*time.Second {
			t.Errorf("shutting down took %v: %v", took, err)
		}
		time.Sleep(25 * time.Hour)
	})
}

func TestHeldCertificatesExpireWithAWarning(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := new(diary)
		ctx := context.Background()
		m := w.manager(md.Domain{Names: []string{"example.com"}, HoldActivation: md.On, ARI: md.Off})
		m.Notifier = d
		n := w.start(m)
		time.Sleep(time.Minute)
		if err := n.m.Activate(ctx, "example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(89 * day)
		if d.count(status.Expiring) == 0 {
			t.Errorf("a day before the end of the certificate in use nobody has been warned: %s", d.kinds())
		}
		n.stopped()
	})
}

func TestActivateOrdersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		if err := m.Activate(context.Background(), "example.com"); err != nil {
			t.Fatal(err)
		}
		if got := w.ca.Requests()["newOrder"]; got > 0 {
			t.Errorf("Activate has made %d orders", got)
		}
	})
}

func TestImpatientRenewIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := new(diary)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(2 * day)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				return acmetest.FaultHang
			}
			return acmetest.FaultNone
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = n.m.Renew(ctx, "example.com")
		if r := n.report("example.com").Renewal; r.Attempts > 0 || d.count(status.Errored) > 0 {
			t.Errorf("the caller's deadline counts as %d failures of the CA, %d errored", r.Attempts, d.count(status.Errored))
		}
		n.stopped()
	})
}

func TestRestoreOfNothingIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := new(diary)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Minute)
		if err := n.m.Restore(context.Background(), "example.com", "typo"); err == nil {
			t.Error("no error")
		}
		if r := n.report("example.com").Renewal; r.Attempts > 0 || d.count(status.Errored) > 0 {
			t.Errorf("a wrong id counts as %d failures, %d errored", r.Attempts, d.count(status.Errored))
		}
		n.stopped()
	})
}

func TestShortLivesAtAPrivateCA(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 24 * time.Hour
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		for i := range 30 * 24 {
			time.Sleep(time.Hour)
			if _, err := w.serial("example.com"); err != nil {
				t.Fatalf("after %d hours: %v: %s", i+1, err, n.report("example.com").Renewal.LastError)
			}
		}
		n.stopped()
	})
}

func TestCertificateGone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var gone atomic.Bool
		gone.Store(true)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		next := m.HTTPClient.Transport
		m.HTTPClient.Transport = roundTripper(func(r *httpRequest) (*httpResponse, error) {
			resp, err := next.RoundTrip(r)
			if gone.Load() && err == nil && strings.Contains(r.URL.Path, "/certificate/") {
				resp.StatusCode = 404
			}
			return resp, err
		})
		n := w.start(m)
		time.Sleep(10 * time.Second)
		if len(w.ca.Certificates()) != 1 {
			t.Fatalf("%d certificates", len(w.ca.Certificates()))
		}
		time.Sleep(10 * day)
		if got := w.ca.Requests()["newOrder"]; got < 2 {
			t.Errorf("10 days after the certificate has vanished at the CA there was no other order: %d attempts", n.report("example.com").Renewal.Attempts)
		}
		gone.Store(false)
		n.stopped()
	})
}
