package integration

import (
	"context"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/internal/engine"
)

// TestTwoManagersShareADirectory has one Manager order while only the other
// one can be reached: that one answers the challenges, and takes over the
// certificate.
func TestTwoManagersShareADirectory(t *testing.T) {
	for _, challenger := range []md.Challenger{&md.HTTP01{}, &md.TLSALPN01{}} {
		t.Run("with "+challenger.Types()[0], func(t *testing.T) {
			k := newKept(t)
			serving, ordering := k.manager(t), k.manager(t)
			serving.Default.Challengers = []md.Challenger{challenger}
			ordering.Default.Challengers = []md.Challenger{challenger}
			often := engine.WithKnobs(context.Background(), engine.Knobs{Tick: 20 * time.Millisecond})
			k.runWith(often, t, serving)
			ready(t, serving)
			before := k.serial(t)

			if err := ordering.Renew(restless(t.Context()), "example.test"); err != nil {
				t.Fatalf("Renew: %v", err)
			}
			waitFor(t, func() bool { return k.serial(t) != before })
			if _, accounts, orders := k.seen.counts(); accounts != 1 || orders != 2 {
				t.Errorf("%d accounts and %d orders were made, want 1 and 2", accounts, orders)
			}
		})
	}
}
