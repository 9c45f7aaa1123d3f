package e2e_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// slowly makes each request to the CAs of m take a time.
func (w *world) slowly(m *md.Manager, by time.Duration) {
	m.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		time.Sleep(by)
		return w.roundTrip(r)
	})}
}

// A client waits for its certificate while somebody declares the name.
func TestAWaitedForDomainIsDeclared(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager()
		w.slowly(m, 500*time.Millisecond)
		m.OnDemand = newCustomers("shop.test").allow
		n := w.start(m)
		defer n.stopped()
		got := make(chan error, 1)
		go func() { _, err := w.serial("shop.test"); got <- err }()
		time.Sleep(2 * time.Second)
		if err := m.Update(context.Background(), []md.Domain{{Names: []string{"shop.test"}}}); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Errorf("who has waited meanwhile: %v", err)
		}
	})
}
