package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store/storetest"
)

func TestOrderBudget(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ca := md.CA{URL: w.ca.DirectoryURL()}
		ca.Limits.Orders = acmeclient.Rate{Count: 100, Per: 10 * time.Hour}
		var domains []md.Domain
		for i := range 260 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("d%d.example.com", i)}})
		}
		m := w.manager(domains...)
		m.Default.CAs = []md.CA{ca}
		n := w.start(m)
		time.Sleep(time.Hour)
		n.stopped()
		// A token bucket allows 100 at once and ten more in the hour.
		if got := w.ca.Requests()["newOrder"]; got > 112 {
			t.Errorf("%d orders in an hour, the bucket has 110", got)
		}
	})
}

func TestOne503StopsNobodyForAnHour(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var n atomic.Int64
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" && n.Add(1) == 1 {
				return acmetest.Fault503
			}
			return acmetest.FaultNone
		}
		w.ca.RetryForm = acmetest.RetryNone
		a, b := md.Domain{Names: []string{"a.example.com"}}, md.Domain{Names: []string{"b.example.com"}}
		x := w.start(w.manager(a))
		time.Sleep(time.Second)
		if err := x.m.Update(context.Background(), []md.Domain{a, b}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("ten minutes after a single 503: %d certificates, want 2", got)
		}
		x.stopped()
	})
}

func TestFirstCertificateFailsOverWhenLimited(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RetryAfter = 47 * time.Hour
		w.ca.Fault = faultOn("newOrder", acmetest.Fault429, nil)
		cas := []md.CA{{URL: w.ca.DirectoryURL()}, {URL: w.second.DirectoryURL()}}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, CAs: cas}))
		time.Sleep(day)
		if got := len(w.second.Certificates()); got != 1 {
			t.Errorf("a day after the first CA said to come back in two, the second has issued %d certificates, want 1", got)
		}
		n.stopped()
	})
}

func TestAccountForgottenMidOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		broken := on()
		w.ca.Fault = faultOn("finalize", acmetest.Fault500, broken)
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		time.Sleep(10 * time.Second)
		w.ca.ForgetAccounts()
		broken.Store(false)
		time.Sleep(20 * day)
		if _, err := w.serial("example.com"); err != nil {
			r := n.report("example.com").Renewal
			t.Errorf("20 days after the CA has forgotten the account: %v, %d attempts: %s", err, r.Attempts, r.LastError)
		}
		n.stopped()
	})
}

func TestHeldSetThatIsOfNoUseIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		full := on()
		var failing atomic.Bool
		w.ca.Fault = faultOn("finalize", acmetest.Fault500, &failing)
		m := w.manager(md.Domain{Name: "d", Names: []string{"example.com"}})
		m.Store = breaking(w.store, func(op storetest.Op) bool {
			return full.Load() && len(w.ca.Certificates()) > 0 && op.Kind == "put"
		})
		n := w.start(m)
		n.ready(time.Minute)
		failing.Store(true)
		if err := n.m.Update(context.Background(), []md.Domain{{Name: "d", Names: []string{"example.com", "www.example.com"}}}); err != nil {
			t.Fatal(err)
		}
		full.Store(false)
		time.Sleep(2 * day)
		if got := w.ca.Requests()["newOrder"]; got > 2 {
			t.Errorf("%d orders: each attempt writes the useless Set over the order in progress, and loses its key", got)
		}
		n.stopped()
	})
}

func TestKeyTypeRemovedWhileStaged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var orders atomic.Int64 // the second one is not finalized
		broken := on()
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				orders.Add(1)
			}
			if op.Kind == "finalize" && orders.Load() > 1 && broken.Load() {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}))
		time.Sleep(10 * time.Second)
		if got := len(w.ca.Certificates()); got != 1 {
			t.Fatalf("%d certificates, want 1 of the two", got)
		}
		broken.Store(false)
		err := n.m.Update(context.Background(), []md.Domain{{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256}}})
		if err != nil {
			t.Fatal(err)
		}
		n.ready(time.Hour)
		if got := len(w.ca.Certificates()); got != 1 {
			t.Errorf("%d certificates were issued, want 1: the one in staging was thrown away", got)
		}
		n.stopped()
	})
}

func TestCertificateGone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		gone := on()
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		next := m.HTTPClient.Transport
		m.HTTPClient.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if gone.Load() && err == nil && strings.Contains(r.URL.Path, "/certificate/") {
				resp.StatusCode = http.StatusNotFound
			}
			return resp, err
		})
		n := w.start(m)
		time.Sleep(10 * time.Second)
		if got := len(w.ca.Certificates()); got != 1 {
			t.Fatalf("%d certificates, want 1", got)
		}
		time.Sleep(10 * day)
		if got := w.ca.Requests()["newOrder"]; got < 2 {
			t.Errorf("10 days after the certificate has vanished at the CA there was no other order: %d attempts", n.report("example.com").Renewal.Attempts)
		}
		gone.Store(false)
		n.stopped()
	})
}

// What the CA has refused to issue does not count as issued: once the reason is
// gone, there are as many certificates as before.
func TestRefusedCertificatesAreNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		refusing := on()
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Default.CAs[0].Limits.Certificates = acmeclient.Rate{Count: 5, Per: 7 * day}
		m.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if !refusing.Load() || !strings.Contains(r.URL.Path, "/finalize/") {
				return w.roundTrip(r)
			}
			return &http.Response{
				StatusCode: http.StatusBadRequest, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				Header: http.Header{"Content-Type": {"application/problem+json"}},
				Body:   io.NopCloser(strings.NewReader(`{"type":"urn:ietf:params:acme:error:badCSR","detail":"no"}`)),
			}, nil
		})}
		n := w.start(m)
		for range 7 {
			time.Sleep(time.Hour)
			if err := n.m.Renew(t.Context(), "example.com"); err == nil {
				t.Fatal("Renew has a certificate, but the CA refuses it")
			}
		}
		refusing.Store(false)
		if err := n.m.Renew(t.Context(), "example.com"); err != nil {
			t.Errorf("Renew: %v", err)
		}
		n.stopped()
	})
}
