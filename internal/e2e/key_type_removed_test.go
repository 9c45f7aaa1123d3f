package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
)

// hasCredential reports whether the Store has a credential.
func (w *world) hasCredential(is func(record.Credential) bool) bool {
	w.t.Helper()
	for _, key := range w.keys("") {
		value, _, err := w.store.Get(w.t.Context(), key)
		if err != nil {
			w.t.Fatal(err)
		}
		set, err := record.DecodeSet(value)
		if err != nil {
			continue
		}
		for _, c := range set.Credentials {
			if is(c) {
				return true
			}
		}
	}
	return false
}

// A key type is removed while its certificate waits for that of the other one.
func TestWhatWasIssuedForARemovedKeyTypeIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var refused atomic.Bool
		d := withoutKeys(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P384, md.P256}}, md.P256, &refused)
		n := w.startIn(hourly(), w.manager(d))
		defer n.stopped()
		n.ready(time.Minute)
		refused.Store(true)
		time.Sleep(61 * day)
		d.KeyTypes = []md.KeyType{md.P256}
		refused.Store(false)
		if err := n.m.Update(t.Context(), []md.Domain{d}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		certs := w.ca.Certificates()
		if len(certs) != 4 {
			t.Errorf("%d certificates, want 4", len(certs))
		}
		for i, cert := range certs {
			if !w.hasCredential(func(c record.Credential) bool { return c.Complete() && bytes.Equal(c.Chain[0], cert.Leaf.Raw) }) {
				t.Errorf("certificate %d is lost", i)
			}
		}
	})
}

// A key type is exchanged for another while the CA has an order for the former
// one that is finalized, and does not say what has become of it.
func TestTheKeyOfAFinalizedOrderIsKeptWhenItsTypeIsRemoved(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var mute atomic.Bool
		w.ca.Fault = func(op acmetest.Op) acmetest.Fault {
			if mute.Load() && (op.Kind == "finalize" || op.Kind == "certificate") {
				return acmetest.FaultAfter
			}
			return acmetest.FaultNone
		}
		d := md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P384}}
		n := w.startIn(hourly(), w.manager(d))
		defer n.stopped()
		n.ready(time.Minute)
		mute.Store(true)
		time.Sleep(62 * day)
		certs := w.ca.Certificates()
		if len(certs) != 2 {
			t.Fatalf("%d certificates, want 2", len(certs))
		}
		mute.Store(false)
		d.KeyTypes = []md.KeyType{md.P256}
		if err := n.m.Update(t.Context(), []md.Domain{d}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		ours := func(c record.Credential) bool {
			key, err := c.Signer()
			return err == nil && certs[1].Leaf.PublicKey.(*ecdsa.PublicKey).Equal(key.Public())
		}
		if !w.hasCredential(ours) {
			t.Error("the key of a certificate that was issued is lost")
		}
	})
}
