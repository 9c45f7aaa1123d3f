package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

func TestNewKeyNeedsOpenKey(t *testing.T) {
	k := new(kms)
	names := []string{"example.com"}
	for _, test := range []struct {
		name  string
		given md.Domain
		def   md.Domain
		want  string // the field
	}{
		{"both", md.Domain{Names: names, NewKey: k.NewKey, OpenKey: k.OpenKey}, md.Domain{}, ""},
		{"both by default", md.Domain{Names: names}, md.Domain{NewKey: k.NewKey, OpenKey: k.OpenKey}, ""},
		{"OpenKey by default", md.Domain{Names: names, NewKey: k.NewKey}, md.Domain{OpenKey: k.OpenKey}, ""},
		{"OpenKey alone", md.Domain{Names: names, OpenKey: k.OpenKey}, md.Domain{}, ""},
		{"NewKey alone", md.Domain{Names: names, NewKey: k.NewKey}, md.Domain{}, "OpenKey"},
		{"NewKey alone by default", md.Domain{Names: names}, md.Domain{NewKey: k.NewKey}, "Default.OpenKey"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &md.Manager{Domains: []md.Domain{test.given}, Default: test.def, Store: new(store.Memory)}
			err := m.Check()
			var bad *md.ConfigError
			switch {
			case err == nil && test.want == "":
			case !errors.As(err, &bad) || bad.Field != test.want:
				t.Errorf("Check: %v, want what is wrong with %q", err, test.want)
			}
		})
	}
}

// ReuseKey does not go on with a key that is to be revoked, also where an order
// for it is under way.
func TestRevokedKeyIsNotUsedAgain(t *testing.T) {
	for name, use := range map[string]func(*kms, md.Domain) md.Domain{
		"kept in the Store": func(_ *kms, d md.Domain) md.Domain { return d },
		"kept in a KMS":     (*kms).use,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				domain := use(new(kms), md.Domain{Names: []string{"example.com"}, ReuseKey: md.On})
				n := w.start(w.manager(domain))
				n.ready(time.Minute)
				time.Sleep(59 * day)
				var broken atomic.Bool
				broken.Store(true)
				w.change(func() { w.ca.Fault = faultOn("finalize", acmetest.Fault500, &broken) })
				time.Sleep(2 * day)
				broken.Store(false)
				if len(w.keys("staging/")) != 1 {
					t.Fatal("no order is under way")
				}
				if err := n.m.Revoke(t.Context(), "example.com", md.KeyCompromise); err != nil {
					t.Error(err)
				}
				n.stopped()
				certs := w.ca.Certificates()
				if len(certs) != 2 || certs[0].Revoked.IsZero() {
					t.Fatalf("%d certificates, want the first of two revoked", len(certs))
				}
				if certs[0].Leaf.PublicKey.(*ecdsa.PublicKey).Equal(certs[1].Leaf.PublicKey) {
					t.Error("the successor has the key that is known to others")
				}
			})
		})
	}
}

// A KMS that hangs for many Domains keeps neither the others nor Load waiting.
func TestKMSHangsForManyDomains(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k, good := new(kms), new(kms)
		var domains []md.Domain
		for i := range 80 {
			domains = append(domains, k.use(md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}}))
		}
		domains = append(domains, good.use(md.Domain{Names: []string{"z.example.com"}}))
		n := w.start(w.manager(domains...))
		n.ready(time.Hour)
		time.Sleep(day)
		n.stopped()

		k.set(func(k *kms) { k.hangs = make(chan struct{}) })
		m := w.manager(domains...)
		begin := time.Now()
		if err := m.Load(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("Load took %v", took)
		}
		n = w.start(m)
		time.Sleep(2 * time.Minute)
		if _, err := w.serial("z.example.com"); err != nil {
			t.Errorf("the Domain with another KMS: %v", err)
		}
		time.Sleep(time.Hour)
		if _, opened, _ := k.counts(); opened > 80 {
			t.Errorf("%d calls hang, want one for each Domain at most", opened)
		}
		k.set(func(k *kms) { close(k.hangs); k.hangs = nil })
		n.ready(10 * time.Minute)
		n.stopped()
		w.nothingLost(81)
	})
}

// Who neither calls Load nor Run is served as well, from the first handshake
// on.
func TestHandshakeOpensKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := &kms{latency: time.Second}
		domain := k.use(md.Domain{Names: []string{"example.com"}})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		n.stopped()
		m := w.manager(domain)
		results := make(chan bool, 10)
		for range 10 {
			go func() {
				cert, err := m.GetCertificate(&tls.ClientHelloInfo{
					ServerName: "example.com", SupportedVersions: []uint16{tls.VersionTLS13},
					SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
				})
				results <- err == nil && len(cert.Certificate) > 1
			}()
		}
		for range 10 {
			if !<-results {
				t.Error("a handshake is not served the certificate")
			}
		}
		if _, opened, _ := k.counts(); opened != 1 {
			t.Errorf("the key was opened %d times, want once for all", opened)
		}
	})
}

