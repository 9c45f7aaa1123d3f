package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"

	"github.com/manageddomains/md"
)

// OnDemand says how a wildcard is proved, which is not remembered. What there is
// of it is served after a restart although OnDemand cannot be asked.
func TestAWildcardOnDemandIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var dns zone
		w.ca.LookupTXT = dns.lookup
		var away error
		demand := func(context.Context, string, *tls.ClientHelloInfo) (md.Domain, error) {
			return md.Domain{Names: []string{"*.shop.test"}, Challengers: []md.Challenger{&dns}}, away
		}
		m := w.manager()
		m.OnDemand = demand
		n := w.start(m)
		before := w.served("a.shop.test")
		n.stopped()

		away = errors.New("the database is away")
		m = w.manager()
		m.OnDemand = demand
		if err := m.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		n = w.start(m)
		defer func() { n.stopped() }()
		if after, err := w.serial("b.shop.test"); err != nil || after != before {
			t.Errorf("after the restart: serial %s, %v; want %s", after, err, before)
		}
	})
}
