package md_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

func TestRunOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.manager()
		stop := w.run(m)
		synctest.Wait()
		if err := m.Run(t.Context()); !errors.Is(err, md.ErrRunning) {
			t.Errorf("a second Run: %v, want ErrRunning", err)
		}
		stop()
		w.run(m)() // again, once the first has returned
	})
}

// What is there is served after a restart, and not ordered again.
func TestLoadServesWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.order(named("example.com"))
		w.ca.SetDown(true)
		m := w.manager(named("example.com"))
		for range 2 {
			if err := m.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.serial(m, "example.com")
		if err := m.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v, want nil without Run", err)
		}
		stop := w.run(m)
		time.Sleep(24 * time.Hour)
		stop()
		w.checkOrders(1)
	})
}

// failing is a Store that fails while it is told to.
type failing struct {
	store.Store
	err error
}

func (f *failing) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	if f.err != nil {
		return nil, store.None, f.err
	}
	return f.Store.Get(ctx, key)
}

// What could not be read is read by the next call, of Load or of Update.
func TestStoreThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := named("a.example"), named("b.example")
		w.order(a, b)
		f := &failing{Store: w.store, err: errors.New("the disk is on fire")}
		w.store = f
		m := w.manager(a)
		if err := m.Load(t.Context()); !errors.Is(err, f.err) {
			t.Errorf("Load: %v, want the Store's error", err)
		}
		if err := m.Update(t.Context(), []md.Domain{a, b}); !errors.Is(err, f.err) {
			t.Errorf("Update: %v, want the Store's error", err)
		}
		if _, err := m.GetCertificate(hello("b.example")); err != nil {
			t.Errorf("GetCertificate: %v, want the fallback", err)
		}
		f.err = nil
		if err := m.Update(t.Context(), []md.Domain{a, b}); err != nil {
			t.Errorf("the same Update again: %v, want nil", err)
		}
		w.ca.SetDown(true)
		if err := m.Ready(t.Context()); err != nil {
			t.Errorf("Ready: %v, want nil", err)
		}
		w.serial(m, "a.example")
		w.serial(m, "b.example")
	})
}

// checkOrders checks how many orders the CA has got.
func (w *world) checkOrders(want int) {
	w.t.Helper()
	if got := len(w.ca.Orders()); got != want {
		w.t.Errorf("the CA has got %d orders, want %d", got, want)
	}
}

func TestUpdate(t *testing.T) {
	a, b := named("a.example"), named("b.example", "www.b.example")
	update := func(w *world, m *md.Manager, domains ...md.Domain) {
		w.t.Helper()
		if err := m.Update(w.t.Context(), domains); err != nil {
			w.t.Fatalf("Update: %v", err)
		}
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, w *world, m *md.Manager)
	}{
		{"changes nothing if a Domain cannot work", func(t *testing.T, w *world, m *md.Manager) {
			before := w.serial(m, "a.example")
			err := m.Update(t.Context(), []md.Domain{named("c.example"), named("a b.example")})
			var e *md.ConfigError
			if !errors.As(err, &e) || e.Field != "Names" {
				t.Errorf("got %v, want a *ConfigError", err)
			}
			if after := w.serial(m, "a.example"); after != before {
				t.Errorf("the certificate is another")
			}
			if err := m.Ready(t.Context(), "c.example"); !errors.Is(err, md.ErrNotManaged) {
				t.Errorf("Ready for c.example: %v, want ErrNotManaged", err)
			}
		}},
		{"orders for what is added, and for nothing else", func(t *testing.T, w *world, m *md.Manager) {
			before := w.serial(m, "a.example")
			update(w, m, a, b, named("c.example"))
			w.ready(m, "c.example")
			w.serial(m, "c.example")
			if after := w.serial(m, "a.example"); after != before {
				t.Errorf("the certificate of what has not changed is another")
			}
			w.checkOrders(3)
		}},
		{"stops serving what is gone, and serves it when it comes back", func(t *testing.T, w *world, m *md.Manager) {
			before := w.serial(m, "b.example")
			update(w, m, a)
			if _, err := m.GetCertificate(hello("b.example")); !errors.Is(err, md.ErrNotManaged) {
				t.Errorf("GetCertificate: %v, want ErrNotManaged", err)
			}
			update(w, m, b, a)
			if after := w.serial(m, "b.example"); after != before {
				t.Errorf("the certificate is another")
			}
			time.Sleep(24 * time.Hour)
			w.checkOrders(2)
		}},
		{"moves a name to another Domain", func(t *testing.T, w *world, m *md.Manager) {
			update(w, m, named("a.example", "www.b.example"), named("b.example"))
			time.Sleep(time.Minute)
			w.serial(m, "www.b.example")
			w.serial(m, "b.example")
			checkNames(t, m, "a.example", "a.example", "www.b.example")
			checkNames(t, m, "b.example", "b.example")
		}},
		{"may leave no Domains", func(t *testing.T, w *world, m *md.Manager) {
			update(w, m)
			if err := m.Ready(t.Context()); err != nil {
				t.Errorf("Ready: %v, want nil", err)
			}
			for d := range m.Status() {
				t.Errorf("Status tells of %s", d.Name)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := w.reach(w.manager(a, b))
				stop := w.run(m)
				w.ready(m)
				synctest.Wait() // for the ends of the attempts
				test.do(t, w, m)
				stop()
			})
		})
	}
}

