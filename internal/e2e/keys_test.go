package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
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

func TestKeyAtRenewal(t *testing.T) {
	for _, test := range []struct {
		name  string
		reuse md.Switch
		made  int
	}{{"is another", md.Off, 2}, {"is the same with ReuseKey", md.On, 1}} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				k := &kms{latency: 50 * time.Millisecond}
				domain := k.use(md.Domain{Names: []string{"example.com"}, ReuseKey: test.reuse})
				n := w.start(w.manager(domain))
				n.ready(time.Minute)
				n.stopped()
				n = w.start(w.manager(domain)) // which has to open the key
				time.Sleep(61 * day)
				n.stopped()
				certs := w.ca.Certificates()
				made, opened, _ := k.counts()
				if len(certs) != 2 || made != test.made || opened != 1 {
					t.Fatalf("%d certificates, %d keys made, %d opened; want 2, %d, 1", len(certs), made, opened, test.made)
				}
				same := certs[0].Leaf.PublicKey.(*ecdsa.PublicKey).Equal(certs[1].Leaf.PublicKey)
				if same != (test.reuse == md.On) {
					t.Errorf("the key is the same: %v", same)
				}
			})
		})
	}
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

func TestKeyForTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		made := 0
		domain := md.Domain{
			Names: []string{"example.com"},
			NewKey: func(context.Context, md.KeyType) (crypto.Signer, error) {
				made++
				return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			},
			OpenKey: func(context.Context, string, string) (crypto.Signer, error) {
				t.Error("a key is opened that stands in the Store")
				return nil, fs.ErrNotExist
			},
		}
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		n.stopped()
		n = w.start(w.manager(domain))
		w.served("example.com")
		n.stopped()
		if got := w.stored("domains/example.com"); !strings.Contains(got, "BEGIN PRIVATE KEY") || made != 1 {
			t.Errorf("after %d keys the Store has\n%s", made, got)
		}
	})
}

// While no key can be made, nothing is ordered; and failures of the CA leave
// no keys behind that nobody uses.
func TestKeysAreNotWasted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := &kms{away: errors.New("connection refused")}
		orders := 0
		broken := true
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" || op.Kind == "new-order" {
				if orders++; broken {
					return acmetest.Fault500
				}
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(k.use(md.Domain{Names: []string{"example.com"}})))
		time.Sleep(3 * time.Hour)
		if orders > 0 {
			t.Errorf("%d orders were made without a key", orders)
		}
		if r := n.report("example.com"); r.Renewal == nil || !strings.Contains(r.Renewal.LastError, "NewKey for a P-256 key: connection refused") {
			t.Errorf("the status says %+v", r.Renewal)
		}
		k.set(func(k *kms) { k.away = nil })
		time.Sleep(day)
		if made, _, _ := k.counts(); made != 1 || orders < 3 {
			t.Errorf("%d keys were made for %d orders that failed, want 1", made, orders)
		}
		w.mu.Lock()
		w.firewall = "443"
		w.mu.Unlock()
		broken = false
		time.Sleep(2 * day)
		if made, _, _ := k.counts(); made != 1 {
			t.Errorf("%d keys were made for names that cannot be validated, want 1", made)
		}
		w.mu.Lock()
		w.firewall = ""
		w.mu.Unlock()
		n.ready(7 * day)
		n.stopped()
		if made, opened, _ := k.counts(); made != 1 || opened != 0 {
			t.Errorf("%d keys were made, %d opened, want 1 and 0", made, opened)
		}
	})
}

func TestNewKeyReturnsWhatCannotBeUsed(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	type wrapped struct{ crypto.Signer }
	named := func(provider, id string) crypto.Signer { return oddKey{p256, provider, id} }
	for _, test := range []struct {
		name string
		key  func() (crypto.Signer, error)
		want string
	}{
		{"nothing", func() (crypto.Signer, error) { return nil, nil }, "neither a key nor an error"},
		{"an error", func() (crypto.Signer, error) { return nil, errors.New("quota exceeded") }, "NewKey for a P-384 key: quota exceeded"},
		{"a key of another type", func() (crypto.Signer, error) { return p256, nil }, "a P-384 key was asked for, and it returned one of type P-256"},
		{"a key of an unknown type", func() (crypto.Signer, error) { return wrapped{strangeKey{p256}}, nil }, "its public key is a ecdsa.PublicKey"},
		{"a key without reference", func() (crypto.Signer, error) { return wrapped{p384(t)}, nil }, "nor has it a method KeyReference"},
		{"a key without provider", func() (crypto.Signer, error) { return oddKey{p384(t), "", "x"}, nil }, "the provider of the key is empty"},
		{"a key without ID", func() (crypto.Signer, error) { return oddKey{p384(t), "kms", ""}, nil }, "the ID of the key is empty"},
		{"a very long ID", func() (crypto.Signer, error) { return oddKey{p384(t), "kms", strings.Repeat("x", 2049)}, nil }, "has 2049 bytes, more than 2048"},
		{"an ID of two lines", func() (crypto.Signer, error) { return oddKey{p384(t), "kms", "a\nb"}, nil }, `cannot be printed: "a\nb"`},
		{"the reference of another key", func() (crypto.Signer, error) { return named("kms", "x"), nil }, "of type P-256"},
		{"nothing but a panic", func() (crypto.Signer, error) { panic("boom") }, "panic: boom"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.start(w.manager(md.Domain{
					Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P384},
					NewKey:  func(context.Context, md.KeyType) (crypto.Signer, error) { return test.key() },
					OpenKey: func(context.Context, string, string) (crypto.Signer, error) { return nil, fs.ErrNotExist },
				}))
				time.Sleep(time.Hour)
				r := n.report("example.com")
				if r.Renewal == nil || !strings.Contains(r.Renewal.LastError, test.want) {
					t.Errorf("the status says %+v, want %q", r.Renewal, test.want)
				}
				n.stopped()
				if got := len(w.keys("staging/")) + len(w.ca.Certificates()); got > 0 {
					t.Error("something was ordered")
				}
			})
		})
	}
}

