package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

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
		var orders atomic.Int64
		var broken atomic.Bool
		broken.Store(true)
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if op.Kind == "newOrder" {
				if orders.Add(1); broken.Load() {
					return acmetest.Fault500
				}
			}
			return acmetest.FaultNone
		}
		n := w.start(w.manager(k.use(md.Domain{Names: []string{"example.com"}})))
		time.Sleep(3 * time.Hour)
		if n := orders.Load(); n > 0 {
			t.Errorf("%d orders were made without a key", n)
		}
		if r := n.report("example.com"); r.Renewal == nil || !strings.Contains(r.Renewal.LastError, "NewKey for a P-256 key: connection refused") {
			t.Errorf("the status says %+v", r.Renewal)
		}
		k.set(func(k *kms) { k.away = nil })
		time.Sleep(day)
		if made, _, _ := k.counts(); made != 1 || orders.Load() < 3 {
			t.Errorf("%d keys were made for %d orders that failed, want 1", made, orders.Load())
		}
		w.mu.Lock()
		w.firewall = "443"
		w.mu.Unlock()
		broken.Store(false)
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
