package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// What the first CA has issued is used although its answers were lost and it
// is the second's turn.
func TestFailoverUsesWhatTheFormerCAHasIssued(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var finalized, secondAsked atomic.Bool
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			switch {
			case secondAsked.Load():
				return acmetest.FaultNone
			case op.Kind == "finalize":
				finalized.Store(true)
				return acmetest.FaultAfter
			case finalized.Load():
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		w.second.Fault = func(acmetest.Op) acmetest.Fault { secondAsked.Store(true); return acmetest.FaultNone }
		m := w.manager(md.Domain{
			Names: []string{"example.com"}, CAs: []md.CA{{URL: w.ca.DirectoryURL()}, {URL: secondURL + "/directory"}},
		})
		m.RetryFailover = 2
		n := w.start(m)
		n.ready(time.Hour)
		serial, err := w.serial("example.com") // by a client that trusts only the first CA
		if err != nil {
			t.Error(err)
		}
		n.stopped()
		if !secondAsked.Load() {
			t.Fatal("there was no failover")
		}
		if got := len(w.second.Certificates()); got != 0 {
			t.Errorf("the second CA has issued %d certificates, want none", got)
		}
		if got, want := fmt.Sprintf("%X", w.ca.Certificates()[0].Leaf.SerialNumber), serial; got != want {
			t.Errorf("%s is served, want %s, which the first CA has issued", want, got)
		}
	})
}

// What could not be revoked is revoked as soon as the CA lets us, and until
// then the status says that it is to be.
func TestRevocationIsRepeated(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		broken.Store(true)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "revoke" && broken.Load() {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		time.Sleep(day)
		if err := n.m.Revoke(t.Context(), "example.com", md.KeyCompromise); err == nil {
			t.Fatal("nobody says that the certificate is not revoked")
		}
		time.Sleep(2 * day)
		if got := n.report("example.com").Reason; !strings.Contains(got, "still to be revoked") {
			t.Errorf("the status says %q, want that something is still to be revoked", got)
		}
		broken.Store(false)
		time.Sleep(2 * day)
		if got := n.report("example.com").Reason; got != "" {
			t.Errorf("the status still says %q", got)
		}
		n.stopped()
		certs := w.ca.Certificates()
		if len(certs) != 2 || certs[0].Revoked.IsZero() || !certs[1].Revoked.IsZero() || certs[0].Reason != int(md.KeyCompromise) {
			t.Errorf("the certificates are %+v, want the first of two revoked", certs)
		}
	})
}

// Domains that the CA's limits keep waiting do not come back at one moment.
func TestDomainsThatWaitForALimitComeBackApart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var domains []md.Domain
		ca := md.CA{URL: w.ca.DirectoryURL(), Limits: acmeclient.Limits{Orders: acmeclient.Rate{Count: 2, Per: time.Hour}}}
		for i := range 30 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}, CAs: []md.CA{ca}})
		}
		m := w.manager(domains...)
		var mu sync.Mutex
		looks := make(map[time.Time]int) // by moment
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "get" && strings.HasPrefix(op.Key, "leases/") {
				mu.Lock()
				defer mu.Unlock()
				looks[time.Now().Truncate(time.Second)]++
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(10 * time.Minute)
		mu.Lock()
		clear(looks) // the first ones are all at once
		mu.Unlock()
		time.Sleep(2 * day)
		n.stopped()
		for at, count := range looks {
			if count > 6 {
				t.Errorf("at %v %d Domains were looked at at once", at, count)
			}
		}
		if got := len(w.ca.Certificates()); got != len(domains) {
			t.Errorf("%d certificates after two days, want %d", got, len(domains))
		}
	})
}

// A node whose lane to the CA is full of attempts that hang serves what
// another node has ordered for a Domain that waits for a place there.
func TestWhoWaitsInALaneTakesCertificatesOver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var slow []md.Domain
		for i := range 40 {
			slow = append(slow, md.Domain{Names: []string{fmt.Sprintf("slow%d.example.com", i)}})
		}
		last := md.Domain{Names: []string{"last.example.com"}}
		m := w.manager(slow...)
		m.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(storetest.Op) storetest.Fault { return storetest.FaultNone }}
		first := w.start(m)
		time.Sleep(time.Second)
		if err := m.Update(t.Context(), append(slow, last)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		other := w.start(w.manager(last))
		other.ready(time.Minute)
		other.stopped()
		time.Sleep(2 * time.Minute)
		w.served("last.example.com")
		first.stopped()
	})
}

