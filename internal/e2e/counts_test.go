package e2e_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store/storetest"
)

// A Domain gets another Name when the CA allows no certificate more for its
// DNS names: the CA does not count by our Names.
func TestARenamedDomainHasNoMoreCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		limit := acmetest.Rate{Count: 2, Per: 7 * day}
		w.ca.Limits.Certificates = limit
		ca := md.CA{URL: w.ca.DirectoryURL(), Limits: acmeclient.Limits{Certificates: acmeclient.Rate(limit)}}
		m := w.manager(md.Domain{Name: "before", Names: []string{"example.test"}})
		m.Default.CAs = []md.CA{ca}
		n := w.start(m)
		defer n.stopped()
		n.ready(time.Minute)
		time.Sleep(day)
		if err := m.Renew(t.Context(), "example.test"); err != nil {
			t.Fatal(err)
		}
		if err := m.Update(context.Background(), []md.Domain{{Name: "after", Names: []string{"example.test"}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		asked := w.ca.Requests()["newOrder"]
		if err := m.Renew(t.Context(), "example.test"); err == nil {
			t.Error("a third certificate was ordered in a week")
		}
		if got := w.ca.Requests()["newOrder"]; got != asked {
			t.Errorf("%d orders were sent although the limit is known", got-asked)
		}
	})
}

// Failed validations are counted although the Store does not take the count at
// first, or the CA's answer about them does not come: no order is refused
// because of them.
func TestFailedValidationsAreCountedInTheEnd(t *testing.T) {
	for name, breaks := range map[string]func(m *md.Manager, w *world){
		"the Store does not take the count": func(m *md.Manager, w *world) {
			var failed atomic.Int64
			m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
				if op.Kind == "put" && strings.HasPrefix(op.Key, "limits/") && strings.HasSuffix(op.Key, "/bad.example") && failed.Add(1) == 1 {
					return storetest.FaultBefore
				}
				return storetest.FaultNone
			}}
		},
		"nobody sees the second order fail": func(m *md.Manager, w *world) {
			w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
				if op.Kind == "challenge" && op.Nth == 2 {
					return acmetest.FaultAfter
				}
				return acmetest.FaultNone
			}
		},
		"one name fails after the order has, each time another": func(m *md.Manager, w *world) {
			m.Domains[0].Names = []string{"bad.example", "worse.example"}
			w.ca.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if odd := w.ca.Requests()["newOrder"]%2 == 1; odd == strings.HasPrefix(addr, "bad.") {
					time.Sleep(3 * time.Second)
				}
				return w.dial(ctx, network, addr)
			}
		},
		"orders stay pending when an authorization has failed": func(_ *md.Manager, w *world) {
			w.ca.Faults.SlowValidation, w.ca.RetryAfter = 1, 5*time.Minute
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				limit := acmetest.Rate{Count: 2, Per: time.Hour}
				w.ca.Limits.Failures = limit
				m := w.manager(md.Domain{Names: []string{"bad.example"}, Challengers: []md.Challenger{&idle{}}})
				m.Default.CAs = []md.CA{{URL: w.ca.DirectoryURL(), Limits: acmeclient.Limits{Failures: acmeclient.Rate(limit)}}}
				breaks(m, w)
				n := w.start(m)
				time.Sleep(6 * time.Hour)
				n.stopped()
				if refused := w.ca.Refused(); len(refused) > 0 {
					t.Errorf("the CA has refused %d orders, the first one because of %v", len(refused), refused[0])
				}
				if got := w.ca.Requests()["newOrder"]; got < 5 {
					t.Errorf("%d orders in six hours, want more: the limit is two failures an hour", got)
				}
			})
		})
	}
}
