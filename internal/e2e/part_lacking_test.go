package e2e_test

import (
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// A name is added, and certified for one key type only. Clients that can use
// nothing but the other one still have what there was for the former name, also
// after a restart; the others are never served it for the name that it lacks.
func TestAPartOfTheSetDoesNotTakeAwayTheOtherKeyType(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var refused atomic.Bool
		d := withoutKeys(md.Domain{Name: "shop", Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}, md.P384, &refused)
		n := w.start(w.manager(d))
		n.ready(time.Minute)
		refused.Store(true)
		d.Names = []string{"example.com", "www.example.com"}
		if err := n.m.Update(t.Context(), []md.Domain{d}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		n.stopped()
		n = w.start(w.manager(d))
		defer n.stopped()
		time.Sleep(time.Minute)
		for _, name := range d.Names {
			if _, err := w.serial(name); err != nil {
				t.Errorf("what is there for %s is not served: %v", name, err)
			}
		}
		only384 := &tls.ClientHelloInfo{ServerName: "example.com", CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}, SupportedVersions: []uint16{tls.VersionTLS13},
			SupportedCurves: []tls.CurveID{tls.X25519}}
		leaf := parsed(t, served(t, n.m, only384))
		if err := leaf.VerifyHostname("example.com"); err != nil || !leaf.Equal(w.ca.Certificates()[1].Leaf) {
			t.Errorf("a client that can use P-384 only is served %v (%v), want what was in use", leaf.DNSNames, err)
		}
	})
}
