package e2e_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store/storetest"
)

// Revoke is interrupted when the successor is about to be staged. A later attempt
// puts it into use, and has the former certificate revoked then.
func TestRevokeIsFinishedByWhoActivatesTheSuccessor(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{"lost": storetest.FaultBefore, "reply lost": storetest.FaultAfter} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				var revoking atomic.Bool
				var staged atomic.Int32
				m := w.manager(md.Domain{Names: []string{"example.com"}})
				m.Store = &storetest.Faulty{Store: w.store, Fault: func(op storetest.Op) storetest.Fault {
					if revoking.Load() && op.Kind == "put" && strings.HasPrefix(op.Key, "staging/") && staged.Add(1) == 2 {
						return fault // the first was the order
					}
					return storetest.FaultNone
				}}
				n := w.start(m)
				defer n.stopped()
				n.ready(time.Minute)
				time.Sleep(10 * day)
				revoking.Store(true)
				if err := n.m.Revoke(t.Context(), "example.com", md.KeyCompromise); err == nil {
					t.Error("nobody says that nothing was revoked")
				}
				time.Sleep(day)
				certs := w.ca.Certificates()
				if len(certs) != 2 || !leafOf(t, n.m, "example.com").Equal(certs[1].Leaf) {
					t.Fatalf("%d certificates, want two, and the second served", len(certs))
				}
				if certs[0].Revoked.IsZero() || !certs[1].Revoked.IsZero() {
					t.Errorf("revoked at %v and %v, want the first, and not the second", certs[0].Revoked, certs[1].Revoked)
				}
			})
		})
	}
}
