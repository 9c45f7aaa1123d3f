package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestRestartServesAtOnceAndOrdersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		domain := md.Domain{Names: []string{"example.com"}}
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		first := w.served("example.com")
		n.stopped()

		w.ca.SetDown(true)
		before := w.ca.Requests()
		n = w.start(w.manager(domain))
		if got := w.served("example.com"); got != first {
			t.Errorf("after the restart %s is served, want %s", got, first)
		}
		time.Sleep(day)
		n.stopped()
		if got, want := fmt.Sprint(w.ca.Requests()), fmt.Sprint(before); got != want {
			t.Errorf("the CA was asked: %s, before the restart it was %s", got, want)
		}
	})
}

func TestRenewalInTheWindow(t *testing.T) {
	tests := []struct {
		life   time.Duration
		window md.Window
		after  time.Duration // from notBefore
	}{
		{life: 90 * day, after: 60 * day},
		{life: 45 * day, after: 30 * day},
		{life: 160 * time.Hour, after: 80 * time.Hour},
		{life: 90 * day, window: md.Window{Percent: 50}, after: 45 * day},
		{life: 90 * day, window: md.Window{Length: 10 * day}, after: 80 * day},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.life, " ", test.window), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.ca.Lifetime = test.life
				n := w.start(w.manager(md.Domain{Names: []string{"example.com"}, RenewWindow: test.window}))
				n.ready(time.Minute)
				first := w.served("example.com")
				leaf := w.ca.Certificates()[0].Leaf
				due := leaf.NotBefore.Add(test.after)
				time.Sleep(time.Until(due) - 2*time.Second)
				if got := w.served("example.com"); got != first {
					t.Errorf("it was renewed before its time")
				}
				time.Sleep(time.Minute)
				if got := w.served("example.com"); got == first {
					t.Errorf("it was not renewed at %v", due)
				}
				n.stopped()
				certs := w.ca.Certificates()
				if len(certs) != 2 {
					t.Fatalf("%d certificates were issued, want 2", len(certs))
				}
				if fmt.Sprint(certs[0].Leaf.PublicKey) == fmt.Sprint(certs[1].Leaf.PublicKey) {
					t.Errorf("the key was not changed at renewal")
				}
				if got := w.keys("archive/"); len(got) != 1 {
					t.Errorf("the archive has %v, want the one former Set", got)
				}
			})
		})
	}
}

func TestCAIsAwayAtFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.SetDown(true)
		domain := md.Domain{Names: []string{"example.com"}}
		n := w.start(w.manager(domain))
		time.Sleep(time.Hour)
		if _, err := w.serial("example.com"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("handshake without certificate: got error %v, want that the fallback is not trusted", err)
		}
		r := n.report("example.com")
		if r.State != status.Pending || r.Renewal == nil || r.Renewal.Attempts < 3 || r.Renewal.LastError == "" {
			t.Errorf("the status does not tell of the failures: %+v", r)
		}
		if most := 12; r.Renewal.Attempts > most {
			t.Errorf("%d attempts in the first hour, want at most %d", r.Renewal.Attempts, most)
		}
		next := r.Renewal.NextAttempt
		n.stopped()

		// The back-off is kept: a restart does not try again sooner.
		n = w.start(w.manager(domain))
		time.Sleep(time.Second)
		if got := n.report("example.com").Renewal; got == nil || !got.NextAttempt.Equal(next) || got.Running {
			t.Errorf("after a restart the next attempt is %+v, want at %v", got, next)
		}
		w.ca.SetDown(false)
		n.ready(2 * day)
		w.served("example.com")
		synctest.Wait()
		if r := n.report("example.com"); r.State != status.Good || r.Renewal.Attempts != 0 {
			t.Errorf("after success the status is %+v", r)
		}
		n.stopped()
	})
}