// checkNames checks which names a Domain is said to have.
func checkNames(t *testing.T, m *md.Manager, domain string, want ...string) {
	t.Helper()
	for d := range m.Status() {
		if d.Name == domain && slices.Equal(d.Names, want) {
			return
		}
	}
	t.Errorf("the status has no Domain %s with the names %v", domain, want)
}

func TestRenew(t *testing.T) {
	for _, running := range []bool{false, true} {
		for _, name := range []string{"bücher.example", "XN--BCHER-KVA.example.", "Shop", "www.example.com"} {
			t.Run(fmt.Sprintf("finds the Domain by %s, with Run %t", name, running), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					shop := md.Domain{Name: "Shop", Names: []string{"bücher.example", "www.example.com"}}
					w.order(shop)
					time.Sleep(24 * time.Hour) // it has been some time
					m := w.reach(w.manager(shop))
					if running {
						w.run(m)
					}
					if err := m.Renew(t.Context(), name); err != nil {
						t.Fatal(err)
					}
					issued := w.ca.Certificates()
					if len(issued) != 2 {
						t.Fatalf("the CA has issued %d certificates, want 2", len(issued))
					}
					if got, want := w.serial(m, "www.example.com"), issued[1].Leaf.SerialNumber.Text(16); got != want {
						t.Errorf("certificate %s is served, want %s", got, want)
					}
				})
			})
		}
	}
}

func TestRenewFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		renew string
		set   func(w *world, m *md.Manager)
		check func(err error) bool
	}{
		{"for a name that is not managed", "example.org", func(*world, *md.Manager) {},
			func(err error) bool { return errors.Is(err, md.ErrNotManaged) }},
		{"with the CA's problem", "example.com",
			func(w *world, _ *md.Manager) {
				w.ca.Policy = func(name string) error { return errors.New("not for " + name) }
			},
			func(err error) bool {
				var p *md.Problem
				return errors.As(err, &p) && p.Kind() == "rejectedIdentifier" && strings.Contains(p.Detail, "not for example.com")
			}},
		{"with the Notifier's veto", "example.com",
			func(_ *world, m *md.Manager) {
				m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
					if e.Kind == status.Renewing {
						return fmt.Errorf("not today: %w", md.ErrVeto)
					}
					return nil
				})
			},
			func(err error) bool { return errors.Is(err, md.ErrVeto) && strings.Contains(err.Error(), "not today") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := w.manager(named("example.com"))
				test.set(w, m)
				w.reach(m)
				if err := m.Renew(t.Context(), test.renew); !test.check(err) {
					t.Errorf("got %v", err)
				}
				if got := len(w.ca.Certificates()); got != 0 {
					t.Errorf("the CA has issued %d certificates, want none", got)
				}
			})
		})
	}
}

