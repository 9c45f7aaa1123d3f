package e2e_test

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// OnDemand is asked again, and meanwhile somebody declares the name: it is not
// for OnDemand any more to end it.
func TestADomainIsDeclaredWhileOnDemandRefusesIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager()
		var declared atomic.Bool
		m.OnDemand = func(ctx context.Context, name string, hello *tls.ClientHelloInfo) (md.Domain, error) {
			if hello != nil {
				return md.Domain{}, nil
			}
			if !declared.Swap(true) {
				if err := m.Update(ctx, []md.Domain{{Names: []string{"shop.test"}}}); err != nil {
					return md.Domain{}, err
				}
			}
			return md.Domain{}, md.ErrNotManaged
		}
		n := w.startIn(hourly(), m)
		defer n.stopped()
		w.served("shop.test")
		for range 70 {
			time.Sleep(day)
			_, _ = w.serial("shop.test")
		}
		if !declared.Load() {
			t.Fatal("OnDemand was not asked again")
		}
		w.served("shop.test")
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates, want 2: it was to be renewed", got)
		}
	})
}
