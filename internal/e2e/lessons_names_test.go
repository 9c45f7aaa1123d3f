package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

func TestExpiredOrphanDoesNotTakeAwayALender(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 10 * day
		n := w.start(w.manager(md.Domain{Name: "old", Names: []string{"www.example.com"}}))
		n.ready(time.Minute)
		n.stopped()
		time.Sleep(20 * day)
		w.ca.Lifetime = 90 * day
		n = w.start(w.manager(md.Domain{Name: "a", Names: []string{"example.com", "www.example.com"}}))
		n.ready(time.Minute)
		w.served("www.example.com")
		w.ca.SetDown(true)
		err := n.m.Update(context.Background(), []md.Domain{
			{Name: "a", Names: []string{"example.com"}}, {Name: "b", Names: []string{"www.example.com"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.serial("www.example.com"); err != nil {
			t.Errorf("the name has moved, and its good certificate is gone: %v", err)
		}
		n.stopped()
	})
}

func TestBrokenActiveAndOrphan(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, name := range []string{"a", "b"} { // b takes what a leaves
			n := w.start(w.manager(md.Domain{Name: name, Names: []string{"example.com"}}))
			n.ready(time.Minute)
			time.Sleep(time.Minute)
			n.stopped()
		}
		if _, err := w.store.Put(context.Background(), "domains/b", []byte("garbage"), store.Any); err != nil {
			t.Fatal(err)
		}
		n := w.start(w.manager(md.Domain{Name: "b", Names: []string{"example.com"}}))
		time.Sleep(day)
		if r := n.report("b"); r.State != status.Good {
			t.Errorf("a day after: %s, %+v", r.State, r.Renewal)
		}
		n.stopped()
	})
}

// helloFor is the ClientHello of a client of our days.
func helloFor(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}}
}

func TestRenamedDomainsAreServedAllTheTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const many = 300
		var as, bs []md.Domain
		for i := range many {
			names := []string{fmt.Sprintf("d%d.example.com", i)}
			as = append(as, md.Domain{Name: fmt.Sprint("a", i), Names: names})
			bs = append(bs, md.Domain{Name: fmt.Sprint("b", i), Names: names})
		}
		m := w.manager(as...)
		m.Default.CAs[0].Limits.Orders.Count = -1
		n := w.start(m)
		n.ready(time.Hour)
		stop, missed := make(chan bool), make(chan int)
		go func() {
			count := 0
			for {
				select {
				case <-stop:
					missed <- count
					return
				default:
				}
				if _, err := m.GetCertificate(helloFor("d0.example.com")); errors.Is(err, md.ErrNotManaged) {
					count++
				}
			}
		}()
		for range 20 {
			if err := m.Update(context.Background(), bs); err != nil {
				t.Fatal(err)
			}
			as, bs = bs, as
		}
		close(stop)
		if got := <-missed; got > 0 {
			t.Errorf("%d handshakes found the name unknown while its Domain was renamed", got)
		}
		n.stopped()
	})
}
