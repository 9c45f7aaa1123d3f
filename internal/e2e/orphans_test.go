package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// Where others keep a thousand Sets in the same Store, a start with a name that
// has no certificate yet does not wait for one of them after the other.
func TestOthersSetsDoNotHoldUpTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		putSets(t, w.store, 1000)
		m := w.manager(md.Domain{Names: []string{"new.example"}})
		m.Store = &storetest.Faulty{Store: w.store, Fault: func(storetest.Op) storetest.Fault {
			time.Sleep(20 * time.Millisecond) // it is a database somewhere else
			return storetest.FaultNone
		}}
		begin := time.Now()
		if err := m.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got > 5*time.Second {
			t.Errorf("Load took %v, want less than 5s", got)
		}
	})
}

// putSets puts so many Sets into a Store as if a Manager had ordered them.
func putSets(t *testing.T, s store.Store, n int) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	records := record.Records{Store: s}
	for i := range n {
		name := fmt.Sprintf("d%d.example.com", i)
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), DNSNames: []string{name},
			NotBefore: time.Now(), NotAfter: time.Now().Add(90 * day),
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		set := &record.Set{Credentials: []record.Credential{{Meta: record.Meta{KeyType: "P-256"}, Key: pkcs8, Chain: [][]byte{der}}}}
		if _, err := records.Adopt(context.Background(), name, set, store.None); err != nil {
			t.Fatal(err)
		}
	}
}