// A broken active Set is told once, and not at each tick.
func TestABrokenSetIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(storetest.Op) storetest.Fault { return storetest.FaultNone }}
		n := w.start(m)
		n.ready(time.Minute)
		w.ca.SetDown(true)
		if _, err := w.store.Put(t.Context(), "domains/example.com", []byte("half of it"), store.Any); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		w.served("example.com")
		n.stopped()
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := strings.Count(w.log.String(), "domains/example.com is broken"); got != 1 {
			t.Errorf("the log says %d times that the Set is broken, want once", got)
		}
	})
}

// What a clock that was days ahead has put off is done as soon as it was meant
// to be.
func TestAClockThatWasAheadPutsNothingOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.SetDown(true)
		domain := md.Domain{Names: []string{"example.com"}}
		ahead := engine.WithKnobs(context.Background(), engine.Knobs{Wall: func() time.Time { return time.Now().Add(6 * day) }})
		n := w.startIn(ahead, w.manager(domain))
		time.Sleep(time.Hour)
		n.stopped()
		w.ca.SetDown(false)
		n = w.start(w.manager(domain))
		n.ready(2 * time.Hour)
		n.stopped()
	})
}

// A certificate that is out of date when it comes says that the clock is
// wrong.
func TestAWrongClockIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ahead := engine.WithKnobs(context.Background(), engine.Knobs{Wall: func() time.Time { return time.Now().Add(400 * day) }})
		n := w.startIn(ahead, w.manager(md.Domain{Names: []string{"example.com"}}))
		time.Sleep(time.Minute)
		r := n.report("example.com").Renewal
		if r == nil || !strings.Contains(r.LastError, "the clock is probably wrong") {
			t.Errorf("the status says %+v, want that the clock is probably wrong", r)
		}
		n.stopped()
	})
}

// A node that dies as soon as the CA has issued has counted the certificate.
func TestACertificateIsCountedThoughTheNodeDies(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL(), Limits: acmeclient.Limits{Certificates: acmeclient.Rate{Count: 5, Per: 7 * day}}}
		m := w.manager(md.Domain{Names: []string{"example.com"}, CAs: []md.CA{ca}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(storetest.Op) storetest.Fault {
			if len(w.ca.Certificates()) > 0 {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(time.Minute)
		n.stop()
		<-n.done
		job, _, err := (&record.Records{Store: w.store}).Job(t.Context(), "example.com")
		if err != nil {
			t.Fatal(err)
		}
		if len(w.ca.Certificates()) != 1 || len(job.Issued) != 1 {
			t.Errorf("%d certificates were issued and the Job counts %v, want one", len(w.ca.Certificates()), job.Issued)
		}
	})
}

// After a week without a CA, an attempt that fails for the Store is repeated
// soon.
func TestTheStoresFailuresAreCountedApart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.SetDown(true)
		var failed atomic.Bool
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "put" && strings.HasPrefix(op.Key, "staging/") && !failed.Swap(true) {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(7 * day)
		w.ca.SetDown(false)
		for range 2 * 24 * 60 {
			if failed.Load() {
				break
			}
			time.Sleep(time.Minute)
		}
		n.ready(5 * time.Minute)
		n.stopped()
	})
}

// A staged Set that is worse than what is active goes to the archive, and
// nobody is told that something was installed.
func TestWhatIsSupersededIsNotInstalled(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		domain := md.Domain{Names: []string{"example.com"}}
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		records := &record.Records{Store: w.store}
		former, _, err := records.Active(t.Context(), "example.com")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * day)
		n.stopped()
		if _, err := records.Stage(t.Context(), "example.com", former, store.None); err != nil {
			t.Fatal(err)
		}
		var installed atomic.Int64
		m := w.manager(domain)
		m.CheckInterval = lookEvery
		m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if e.Kind == status.Installed {
				installed.Add(1)
			}
			return nil
		})
		n = w.start(m)
		time.Sleep(aWhile)
		n.stopped()
		if got := w.keys("staging/"); len(got) > 0 {
			t.Errorf("staging has %v", got)
		}
		if got := installed.Load(); got != 0 {
			t.Errorf("%d Installed events, want none", got)
		}
	})
}

// Where little is left of a certificate's life, a veto is asked about again
// soon, whatever the CheckInterval.
func TestAVetoIsAskedAboutInTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 160 * time.Hour
		var ends atomic.Pointer[time.Time]
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.CheckInterval = 10 * day
		m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if end := ends.Load(); e.Kind == status.Renewing && end != nil && time.Now().Before(*end) {
				return errors.Join(errors.New("not today"), md.ErrVeto)
			}
			return nil
		})
		n := w.start(m)
		n.ready(time.Minute)
		end := time.Now().Add(100 * time.Hour)
		ends.Store(&end)
		for range 30 {
			time.Sleep(day)
			w.served("example.com")
		}
		n.stopped()
	})
}