func p384(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// oddKey has any reference.
type oddKey struct {
	crypto.Signer
	provider, id string
}

func (k oddKey) KeyReference() (provider, id string) { return k.provider, k.id }

// strangeKey returns its public key by value, which crypto/tls does not know.
type strangeKey struct{ *ecdsa.PrivateKey }

func (k strangeKey) Public() crypto.PublicKey { return k.PublicKey }

// A KMS that hangs while it makes or uses a key costs an attempt, and keeps
// neither other Domains nor the end of Run waiting.
func TestKMSHangsInAnAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := &kms{stuck: make(chan struct{})}
		n := w.start(w.manager(k.use(md.Domain{Names: []string{"example.com"}}), md.Domain{Names: []string{"example.net"}}))
		time.Sleep(time.Hour)
		w.served("example.net")
		r := n.report("example.com")
		if r.Renewal == nil || !strings.Contains(r.Renewal.LastError, "signing for example.com with the kms key") {
			t.Errorf("the status says %+v, want that the key does not sign", r.Renewal)
		}
		w.unlist(n)
		n.stop()
		if err := <-n.done; err == nil || !strings.Contains(err.Error(), "signing for example.com") {
			t.Errorf("Serve returned %v, want what it did not wait for", err)
		}
		k.set(func(k *kms) { close(k.stuck); k.stuck = nil })
		n = w.start(w.manager(k.use(md.Domain{Names: []string{"example.com"}})))
		n.ready(day)
		n.stopped()
		if made, _, _ := k.counts(); made != 1 || len(w.ca.Certificates()) != 2 {
			t.Errorf("%d keys and %d certificates, want 1 and 2", made, len(w.ca.Certificates()))
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

func TestRevocationWithAKeyOfTheKMS(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}, ReuseKey: md.On})
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		time.Sleep(day)
		n.stopped()
		for _, key := range w.keys("accounts/") { // then only the certificate's key can revoke it
			if err := w.store.Delete(t.Context(), key, store.Any); err != nil {
				t.Fatal(err)
			}
		}
		n = w.start(w.manager(domain))
		if err := n.m.Revoke(t.Context(), "example.com", md.KeyCompromise); err != nil {
			t.Error(err)
		}
		n.stopped()
		certs := w.ca.Certificates()
		if len(certs) != 2 || certs[0].Revoked.IsZero() || !certs[1].Revoked.IsZero() {
			t.Errorf("the certificates are %+v, want the first of two revoked", certs)
		}
		if made, _, _ := k.counts(); made != 2 {
			t.Errorf("%d keys were made, want 2: the first is compromised", made)
		}
	})
}

// A crash behind the order goes on with its key, which is opened for that.
func TestOrderGoesOnWithItsKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := new(kms)
		domain := k.use(md.Domain{Names: []string{"example.com"}})
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "finalize" {
				return acmetest.Fault500
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(domain))
		time.Sleep(time.Minute)
		n.stopped()
		w.ca.Fault = nil
		k.set(func(k *kms) { k.away = errors.New("connection refused") })
		n = w.start(w.manager(domain))
		time.Sleep(time.Hour)
		if r := n.report("example.com"); r.Renewal == nil || !strings.Contains(r.Renewal.LastError, "cannot be opened: connection refused") {
			t.Errorf("the status says %+v", r.Renewal)
		}
		set, _, err := (&record.Records{Store: w.store}).Staged(t.Context(), "example.com")
		if err != nil || set.Credentials[0].Reference == nil {
			t.Errorf("in staging is %v, %v, want the order with its reference", set, err)
		}
		k.set(func(k *kms) { k.away = nil })
		n.ready(day)
		n.stopped()
		if made, opened, _ := k.counts(); made != 1 || opened == 0 {
			t.Errorf("%d keys made, %d opened, want one, which was opened", made, opened)
		}
		w.nothingLost(1)
	})
}