func TestReady(t *testing.T) {
	within := func(t *testing.T, d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	for _, test := range []struct {
		name     string
		ca       func(ca *acmetest.CA) // sets it up; may be nil
		unagreed bool                  // to terms of service
		do       func(t *testing.T, w *world, m *md.Manager)
	}{
		{"says at once that a name is unknown", nil, false, func(t *testing.T, _ *world, m *md.Manager) {
			err := m.Ready(t.Context(), "example.com", "example.org")
			if !errors.Is(err, md.ErrNotManaged) || !strings.Contains(err.Error(), "example.org") {
				t.Errorf("got %v, want ErrNotManaged about example.org", err)
			}
		}},
		{"waits for one name, given in any form", nil, false, func(t *testing.T, w *world, m *md.Manager) {
			for _, name := range []string{"Shop", "BÜCHER.example", "xn--bcher-kva.example."} {
				w.ready(m, name)
			}
			w.serial(m, "xn--bcher-kva.example")
		}},
		{"gives up when ctx ends", func(ca *acmetest.CA) { ca.SetDown(true) }, false, func(t *testing.T, _ *world, m *md.Manager) {
			err := m.Ready(within(t, time.Hour))
			if !errors.Is(err, md.ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want ErrNotReady and the context's error", err)
			}
		}},
		{"says which terms have to be accepted",
			func(ca *acmetest.CA) { ca.TermsOfService = "https://acme.test/terms-of-service" }, true,
			func(t *testing.T, w *world, m *md.Manager) {
				err := m.Ready(within(t, time.Minute))
				if !errors.Is(err, md.ErrNotReady) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want ErrNotReady at once", err)
				}
				if !strings.Contains(fmt.Sprint(err), w.ca.TermsOfService) {
					t.Errorf("got %v, want the terms' URL in it", err)
				}
				if got := len(w.ca.Accounts()); got != 0 {
					t.Errorf("the CA has %d accounts, want none", got)
				}
			}},
		{"outlasts an hour without the CA",
			func(ca *acmetest.CA) {
				ca.SetDown(true)
				time.AfterFunc(time.Hour, func() { ca.SetDown(false) })
			}, false,
			func(t *testing.T, w *world, m *md.Manager) {
				if err := m.Ready(within(t, 24*time.Hour)); err != nil {
					t.Errorf("got %v, want nil", err)
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if test.ca != nil {
					test.ca(w.ca)
				}
				m := w.manager(named("example.com"), md.Domain{Name: "Shop", Names: []string{"bücher.example"}})
				m.AcceptTerms = !test.unagreed
				stop := w.run(w.reach(m))
				test.do(t, w, m)
				stop()
			})
		})
	}
}

// With a Default and Domains of their own mind, each order goes where it is
// meant to.
func TestDomainsAtTwoCAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := &acmetest.CA{BaseURL: "https://other.test"}
		t.Cleanup(other.Close)
		elsewhere := named("b.example")
		elsewhere.CAs = []md.CA{{URL: other.DirectoryURL()}}
		m := w.manager(named("a.example"), elsewhere)
		ours, theirs := w.ca.Client().Transport, other.Client().Transport
		m.HTTPClient = &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "other.test" {
				return theirs.RoundTrip(r)
			}
			return ours.RoundTrip(r)
		})}
		w.reach(m)
		other.HTTP, other.TLS = w.ca.HTTP, w.ca.TLS
		stop := w.run(m)
		w.ready(m)
		stop()
		for _, test := range []struct {
			ca   *acmetest.CA
			want string
		}{{w.ca, "a.example"}, {other, "b.example"}} {
			if issued := test.ca.Certificates(); len(issued) != 1 || issued[0].Names[0] != test.want {
				t.Errorf("%s has issued %v, want one certificate for %s", test.ca.DirectoryURL(), issued, test.want)
			}
		}
	})
}
