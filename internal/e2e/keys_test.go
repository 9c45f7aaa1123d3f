package e2e_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store/storetest"
)

// stored returns the value of a key of the Store.
func (w *world) stored(key string) string {
	w.t.Helper()
	value, _, err := w.store.Get(context.Background(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(value)
}

func TestKeyStaysInItsKMS(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := &kms{latency: 200 * time.Millisecond}
		domain := k.use(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P384, md.P256}})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		first := w.served("example.com")
		value := w.stored("domains/example.com")
		if strings.Contains(value, "PRIVATE KEY") || strings.Count(value, "-----BEGIN MD KEY REFERENCE-----") != 2 {
			t.Errorf("the Store has\n%s\nwant two references and no key", value)
		}
		n.stopped()

		w.ca.SetDown(true)
		before := fmt.Sprint(w.ca.Requests())
		m := w.manager(domain)
		if err := m.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		n = w.start(m)
		if got := w.served("example.com"); got != first {
			t.Errorf("after a restart %s is served, want %s", got, first)
		}
		time.Sleep(day)
		if made, opened, _ := k.counts(); made != 2 || opened != 2 {
			t.Errorf("%d keys were made and %d opened, want 2 and 2", made, opened)
		}
		if r := n.report("example.com"); r.State != status.Good || r.Reason != "" {
			t.Errorf("the status is %v because of %q, want good", r.State, r.Reason)
		}
		n.stopped()
		if got := fmt.Sprint(w.ca.Requests()); got != before {
			t.Errorf("the CA was asked: %s, before the restart it was %s", got, before)
		}
	})
}

func TestKeyOnAnotherNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := &kms{latency: 50 * time.Millisecond}
		domain := k.use(md.Domain{Names: []string{"example.com"}})
		one := w.start(w.manager(domain))
		one.ready(time.Minute)
		m := w.manager(domain)
		m.Domains[0].OpenKey = func(ctx context.Context, provider, id string) (crypto.Signer, error) {
			if id == "key/2" && time.Since(w.ca.Certificates()[1].Leaf.NotBefore) < 3*time.Hour {
				return nil, errors.New("not replicated to this region yet")
			}
			return k.OpenKey(ctx, provider, id)
		}
		two := w.start(m) // handshakes go to it
		first := w.served("example.com")
		if err := one.m.Renew(t.Context(), "example.com"); err == nil {
			t.Fatal("renewed within the rest between two certificates")
		}
		time.Sleep(2 * day)
		if err := one.m.Renew(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := w.served("example.com"); got != first {
			t.Errorf("the second node serves %s, want %s on, as long as it has no other key", got, first)
		}
		if r := two.report("example.com"); !strings.Contains(r.Reason, "not replicated") || r.State != status.Good {
			t.Errorf("the status is %v because of %q, want good, and that the key cannot be opened", r.State, r.Reason)
		}
		time.Sleep(2*time.Hour + 10*time.Minute)
		if got := w.served("example.com"); got == first {
			t.Error("the second node serves the former certificate, though it can have the key")
		}
		synctest.Wait()
		if r := two.report("example.com"); r.Reason != "" {
			t.Errorf("the status says %q", r.Reason)
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("%d certificates were issued, want 2", got)
		}
		one.stopped()
		two.stopped()
	})
}

// Whatever keeps a key from being opened at the start, nothing is ordered in
// the place of its certificate, and it is served when the key is there again.
func TestKeyOutOfReachAtStart(t *testing.T) {
	for _, test := range []struct {
		name        string
		break_, fix func(k *kms)
		want        string
	}{
		{"because the KMS is away", func(k *kms) { k.away = errors.New("connection refused") }, func(k *kms) { k.away = nil }, "connection refused"},
		{"because it is slow", func(k *kms) { k.latency = time.Minute }, func(k *kms) { k.latency = 0 }, "not there within 10s"},
		{"because it panics", func(k *kms) { k.breaks = "panics" }, func(k *kms) { k.breaks = "" }, "library is broken"},
		{"because it has another key", func(k *kms) { k.breaks = "lies" }, func(k *kms) { k.breaks = "" }, "another key, of type P-256"},
		{"because it hangs", func(k *kms) { k.hangs = make(chan struct{}) }, func(k *kms) { close(k.hangs); k.hangs = nil }, "does not return"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				k := new(kms)
				domain := k.use(md.Domain{Names: []string{"example.com"}})
				other := md.Domain{Names: []string{"example.net"}}
				n := w.start(w.manager(domain, other))
				n.ready(time.Minute)
				first, second := w.served("example.com"), w.served("example.net")
				time.Sleep(day)
				n.stopped()

				k.set(test.break_)
				var told []md.Event
				m := w.manager(domain, other)
				m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
					k.mu.Lock()
					defer k.mu.Unlock()
					told = append(told, e)
					return nil
				})
				counted := &storetest.Faulty{Store: w.store}
				m.Store = counted
				begin := time.Now()
				if err := m.Load(t.Context()); err != nil {
					t.Errorf("Load: %v, want that all else goes on", err)
				}
				if took := time.Since(begin); took > 30*time.Second {
					t.Errorf("Load took %v", took)
				}
				n = w.start(m)
				if got := w.served("example.net"); got != second {
					t.Errorf("the other Domain is served with %s, want %s", got, second)
				}
				time.Sleep(day)
				if most := 5000; counted.Count() > most {
					t.Errorf("the Store was asked %d times in a day, want %d at most", counted.Count(), most)
				}
				if _, err := w.serial("example.com"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
					t.Errorf("handshake without key: %v, want the fallback, which is not trusted", err)
				}
				r := n.report("example.com")
				if r.State != status.Pending || !strings.Contains(r.Reason, test.want) || !strings.Contains(r.Reason, `kms key "key/1"`) {
					t.Errorf("the status is %v because of %q, want pending, %q and the key", r.State, r.Reason, test.want)
				}
				k.set(test.fix)
				time.Sleep(8 * time.Minute)
				if got := w.served("example.com"); got != first {
					t.Errorf("%s is served, want %s", got, first)
				}
				synctest.Wait()
				if r := n.report("example.com"); r.State != status.Good || r.Reason != "" {
					t.Errorf("the status is %v because of %q, want good", r.State, r.Reason)
				}
				n.stopped()
				errored := 0
				for _, e := range told {
					if e.Kind == status.Errored && e.Domain == "example.com" && strings.Contains(fmt.Sprint(e.Err), test.want) {
						errored++
					}
				}
				if errored < 12 || errored > 30 {
					t.Errorf("it was told %d times in a day that there is no key", errored)
				}
				w.nothingLost(2)
			})
		})
	}
}