func TestUnfairCA(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.ca.Seed = seed
				w.ca.Faults = acmetest.Everything(0.02 * float64(seed%10))
				w.ca.AuthzReuse = 0.5
				names := []string{"example.com", "www.example.com", "münchen.example"}
				n := w.start(w.manager(md.Domain{Names: names}))
				n.ready(365 * day)
				w.served("example.com")
				n.stopped()
				if got := len(w.ca.Accounts()); got != 1 {
					t.Errorf("%d accounts, want 1", got)
				}
				right := 0
				for _, c := range w.ca.Certificates() {
					if c.Wrong == acmetest.NotWrong {
						right++
					}
				}
				if right != 1 {
					t.Errorf("%d right certificates were issued, want 1", right)
				}
			})
		})
	}
}

func TestASlowDomainDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if strings.HasPrefix(op.Object, "slow") {
				return acmetest.FaultHang
			}
			return acmetest.FaultNone
		}
		var domains []md.Domain
		var fast []string
		for i := range 20 {
			domains = append(domains, md.Domain{Names: []string{fmt.Sprintf("slow%d.example.com", i)}})
		}
		for i := range 40 {
			fast = append(fast, fmt.Sprintf("fast%d.example.com", i))
			domains = append(domains, md.Domain{Names: fast[i:]})
		}
		n := w.start(w.manager(domains...))
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.m.Ready(ctx, fast...); err != nil {
			t.Errorf("the fast Domains had to wait for the slow ones: %v", err)
		}
		n.stopped()
	})
}

func TestAnIssuedCertificateIsServedThoughTheStoreIsFull(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		full := on()
		m := w.manager(md.Domain{Names: []string{"example.com"}})
		m.Store = breaking(w.store, func(op storetest.Op) bool {
			return full.Load() && len(w.ca.Certificates()) > 0 && op.Kind == "put"
		})
		n := w.start(m)
		n.ready(time.Minute)
		serial := w.served("example.com")
		time.Sleep(3 * time.Hour)
		if got := w.served("example.com"); got != serial {
			t.Errorf("another certificate is served: the first was thrown away")
		}
		if got := w.keys("domains/"); len(got) > 0 {
			t.Fatalf("the full Store has %v", got)
		}
		full.Store(false)
		time.Sleep(2 * time.Hour)
		n.stopped()
		if got := len(w.ca.Certificates()); got != 1 {
			t.Errorf("%d certificates were issued, want 1", got)
		}
		n = w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		if got := w.served("example.com"); got != serial {
			t.Errorf("after a restart %s is served, want %s", got, serial)
		}
		n.stopped()
	})
}

func TestBrokenValuesAreKeptAsideAndReplaced(t *testing.T) {
	ctx := context.Background()
	for _, prefix := range []string{"domains/", "jobs/", "staging/", "accounts/"} {
		t.Run(prefix, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				domain := md.Domain{Names: []string{"example.com"}}
				n := w.start(w.manager(domain))
				n.ready(time.Minute)
				n.stopped()
				key := prefix + "example.com"
				switch prefix {
				case "accounts/":
					key = w.keys(prefix)[0]
				case "staging/":
					w.ca.Lifetime = 0
				}
				garbage := []byte("-----BEGIN MD CREDENTIAL-----\nhello\n")
				if _, err := w.store.Put(ctx, key, garbage, store.Any); err != nil {
					t.Fatal(err)
				}
				m := w.manager(domain)
				m.CheckInterval = time.Minute
				n = w.start(m)
				n.ready(time.Hour)
				time.Sleep(day)
				if err := n.m.Renew(ctx, "example.com"); err != nil {
					t.Errorf("Renew: %v", err)
				}
				w.served("example.com")
				n.stopped()
				value, _, err := w.store.Get(ctx, key)
				if prefix != "staging/" && (err != nil || string(value) == string(garbage)) {
					t.Errorf("%s was not replaced: %v", key, err)
				}
				if !w.logged("is broken") {
					t.Errorf("the log does not tell of the broken value")
				}
				kept := slices.ContainsFunc(w.keys("archive/"), func(k string) bool {
					v, _, _ := w.store.Get(ctx, k)
					return strings.Contains(k, "/broken-") && string(v) == string(garbage)
				})
				if !kept {
					t.Errorf("no copy was kept: the archive has %v", w.keys("archive/"))
				}
			})
		})
	}
}

func TestTwoNodesOrderOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		domain := md.Domain{Names: []string{"example.com", "www.example.com"}}
		a := w.start(w.manager(domain))
		b := w.start(w.manager(domain))
		a.ready(5 * time.Minute)
		b.ready(5 * time.Minute)
		time.Sleep(61 * day)
		for _, n := range []*node{b, a} { // b is the one that clients reach; then it stops
			w.served("example.com")
			if got := n.report("example.com").State; got != status.Good {
				t.Errorf("the state is %v, want good", got)
			}
			n.stopped()
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates were issued to two nodes in 61 days, want 2", got)
		}
		if got := len(w.ca.Accounts()); got != 1 {
			t.Errorf("%d accounts, want 1", got)
		}
	})
}

func TestChallengeTypeThatFailsGivesWayToAnother(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.firewall = "443"
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Hour)
		var good []string
		for _, v := range w.ca.Validations() {
			if v.Problem == "" {
				good = append(good, v.Type)
			}
		}
		if fmt.Sprint(good) != "[http-01]" {
			t.Errorf("validated by %v, want by http-01", good)
		}
		n.stopped()
	})
}

func TestVanishedAccountIsRegisteredAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		domain := md.Domain{Names: []string{"example.com"}}
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		time.Sleep(day)
		n.stopped()

		other := newWorld(t) // a CA that has forgotten everything
		other.store = w.store
		if w.ca.DirectoryURL() != other.ca.DirectoryURL() {
			t.Fatal("the CAs should have the same URL")
		}
		n = other.start(other.manager(domain))
		if err := n.m.Renew(context.Background(), "example.com"); err != nil {
			t.Errorf("Renew: %v", err)
		}
		if a, b := w.ca.Accounts()[0], other.ca.Accounts()[0]; a.Thumbprint != b.Thumbprint {
			t.Errorf("the account key was thrown away")
		}
		n.stopped()
	})
}

func TestRetryAfterIsObeyedAcrossARestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RetryAfter = 5 * time.Hour
		limited := on()
		w.ca.Fault = faultOn("newOrder", acmetest.Fault429, limited)
		domain := md.Domain{Names: []string{"example.com"}}
		n := w.start(w.manager(domain))
		time.Sleep(time.Hour)
		n.stopped()
		n = w.start(w.manager(domain))
		time.Sleep(3 * time.Hour)
		if got := w.ca.Requests()["newOrder"]; got != 1 {
			t.Errorf("%d orders in 4 hours after a 429 that says 5 hours, want 1", got)
		}
		if r := n.report("example.com").Renewal; r == nil || !strings.HasSuffix(r.LastProblem, ":rateLimited") {
			t.Errorf("the status does not show the limit: %+v", r)
		}
		limited.Store(false)
		w.change(func() { w.ca.RetryAfter = 0 })
		n.ready(3 * time.Hour)
		n.stopped()
	})
}

func TestOneKeyTypeMoreKeepsTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.start(w.manager(md.Domain{Names: []string{"example.com"}}))
		n.ready(time.Minute)
		first := w.served("example.com")
		err := n.m.Update(context.Background(), []md.Domain{
			{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.RSA2048}},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := w.served("example.com"); got != first {
			t.Errorf("clients with ECDSA are served %s, want the same as before, %s", got, first)
		}
		if got := len(n.report("example.com").Certificates); got != 2 {
			t.Errorf("%d certificates in use, want 2", got)
		}
		n.stopped()
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates were issued, want 2", got)
		}
		set, _, err := (&record.Records{Store: w.store}).Active(context.Background(), "example.com")
		if err != nil || len(set.Credentials) != 2 {
			t.Errorf("the active Set: %v, %v; want two credentials", set, err)
		}
		_, _, err = (&record.Records{Store: w.store}).Staged(context.Background(), "example.com")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("staging: got %v, want nothing there", err)
		}
	})
}
