package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store/storetest"
)

func TestBlockedDomainsDoNotWakeTogether(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		ca.Limits.Orders = acmeclient.Rate{Count: 20, Per: 10 * time.Hour}
		var domains []md.Domain
		for i := range 120 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		m := w.manager(domains...)
		m.Default.CAs = []md.CA{ca}
		began := time.Now()
		var mu sync.Mutex // guards woken
		woken := make(map[time.Duration]int)
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "put" && strings.HasPrefix(op.Key, "leases/") {
				mu.Lock()
				defer mu.Unlock()
				woken[time.Since(began).Truncate(10*time.Second)]++
			}
			return storetest.FaultNone
		}}
		n := w.start(m)
		time.Sleep(12 * time.Hour)
		n.stopped()
		delete(woken, 0) // at the start all of them look
		for at, count := range woken {
			if count > 40 {
				t.Errorf("%d of 100 Domains that wait for order slots woke at %v, within ten seconds", count, at)
			}
		}
		if got := len(w.ca.Certificates()); got < 40 {
			t.Errorf("%d certificates in 12 hours, want the 44 that the limit allows, or nearly", got)
		}
	})
}

// What is left of a block of order slots is not used days later, when the CA's
// bucket is full again, beside all that is in it.
func TestOrderSlotsAreNotKept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Limits.Orders = acmetest.Rate{Count: 200, Per: 3 * time.Hour}
		ca := md.CA{URL: w.ca.DirectoryURL(), Limits: acmeclient.Limits{Orders: acmeclient.Rate{Count: 200, Per: 3 * time.Hour}}}
		domains := []md.Domain{{Names: []string{"example.com"}}}
		m := w.manager(domains...)
		m.Default.CAs = []md.CA{ca}
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(day)
		for i := range 230 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		if err := n.m.Update(t.Context(), domains); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * day)
		n.stopped()
		for _, r := range w.ca.Refused() {
			t.Errorf("the CA has refused: %v", r)
		}
		if got := len(w.ca.Certificates()); got != len(domains) {
			t.Errorf("%d certificates, want %d", got, len(domains))
		}
	})
}

// A limit of the account that the CA tells one Domain of is not forgotten
// because it issues a certificate for the order that another had made before.
func TestLimitOutlastsWhatWasOrderedBefore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var refused atomic.Int64
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && strings.HasPrefix(op.Object, "late") {
				refused.Add(1)
				return acmetest.Fault429
			}
			return acmetest.FaultNone
		}
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = &diary{answer: func(e md.Event) error {
			if e.Kind == status.ChallengeSetup && e.Domain == "slow.example.com" {
				time.Sleep(50 * time.Second)
			}
			return nil
		}}
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(time.Hour)
		domains := m.Domains
		for _, name := range []string{"slow.example.com", "late1.example.com", "late2.example.com"} {
			domains = append(domains, md.Domain{Names: []string{name}})
			if err := n.m.Update(t.Context(), domains); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		time.Sleep(time.Minute) // the slow one has its certificate
		if err := n.m.Update(t.Context(), append(domains, md.Domain{Names: []string{"late3.example.com"}})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute) // the CA has not said how long it lasts, which counts as an hour
		n.stopped()
		if got := refused.Load(); got != 1 {
			t.Errorf("the CA was asked for %d orders within the hour, want one", got)
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates, want that of the slow Domain as the second", got)
		}
	})
}

// A Domain that all of its CAs let wait does so until one of them is free, and
// does not turn from one to the other meanwhile.
func TestAllBlockedWaitsForTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 160 * time.Hour
		cas := []md.CA{{URL: w.ca.DirectoryURL()}, {URL: secondURL + "/directory"}}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, CAs: cas}))
		n.ready(time.Minute)
		time.Sleep(60 * time.Hour)
		records := &record.Records{Store: w.store}
		until := time.Now().Add(50 * time.Hour).UTC()
		for i, ca := range cas {
			err := records.ChangeLimit(t.Context(), ca.URL, "default", record.AccountLimit, func(l record.Limit) (record.Limit, bool) {
				l.Said, l.Until, l.Why = time.Now().UTC(), until.Add(time.Duration(i)*time.Hour), "too many"
				return l, true
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Hour) // 80 of them are half of its life
		r := n.report("example.com").Renewal
		if r.NextAttempt.Before(until) || r.NextAttempt.After(until.Add(time.Hour)) {
			t.Errorf("the next attempt is at %v, want it after %v, when the first CA is free", r.NextAttempt, until)
		}
		turns := 0
		for _, line := range r.Log {
			if line.What == "failover" {
				turns++
			}
		}
		if turns > 4 {
			t.Errorf("the Domain has turned to another CA %d times while it waited", turns)
		}
		n.stopped()
	})
}

// Domains without certificates that would wait for order slots of one CA for
// hours are not kept from another that takes orders.
func TestWhoWaitsForSlotsTurnsToAnotherCA(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		ca.Limits.Orders = acmeclient.Rate{Count: 20, Per: time.Hour}
		var domains []md.Domain
		for i := range 80 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		m := w.manager(domains...)
		m.Default.CAs = []md.CA{ca, {URL: secondURL + "/directory"}}
		n := w.start(m)
		n.ready(time.Hour)
		n.stopped()
	})
}
