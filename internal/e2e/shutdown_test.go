package e2e_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/status"
)

// deaf is a Challenger that does not come back from anything.
type deaf struct{ idle }

func (deaf) Present(context.Context, challenge.Challenge) error { time.Sleep(day); return nil }
func (deaf) CleanUp(context.Context, challenge.Challenge) error { time.Sleep(day); return nil }

// However many hooks hang one after the other, the end of Run waits ten seconds
// for all of them.
func TestTheEndWaitsOnceForAllHooks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		domain := md.Domain{Names: []string{"example.com"}, ARI: md.Off}
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		w.ca.SetDown(true)
		time.Sleep(88 * day)
		n.stopped()
		w.ca.SetDown(false)
		domain.Challengers = []md.Challenger{&deaf{}}
		m := w.manager(domain)
		m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if e.Kind == status.Expiring {
				time.Sleep(day)
			}
			return nil
		})
		n = w.start(m)
		for range 48 * 60 {
			time.Sleep(time.Minute)
			if r := n.report("example.com").Renewal; r != nil && strings.HasPrefix(r.Activity, "setting up") {
				break
			}
		}
		began := time.Now()
		n.stop()
		err := <-n.done
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("the end took %v", took)
		}
		if err == nil || !strings.Contains(err.Error(), "setting up http-01 for example.com") {
			t.Errorf("Serve returned %v, want an error that names what hangs", err)
		}
		time.Sleep(2 * day) // until the hooks have come back
	})
}
