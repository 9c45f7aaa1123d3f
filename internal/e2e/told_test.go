package e2e_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
)

// A node whose Notifier hangs serves what another node has renewed within a
// minute or so, however many Domains that is about.
func TestAHangingNotifierKeepsNothingFromBeingServed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var domains []md.Domain
		for i := range 10 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		first := w.start(w.manager(domains...))
		first.ready(time.Minute)
		m := w.manager(domains...)
		var told, atOnce, most atomic.Int64
		m.Notifier = md.NotifierFunc(func(ctx context.Context, e md.Event) error {
			if e.Domain == "d0.example.com" {
				most.Store(max(most.Load(), atOnce.Add(1)))
				defer atOnce.Add(-1)
			}
			if e.Kind == status.Installed {
				told.Add(1)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		second := w.start(m)
		time.Sleep(day)
		for _, d := range domains {
			if err := first.m.Renew(t.Context(), d.Names[0]); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		for _, d := range domains {
			if !leafOf(t, second.m, d.Names[0]).Equal(leafOf(t, first.m, d.Names[0])) {
				t.Errorf("%s is not served by the second node yet", d.Names[0])
			}
		}
		time.Sleep(10 * time.Minute)
		if got := told.Load(); got != 10 {
			t.Errorf("%d Installed events, want one for each Domain", got)
		}
		if got := most.Load(); got > 1 {
			t.Errorf("%d events of one Domain at once", got)
		}
		first.stopped()
		second.stopped()
	})
}

// What a Notifier has accepted while the process ends is not told again after
// the restart, and what has happened is told with a context that has not ended:
// a status.Command would not even start.
func TestWhatIsToldWhileTheProcessEnds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var d diary
		notifier := md.NotifierFunc(func(ctx context.Context, e md.Event) error {
			if e.Kind == status.Installed && ctx.Err() != nil {
				t.Errorf("Installed comes with a context that has ended: %v", ctx.Err())
			}
			_ = d.Notify(ctx, e)
			if e.Kind == status.Renewed {
				time.Sleep(5 * time.Second) // it sees to its task first
			}
			return nil
		})
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = notifier
		n := w.start(m)
		for d.count(status.Renewed) == 0 {
			time.Sleep(time.Second)
		}
		n.stopped()
		m = w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = notifier
		n = w.start(m)
		time.Sleep(day)
		n.stopped()
		if got, want := d.kinds(), "renewing challenge-setup renewed installed"; got != want {
			t.Errorf("the events are %q, want %q", got, want)
		}
	})
}
