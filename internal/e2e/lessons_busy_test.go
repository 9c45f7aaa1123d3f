package e2e_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

func TestOne503StopsNobodyForAnHour(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var n atomic.Int64
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				if n.Add(1) == 1 {
					return acmetest.Fault503
				}
			}
			return acmetest.FaultNone
		}
		w.ca.RetryForm = acmetest.RetryNone
		x := w.start(w.manager(md.Domain{Names: []string{"a.example.com"}}))
		time.Sleep(time.Second)
		_ = x.m.Update(context.Background(), []md.Domain{{Names: []string{"a.example.com"}}, {Names: []string{"b.example.com"}}})
		time.Sleep(10 * time.Minute)
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("ten minutes after a single 503: %d certificates, want 2", got)
		}
		x.stopped()
	})
}

func TestHangingNotifierLeaks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var calls atomic.Int64
		end := make(chan bool)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = md.NotifierFunc(func(context.Context, md.Event) error {
			calls.Add(1)
			<-end
			return errors.New("x")
		})
		w.ca.SetDown(true)
		n := w.start(m)
		time.Sleep(20 * day)
		if got := calls.Load(); got > 4 {
			t.Errorf("%d calls hang at once", got)
		}
		n.stop()
		<-n.done
		close(end)
	})
}