// A Domain that gets another Name keeps its certificate.
func TestRenamedDomainKeepsItsKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}, Name: "old"})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		first := w.served("example.com")
		n.stopped()
		domain.Name = "new"
		n = w.start(w.manager(domain))
		n.ready(time.Minute)
		if got := w.served("example.com"); got != first {
			t.Errorf("%s is served, want %s", got, first)
		}
		n.stopped()
		w.nothingLost(1)
	})
}

// A change of OpenKey, and Renew, do not wait for the next try.
func TestKeyIsOpenedWhenSomebodyAsks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		first := w.served("example.com")
		time.Sleep(day)
		n.stopped()
		denied := domain
		denied.OpenKey = func(context.Context, string, string) (crypto.Signer, error) { return nil, errors.New("access denied") }
		n = w.start(w.manager(denied))
		time.Sleep(day)
		if r := n.report("example.com"); r.State != status.Pending || !strings.Contains(r.Reason, "access denied") {
			t.Errorf("the status is %v because of %q", r.State, r.Reason)
		}
		if err := n.m.Update(t.Context(), []md.Domain{domain}); err != nil {
			t.Error(err)
		}
		if got := w.served("example.com"); got != first {
			t.Errorf("%s is served, want %s", got, first)
		}
		n.stopped()
		w.nothingLost(1)

		n = w.start(w.manager(denied))
		time.Sleep(time.Hour)
		if err := n.m.Renew(t.Context(), "example.com"); err != nil {
			t.Error(err)
		}
		if got := w.served("example.com"); got == first {
			t.Error("Renew has changed nothing")
		}
		synctest.Wait()
		if r := n.report("example.com"); r.State != status.Good || r.Reason != "" {
			t.Errorf("the status is %v because of %q", r.State, r.Reason)
		}
		n.stopped()
	})
}

// What the Store loses while its key is out of reach is ordered again.
func TestStoreLosesWhatWaitsForItsKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		n.stopped()
		k.set(func(k *kms) { k.away = errors.New("connection refused") })
		n = w.start(w.manager(domain))
		time.Sleep(time.Hour)
		if err := w.store.Delete(t.Context(), "domains/example.com", store.Any); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if r := n.report("example.com"); r.Renewal == nil || !strings.Contains(r.Renewal.LastError, "NewKey") {
			t.Errorf("the status says %+v, want that another is tried to be had", r.Renewal)
		} else if !strings.Contains(r.Reason, "it is missing") {
			t.Errorf("the status says %q, want that the certificate is missing", r.Reason)
		}
		k.set(func(k *kms) { k.away = nil })
		n.ready(day)
		n.stopped()
	})
}

// A name that was had on demand is served after a restart by what Default
// says, and orders nothing if that says nothing.
func TestKeyOfADomainOnDemand(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		manager := func(def bool) *md.Manager {
			m := w.manager()
			if def {
				m.Default.OpenKey = k.OpenKey
			}
			m.OnDemand = func(context.Context, string, *tls.ClientHelloInfo) (md.Domain, error) { return k.use(md.Domain{}), nil }
			return m
		}
		n := w.start(manager(true))
		first := w.served("www.example.com")
		time.Sleep(day)
		n.stopped()
		n = w.start(manager(true))
		if got := w.served("www.example.com"); got != first {
			t.Errorf("%s is served after the restart, want %s", got, first)
		}
		n.stopped()
		n = w.start(manager(false))
		if err := n.m.Load(t.Context()); err != nil {
			t.Error(err)
		}
		if r := n.report("www.example.com"); !strings.Contains(r.Reason, "set it in Manager.Default") {
			t.Errorf("the status says %q", r.Reason)
		}
		time.Sleep(2 * time.Hour) // OnDemand is asked again within the first
		if got := w.served("www.example.com"); got != first {
			t.Errorf("%s is served, want %s", got, first)
		}
		n.stopped()
		w.nothingLost(1)
	})
}

// Every operation of an order and of a renewal is broken, as in
// TestEachOperationBroken.
func TestEachOperationBrokenWithKeysInAKMS(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	k := new(kms)
	o := ordeals()["renewal"]
	o.domain = k.use(o.domain)
	for _, b := range []breakage{{where: "store", after: true, crash: true}, {where: "CA", after: true, crash: true}, {where: "store"}} {
		for b.n = 1; b.n <= 40; b.n++ {
			o.breaks(t, b)
		}
	}
}
