package e2e_test

import (
	"testing"
	"time"
)

// OnDemandWait.
func TestAHandshakeMayTakeOnDemandWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager()
		w.slowly(m, 1300*time.Millisecond)
		m.OnDemand = newCustomers("shop.test").allow
		n := w.start(m)
		defer n.stopped()
		began := time.Now()
		_, err := w.serial("shop.test")
		if took := time.Since(began); took < 10*time.Second || took > 15*time.Second || err != nil {
			t.Errorf("after %v: %v; want a certificate after 10 to 15 s", took, err)
		}
	})
}
