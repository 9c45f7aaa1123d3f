package e2e_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
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
