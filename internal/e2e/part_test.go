package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// The CA issues for one key type and then goes away for a week, while the
// certificates in use expire.
func TestAPartOfTheSetIsUsedBeforeAnExpiredOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.Lifetime = 10 * day
		n := w.startIn(hourly(), w.manager(md.Domain{
			Names: []string{"example.test"}, KeyTypes: []md.KeyType{md.P256, md.P384},
		}))
		defer n.stopped()
		n.ready(time.Minute)
		time.Sleep(time.Hour)
		issued := len(w.ca.Certificates())
		var gone atomic.Bool
		w.change(func() {
			w.ca.Leaf = func(*x509.Certificate) {
				if len(w.ca.Certificates()) > issued && gone.CompareAndSwap(false, true) {
					w.ca.SetDown(true) // with the second order of the renewal
				}
			}
		})
		time.Sleep(7 * day)
		time.Sleep(4 * day) // those in use have expired by now
		if got := len(w.ca.Certificates()); got < issued+1 {
			t.Fatalf("%d certificates were issued, want one of the renewal", got-issued)
		}
		leaf := leafOf(t, n.m, "example.test")
		if !time.Now().Before(leaf.NotAfter) {
			t.Errorf("an expired certificate is served, of %v, though there is a better one", leaf.NotAfter)
		}
		w.ca.SetDown(false)
		time.Sleep(2 * day)
		modern := &tls.ClientHelloInfo{ServerName: "example.test", CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}, SupportedVersions: []uint16{tls.VersionTLS13},
			SupportedCurves: []tls.CurveID{tls.X25519}}
		if other := parsed(t, served(t, n.m, modern)); !time.Now().Before(other.NotAfter) || other.Equal(leaf) {
			t.Errorf("the other key type was not renewed when the CA was back: until %v", other.NotAfter)
		}
		accounts := w.ca.Accounts()
		if len(accounts) != 1 {
			t.Errorf("%d accounts, want 1", len(accounts))
		}
	})
}

// At the first order, the certificate of one key type is served while the CA
// refuses the other.
func TestTheFirstKeyTypeIsServedWhileTheSecondFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && op.Nth > 1 && op.Nth < 8 {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.test"}, KeyTypes: []md.KeyType{md.P256, md.P384}}))
		defer n.stopped()
		time.Sleep(10 * time.Second)
		if _, err := w.serial("example.test"); err != nil {
			t.Errorf("what is there is not served: %v", err)
		}
		n.ready(time.Minute)
		time.Sleep(6 * time.Hour)
		if got := len(n.report("example.test").Certificates); got != 2 {
			t.Errorf("%d certificates in the end, want 2", got)
		}
		if r := n.report("example.test"); strings.Contains(r.Reason, "missing") {
			t.Errorf("the status says %q", r.Reason)
		}
	})
}

// A name is added; the CA certifies it for one key type, and not for the other.
func TestAnAddedNameIsServedWhileTheSecondKeyTypeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && op.Nth > 3 && op.Nth < 10 {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		domain := md.Domain{Name: "shop", Names: []string{"example.test"}, KeyTypes: []md.KeyType{md.P256, md.P384}}
		n := w.start(w.manager(domain))
		defer n.stopped()
		n.ready(time.Minute)
		domain.Names = []string{"example.test", "www.test"}
		if err := n.m.Update(t.Context(), []md.Domain{domain}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := w.serial("www.test"); err != nil {
			t.Errorf("what is there for the added name is not served: %v", err)
		}
		time.Sleep(6 * time.Hour)
		if got := len(n.report("shop").Certificates); got != 2 {
			t.Errorf("%d certificates in the end, want 2", got)
		}
	})
}
