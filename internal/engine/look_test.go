package engine

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// newSet returns a Set with a certificate for example.com that expires in a
// time, of 90 days, and its ID.
func newSet(t testing.TB, left time.Duration) (*record.Set, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.com"}, DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(left - 90*24*time.Hour), NotAfter: time.Now().Add(left), SubjectKeyId: []byte{1},
	}
	ca := &x509.Certificate{SubjectKeyId: []byte{2}, Subject: pkix.Name{CommonName: "CA"}}
	chain, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	set := &record.Set{Credentials: []record.Credential{{
		Meta: record.Meta{KeyType: "P-256", CA: "https://ca.test", When: leaf.NotBefore.UTC().Truncate(time.Second)},
		Key:  der, Chain: [][]byte{chain},
	}}}
	parsed, err := set.Credentials[0].Leaf()
	if err != nil {
		t.Fatal(err)
	}
	id, err := acmeclient.CertID(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return set, id
}

// roundTripper is a way to a CA.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Whatever stands in the Job, a Domain is looked at so often in an hour and no
// more: the look that a moment in the Job asks for clears it, or moves it.
func FuzzAJobDoesNotMakeItLookWithoutEnd(f *testing.F) {
	for _, job := range []string{
		`{}`, `{`, `null`,
		`{"errors":1,"next-run":"1999-12-31T23:59:59Z"}`,
		`{"next-run":"2000-01-01T00:00:01Z","last-run":"2000-01-09T00:00:00Z","trials":{"https://ca.test":{"since":"2000-01-09T00:00:00Z"}}}`,
		`{"set-ups":[{"type":"dns-01","name":"example.com"},{"type":"http-01"}],"clean-up-at":"1999-01-01T00:00:00Z"}`,
		`{"announced":"other","announce-at":"1999-01-01T00:00:00Z","announce-errors":9223372036854775807}`,
		`{"revocations":[{"ca":"https://ca.test","leaf":"AA=="},{"ca":"https://other.test"}],"revoke-at":"1999-01-01T00:00:00Z"}`,
		`{"ari":{"x":{"ask":"1999-01-01T00:00:00Z"}},"ca":"https://gone.test","permanent":true}`,
		`{"waits":5,"blocks":9223372036854775807,"issued":{"https://ca.test example.com":"2000-01-02T00:00:00Z"}}`,
		`{"errors":9223372036854775807,"store-errors":9223372036854775807,"waits":9223372036854775807,"left":-1}`,
	} {
		for left := range uint8(4) {
			f.Add([]byte(job), left, left%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, job []byte, left uint8, staged bool) {
		synctest.Test(t, func(t *testing.T) {
			if looks := looksInAnHour(t, job, left%4, staged); looks > 45 {
				t.Errorf("it was looked at %d times in an hour", looks)
			}
		})
	})
}

// looksInAnHour counts how often a Domain is looked at whose CA, Notifier and
// Challengers are of no use. Left says what certificates it has.
func looksInAnHour(t *testing.T, job []byte, left uint8, staged bool) int64 {
	memory := new(store.Memory)
	put := func(key string, value []byte) {
		if _, err := memory.Put(t.Context(), key, value, store.None); err != nil && !errors.Is(err, store.ErrTooLarge) {
			t.Fatal(err)
		}
	}
	put("jobs/a", job)
	if left > 0 { // none; fresh, due, expired
		set, _ := newSet(t, [...]time.Duration{0, 80 * 24 * time.Hour, 10 * 24 * time.Hour, -time.Hour}[left])
		data, err := set.Encode()
		if err != nil {
			t.Fatal(err)
		}
		put("domains/a", data)
		if staged {
			put("staging/a", data)
		}
	}
	var looks atomic.Int64
	e := New(Config{
		Store: &storetest.Faulty{Store: memory, Fault: func(op storetest.Op) storetest.Fault {
			if op.Kind == "get" && strings.HasPrefix(op.Key, "leases/") {
				looks.Add(1)
			}
			return storetest.FaultNone
		}},
		HTTPClient:    &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no network") })},
		Notifier:      status.NotifierFunc(func(context.Context, status.Event) error { return errors.New("no mail") }),
		CheckInterval: 12 * time.Hour, RetryDelay: 30 * time.Second, Failover: 13,
	})
	e.SetDomains([]*Domain{{
		Name: "a", Names: []string{"example.com"}, CAs: []acmeclient.CA{{URL: "https://ca.test"}},
		KeyTypes: []acmeclient.KeyType{acmeclient.P256}, ARI: true,
	}})
	ctx, cancel := context.WithTimeout(WithKnobs(t.Context(), Knobs{
		NewKey: func(context.Context, acmeclient.KeyType) (crypto.Signer, error) { return nil, errors.New("no keys") },
	}), time.Hour)
	defer cancel()
	if err := e.Run(ctx); err != nil {
		t.Error(err)
	}
	return looks.Load()
}
