package e2e_test

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// Clients who are served the fallback want the name as well.
func TestANameThatCannotBeHadYetIsWanted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.firewall = "443"
		m := w.manager()
		m.OnDemand = newCustomers("shop.test").allow
		m.OnDemandWait = -1
		n := w.startIn(hourly(), m)
		defer n.stopped()
		w.ca.SetDown(true)
		for range 20 * 24 {
			_, _ = m.GetCertificate(&tls.ClientHelloInfo{ServerName: "shop.test"})
			time.Sleep(time.Hour)
		}
		if w.logged("is forgotten") {
			t.Error("it was forgotten although clients ask for it each hour")
		}
	})
}

// A Domain for all customers: a second one comes.
func TestASecondNameOfADomainOnDemand(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager()
		w.slowly(m, 300*time.Millisecond)
		names := []string{"a.test"}
		m.OnDemand = func(_ context.Context, name string, hello *tls.ClientHelloInfo) (md.Domain, error) {
			if name == "b.test" {
				names = []string{"a.test", "b.test"}
			}
			return md.Domain{Name: "customers", Names: names}, nil
		}
		n := w.start(m)
		defer n.stopped()
		w.served("a.test")
		got := make(chan error, 2)
		for range 2 {
			go func() { _, err := w.serial("b.test"); got <- err }()
			time.Sleep(time.Second)
		}
		for range 2 {
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
	})
}

// A name is served from files on demand, and clients come each day.
func TestFilesOnDemandAreWanted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := newPair(t)
		p.write(mint(t, 1, 400*day, "shop.test"))
		m := w.manager()
		m.OnDemand = func(_ context.Context, name string, hello *tls.ClientHelloInfo) (md.Domain, error) {
			return md.Domain{CertFiles: []string{p.cert}, KeyFiles: []string{p.key}}, nil
		}
		n := w.startIn(hourly(), m)
		defer n.stopped()
		for range 20 {
			if got := servedSerial(t, m, "shop.test"); got != 1 {
				t.Errorf("serial %d", got)
			}
			time.Sleep(day)
		}
		if w.logged("is forgotten") {
			t.Error("it was forgotten although clients ask for it each day")
		}
	})
}
