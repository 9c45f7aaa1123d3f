package e2e_test

import (
	"crypto/tls"
	"testing"
	"time"
)

// Two clients want a name at once, at two nodes.
func TestANodeWaitsForWhatAnotherOrders(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := newCustomers("shop.test")
		first, second := w.manager(), w.manager()
		w.slowly(first, 300*time.Millisecond)
		first.OnDemand, second.OnDemand = c.allow, c.allow
		one := w.start(first)
		defer one.stopped()
		two := w.start(second)
		defer two.stopped()
		time.Sleep(time.Minute)
		go func() { _, _ = first.GetCertificate(&tls.ClientHelloInfo{ServerName: "shop.test"}) }()
		time.Sleep(time.Second)
		began := time.Now()
		if _, err := w.serial("shop.test"); err != nil {
			t.Errorf("at the second node after %v: %v", time.Since(began), err)
		}
		if got := len(w.ca.Orders()); got != 1 {
			t.Errorf("%d orders, want 1", got)
		}
	})
}
