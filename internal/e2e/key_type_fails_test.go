package e2e_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// There are no keys of the first type any more, at the first order or from some
// day on. The other type is ordered, and served before what there was expires.
func TestTheSecondKeyTypeIsHadWhileTheFirstFails(t *testing.T) {
	for name, since := range map[string]time.Duration{"at first": 0, "at a renewal": day} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				var refused atomic.Bool
				refused.Store(since == 0)
				d := withoutKeys(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P384, md.P256}}, md.P384, &refused)
				n := w.startIn(hourly(), w.manager(d))
				defer n.stopped()
				start := time.Now()
				time.Sleep(since + time.Minute)
				refused.Store(true)
				for range 100 {
					if _, err := w.serial("example.com"); err != nil {
						t.Fatalf("after %v: %v", time.Since(start), err)
					}
					time.Sleep(day)
				}
				refused.Store(false)
				time.Sleep(3 * day)
				if got := len(n.report("example.com").Certificates); got != 2 {
					t.Errorf("%d certificates are in use in the end, want 2", got)
				}
				if got := len(w.ca.Certificates()); got > 5 {
					t.Errorf("%d certificates were issued in 100 days, want no more than 5", got)
				}
			})
		})
	}
}
