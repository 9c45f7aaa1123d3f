package e2e_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// Two Domains need an account at one moment. That the patience of who asked for
// the first one ends while it is registered is nothing to the second.
func TestTheEndOfOneAttemptIsNotThatOfAnother(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager(md.Domain{Names: []string{"a.example.com"}}, md.Domain{Names: []string{"b.example.com"}})
		var slow atomic.Bool
		slow.Store(true)
		m.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if slow.Load() {
				select {
				case <-time.After(20 * time.Second):
				case <-r.Context().Done():
					return nil, context.Cause(r.Context())
				}
			}
			return w.roundTrip(r)
		})}
		m.Default.RenewMode = md.RenewManual
		n := w.start(m) // to answer validators
		impatient, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() { first <- m.Renew(impatient, "a.example.com") }()
		second := make(chan error, 1)
		go func() { time.Sleep(time.Second); second <- m.Renew(t.Context(), "b.example.com") }()
		if err := <-first; err == nil {
			t.Error("the first Renew has succeeded")
		}
		if err := <-second; err != nil {
			t.Errorf("the second Renew: %v", err)
		}
		n.stopped()
	})
}
