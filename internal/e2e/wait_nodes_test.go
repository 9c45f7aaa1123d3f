package e2e_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// A CA that has asked for five hours for a first order is not asked before,
// whoever is started or restarted meanwhile: that counted as a failure.
func TestAWaitIsObeyedByAllNodes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RetryAfter = 5 * time.Hour
		w.ca.Faults.SlowFinalize = 1
		domain := md.Domain{Names: []string{"example.com"}}
		var d diary
		var nodes []*node
		for range 8 {
			m := w.manager(domain)
			m.Notifier = &d
			nodes = append(nodes, w.start(m))
		}
		time.Sleep(time.Hour)
		if got := w.ca.Requests()["order"]; got > 2 {
			t.Errorf("the order was looked at %d times within an hour; the CA has asked for five", got)
		}
		if r := nodes[0].report("example.com").Renewal; r == nil || r.Attempts != 0 {
			t.Errorf("the status tells of failures: %+v", r)
		}
		for _, n := range nodes {
			n.stopped()
		}
	})
}
