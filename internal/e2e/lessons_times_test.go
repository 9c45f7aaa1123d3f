package e2e_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/store/storetest"
)

func TestClockPutRight(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var skew atomic.Int64
		wall := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
		ctx := engine.WithKnobs(context.Background(), engine.Knobs{Wall: wall})
		n := w.startIn(ctx, w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		skew.Store(int64(365 * day))
		time.Sleep(time.Hour)
		skew.Store(0)
		time.Sleep(92 * day)
		if _, err := w.serial("example.com"); err != nil {
			t.Errorf("after 92 days: %v; %d certificates", err, len(w.ca.Certificates()))
		}
		n.stopped()
	})
}

func TestStoreAwayForLongInAShortLife(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 160 * time.Hour
		var down atomic.Bool
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = breaking(w.store, func(storetest.Op) bool { return down.Load() })
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(70 * time.Hour)
		down.Store(true)
		time.Sleep(83 * time.Hour) // 7 hours are left
		down.Store(false)
		for range 70 {
			time.Sleep(6 * time.Minute)
			if _, err := w.serial("example.com"); err != nil {
				t.Fatalf("an expired certificate is served, although Store and CA have worked for hours: %v", n.report("example.com").Renewal.NextAttempt)
			}
		}
		if got := len(w.ca.Certificates()); got < 2 {
			t.Errorf("7 hours after the Store is back, %d certificates; next %v now %v", got, n.report("example.com").Renewal.NextAttempt, time.Now().UTC())
		}
		n.stopped()
	})
}

func TestShortLivesAtAPrivateCA(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = day
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		for i := range 30 * 24 {
			time.Sleep(time.Hour)
			if _, err := w.serial("example.com"); err != nil {
				t.Fatalf("after %d hours: %v: %s", i+1, err, n.report("example.com").Renewal.LastError)
			}
		}
		n.stopped()
	})
}
