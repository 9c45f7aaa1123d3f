package e2e_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// The Store has FallbackName's certificate, and nobody has read it yet: the
// first hello does, whether OnDemand is asked before or not.
func TestFallbackNameBeforeLoad(t *testing.T) {
	for _, name := range []string{"", "other.test"} {
		bubble(t, func(t *testing.T, w *world) {
			d := md.Domain{Names: []string{"example.test"}}
			n := w.start(w.manager(d))
			n.ready(time.Minute)
			n.stopped()
			m := w.manager(d)
			m.FallbackName, m.OnDemand = "example.test", newCustomers().allow
			cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
			if err != nil {
				t.Fatalf("a hello for %q: %v", name, err)
			}
			if got := parsed(t, cert); got.Issuer.CommonName == got.Subject.CommonName {
				t.Errorf("a hello for %q gets the self-signed fallback", name)
			}
		})
	}
}