// nothingLost checks that so many certificates were issued, and that nothing
// went to the archive.
func (w *world) nothingLost(certs int) {
	w.t.Helper()
	if got := len(w.ca.Certificates()); got != certs {
		w.t.Errorf("%d certificates were issued, want %d", got, certs)
	}
	if got := w.keys("archive/"); len(got) > 0 {
		w.t.Errorf("the archive has %v, want nothing", got)
	}
}

func TestKeyThatIsGone(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(k *kms, d *md.Domain)
		blocked string // in the Store then
	}{
		{"another is made", func(k *kms, _ *md.Domain) { k.keys = nil }, "MD KEY REFERENCE"},
		{"one is generated where nobody opens keys any more", func(_ *kms, d *md.Domain) { d.NewKey, d.OpenKey = nil, nil }, "PRIVATE KEY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				k := new(kms)
				domain := k.use(md.Domain{Names: []string{"example.com"}})
				n := w.start(w.manager(domain))
				n.ready(time.Minute)
				first := w.served("example.com")
				time.Sleep(day)
				n.stopped()
				k.set(func(k *kms) { test.change(k, &domain) })
				n = w.start(w.manager(domain))
				n.ready(time.Minute)
				if got := w.served("example.com"); got == first {
					t.Errorf("%s is served, though its key is gone", got)
				}
				time.Sleep(2 * day)
				n.stopped()
				if got := len(w.ca.Certificates()); got != 2 {
					t.Errorf("%d certificates were issued, want 2", got)
				}
				if got := w.stored("domains/example.com"); !strings.Contains(got, "BEGIN "+test.blocked) {
					t.Errorf("the Store has\n%s\nwant a block %s", got, test.blocked)
				}
				if got := w.keys("archive/"); len(got) != 1 || strings.Contains(got[0], "broken") {
					t.Errorf("the archive has %v, want the former Set", got)
				}
			})
		})
	}
}

// A Domain that goes over to generated keys needs OpenKey for those in use.
func TestKeysAreGeneratedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		first := w.served("example.com")
		n.stopped()
		domain.NewKey = nil
		n = w.start(w.manager(domain))
		if got := w.served("example.com"); got != first {
			t.Errorf("%s is served, want %s", got, first)
		}
		time.Sleep(61 * day)
		n.stopped()
		if got := w.stored("domains/example.com"); !strings.Contains(got, "BEGIN PRIVATE KEY") || len(w.ca.Certificates()) != 2 {
			t.Errorf("after %d certificates, the Store has\n%s", len(w.ca.Certificates()), got)
		}
	})
}

// What waits in staging is not dropped because its key is out of reach.
func TestKeyOutOfReachAtActivation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}, HoldActivation: md.On})
		n := w.start(w.manager(domain))
		time.Sleep(time.Hour)
		n.stopped()
		k.set(func(k *kms) { k.away = errors.New("connection refused") })
		n = w.start(w.manager(domain))
		if err := n.m.Activate(t.Context(), "example.com"); err == nil || !strings.Contains(err.Error(), `the kms key "key/1" cannot be opened: connection refused`) {
			t.Errorf("Activate: %v, want that the key cannot be opened", err)
		}
		if staged, active := w.keys("staging/"), w.keys("domains/"); len(staged) != 1 || len(active) > 0 {
			t.Errorf("staged: %v, active: %v; want it to stay where it was", staged, active)
		}
		time.Sleep(day)
		k.set(func(k *kms) { k.away = nil })
		if err := n.m.Activate(t.Context(), "example.com"); err != nil {
			t.Error(err)
		}
		w.served("example.com")
		n.stopped()
		w.nothingLost(1)
	})
}
