package e2e_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// The CA has issued for one key type of a renewal, and then lets us wait for days
// with the other one. What there is comes into use before those in use end, and
// not with some look after that.
func TestAPartOfTheSetIsUsedBeforeTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 10 * day
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && op.Nth > 3 {
				return acmetest.Fault503
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}))
		defer n.stopped()
		n.ready(time.Hour)
		w.change(func() { w.ca.RetryAfter = 37 * time.Hour })
		first := leafOf(t, n.m, "example.com")
		time.Sleep(time.Until(first.NotAfter.Add(-2 * time.Hour)))
		if !leafOf(t, n.m, "example.com").Equal(first) || len(w.ca.Certificates()) != 3 {
			t.Fatalf("%d certificates: it has not come to what is to be tested", len(w.ca.Certificates()))
		}
		for range 24 * 6 {
			time.Sleep(10 * time.Minute)
			if leaf := leafOf(t, n.m, "example.com"); !time.Now().Before(leaf.NotAfter) {
				t.Fatalf("at %v, a certificate is served that has expired at %v, and there is a better one", time.Now(), leaf.NotAfter)
			}
		}
	})
}
