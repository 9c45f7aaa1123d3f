package e2e_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// What was replaced, but could not be revoked yet, is revoked although the Domain
// has another Name by then.
func TestRenamedDomainsRevokeWhatIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var broken atomic.Bool
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "revoke" && broken.Load() {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		defer n.stopped()
		n.ready(time.Minute)
		time.Sleep(day)
		broken.Store(true)
		if err := n.m.Revoke(t.Context(), "example.com", md.KeyCompromise); err == nil {
			t.Fatal("nobody says that the certificate is not revoked")
		}
		if err := n.m.Update(t.Context(), []md.Domain{{Name: "renamed", Names: []string{"example.com"}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		broken.Store(false)
		time.Sleep(3 * day)
		certs := w.ca.Certificates()
		if len(certs) != 2 || certs[0].Revoked.IsZero() || !certs[1].Revoked.IsZero() {
			t.Errorf("of %d certificates, the first was revoked at %v; want two, and that", len(certs), certs[0].Revoked)
		}
	})
}
