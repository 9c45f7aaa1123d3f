package e2e_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
)

// wantNoFailure fails if a Domain's status counts a failure, or the Notifier
// was told of one.
func (n *node) wantNoFailure(name string, d *diary) {
	n.w.t.Helper()
	r := n.report(name).Renewal
	if r.Attempts > 0 || d.count(status.Errored) > 0 {
		n.w.t.Errorf("what was asked for counts as %d failures, with %d events: %s", r.Attempts, d.count(status.Errored), r.LastError)
	}
}

func TestRevokeDuringBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		time.Sleep(2 * day)
		w.ca.SetDown(true)
		if err := n.m.Renew(context.Background(), "example.com"); err == nil {
			t.Fatal("Renew with the CA down: no error")
		}
		w.ca.SetDown(false)
		err := n.m.Revoke(context.Background(), "example.com", acmeclient.KeyCompromise)
		revoked := !w.ca.Certificates()[0].Revoked.IsZero()
		if err == nil && !revoked {
			t.Errorf("Revoke returned nil, but nothing was revoked; %d certificates", len(w.ca.Certificates()))
		}
		n.stopped()
	})
}

func TestActivateOrdersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		if err := m.Activate(context.Background(), "example.com"); err != nil {
			t.Fatal(err)
		}
		if got := w.ca.Requests()["newOrder"]; got > 0 {
			t.Errorf("Activate has made %d orders", got)
		}
	})
}

func TestImpatientRenewIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := new(diary)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Minute)
		time.Sleep(2 * day)
		w.change(func() { w.ca.Fault = faultOn("newOrder", acmetest.FaultHang, nil) })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := n.m.Renew(ctx, "example.com"); err == nil {
			t.Error("Renew with a CA that hangs: no error")
		}
		n.wantNoFailure("example.com", d)
		n.stopped()
	})
}

func TestRestoreOfNothingIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := new(diary)
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Notifier = d
		n := w.start(m)
		n.ready(time.Minute)
		if err := n.m.Restore(context.Background(), "example.com", "typo"); err == nil {
			t.Error("Restore of what is not there: no error")
		}
		n.wantNoFailure("example.com", d)
		n.stopped()
	})
}

func TestUpdateWithAnEndedContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Fault = faultOn("newOrder", acmetest.FaultHang, nil)
		d := []md.Domain{{Names: []string{"example.com"}}}
		n := w.start(w.manager(d...))
		time.Sleep(time.Second)
		if !n.report("example.com").Renewal.Running {
			t.Fatal("no attempt is under way")
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.m.Update(ended, d) // whether it could read anything does not matter
		time.Sleep(time.Second)
		synctest.Wait()
		if !n.report("example.com").Renewal.Running {
			t.Errorf("a second attempt was started beside the first, and ended its place")
		}
		n.stopped()
	})
}

// Once a CA works on an order, what needed somebody to act is over, and the
// status does not go on saying it.
func TestStatusAfterSomebodyHasActed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		slow := on()
		w.ca.TermsOfService = "https://acme.test/terms"
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.AcceptTerms = false
		n := w.start(m)
		time.Sleep(time.Minute)
		if err := n.m.Ready(t.Context()); !errors.Is(err, md.ErrNotReady) {
			t.Fatalf("Ready returned %v, want that the terms are not agreed to", err)
		}
		n.stopped()

		m = w.manager(md.Domain{Names: []string{"example.com"}})
		m.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := w.roundTrip(r)
			if err == nil && slow.Load() && strings.Contains(r.URL.Path, "/order/") {
				resp.Header.Set("Retry-After", "7200")
				err = hideEnd(resp)
			}
			return resp, err
		})}
		n = w.start(m)
		time.Sleep(10 * time.Minute)
		if got := n.report("example.com").Renewal.LastError; strings.Contains(got, "terms") {
			t.Errorf("the status says %q, but the CA has the order", got)
		}
		slow.Store(false)
		n.ready(day)
		n.stopped()
	})
}
