package integration

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// kept is a place with a CA and a directory that outlive Managers.
type kept struct {
	*place
	ca   *localca.CA
	seen *witness
	dir  string
}

func newKept(t *testing.T) *kept {
	t.Helper()
	k := &kept{place: newPlace(t), seen: new(witness), dir: filepath.Join(t.TempDir(), "store")}
	k.ca = k.startCA(t, localca.Config{Wrap: k.seen.wrap})
	return k
}

// manager makes a Manager for example.test on what is kept.
func (k *kept) manager(t *testing.T) *md.Manager {
	return &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.test", "www.example.test"}}},
		Default:     md.Domain{CAs: at(k.ca)},
		AcceptTerms: true,
		Store:       store.NewDir(k.dir),
		Logger:      logged(t),
		RetryDelay:  100 * time.Millisecond,
	}
}

// obtain runs a Manager until it has a certificate, stops it, and returns the
// serial number.
func (k *kept) obtain(t *testing.T) (serial string) {
	t.Helper()
	m := k.manager(t)
	stop := k.run(t, m)
	ready(t, m)
	serial = k.serial(t)
	stop()
	return serial
}

// serial is that of the certificate that is served.
func (k *kept) serial(t *testing.T) string {
	t.Helper()
	return k.connect(t, "example.test", k.ca.Roots()).SerialNumber.Text(16)
}

func TestRestartWhileTheCAIsDown(t *testing.T) {
	k := newKept(t)
	before := k.obtain(t)
	requests, _, _ := k.seen.counts()
	k.ca.SetDown(true)

	m := k.manager(t)
	if err := m.Load(t.Context()); err != nil {
		t.Fatalf("Load: %v", err)
	}
	if err := m.Ready(t.Context()); err != nil {
		t.Errorf("after Load, Ready says %v", err)
	}
	k.run(t, m)
	if got := k.serial(t); got != before {
		t.Errorf("certificate %s is served, want %s from the Store", got, before)
	}
	if after, _, _ := k.seen.counts(); after != requests {
		t.Errorf("%d requests were made to the CA, want none", after-requests)
	}
}

func TestFirstStartWhileTheCAIsDown(t *testing.T) {
	k := newKept(t)
	k.ca.SetDown(true)
	heard := new(audience)
	m := k.manager(t)
	m.Notifier = heard
	k.run(t, m)
	waitFor(t, func() bool { return len(heard.of(status.Errored)) > 0 })
	k.ca.SetDown(false)
	ready(t, m)
	k.serial(t)
}

// waitFor waits for done, which something else brings about.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("it did not happen")
		}
	}
}

func TestRestartOrdersNothing(t *testing.T) {
	k := newKept(t)
	before := k.obtain(t)
	_, _, orders := k.seen.counts()
	if got := k.obtain(t); got != before {
		t.Errorf("certificate %s is served, want %s as before", got, before)
	}
	k.seen.sameOrders(t, orders)
}

func TestWipedStore(t *testing.T) {
	k := newKept(t)
	before := k.obtain(t)
	if err := os.RemoveAll(k.dir); err != nil {
		t.Fatal(err)
	}
	if got := k.obtain(t); got == before {
		t.Error("a wiped Store still has the certificate")
	}
}

func TestBrokenSetIsKeptAsideAndReplaced(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(value []byte) []byte
	}{
		{"when it is garbage", func([]byte) []byte { return []byte("\x00\xffnothing that anybody wrote") }},
		{"when it is empty", func([]byte) []byte { return nil }},
		{"when it is cut off", func(value []byte) []byte { return value[:len(value)/2] }},
		{"when a byte has changed", func(value []byte) []byte {
			at := bytes.Index(value, []byte("BEGIN CERTIFICATE")) + 100
			value[at] ^= 1
			return value
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKept(t)
			before := k.obtain(t)
			damaged := k.damage(t, test.damage)

			var told bytes.Buffer
			m := k.manager(t)
			m.Logger = slog.New(slog.NewTextHandler(&told, nil))
			stop := k.run(t, m)
			ready(t, m)
			if got := k.serial(t); got == before {
				t.Errorf("certificate %s is served although its Set is broken", got)
			}
			stop()
			if !strings.Contains(told.String(), filepath.Join("domains", "example.test")) {
				t.Errorf("no log line names the broken file:\n%s", told.String())
			}
			k.findAside(t, damaged)
		})
	}
}

// damage changes the active Set of example.test in the Store.
func (k *kept) damage(t *testing.T, change func([]byte) []byte) []byte {
	t.Helper()
	s := store.NewDir(k.dir)
	value, _, err := s.Get(t.Context(), "domains/example.test")
	if err != nil {
		t.Fatal(err)
	}
	value = change(value)
	if _, err := s.Put(t.Context(), "domains/example.test", value, store.Any); err != nil {
		t.Fatal(err)
	}
	return value
}

// findAside fails the test unless value is in the archive, marked as broken.
func (k *kept) findAside(t *testing.T, value []byte) {
	t.Helper()
	s := store.NewDir(k.dir)
	for item, err := range s.List(t.Context(), "archive/example.test/") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(item.Key, "archive/example.test/broken-") {
			continue
		}
		got, _, err := s.Get(t.Context(), item.Key)
		if err == nil && bytes.Equal(got, value) {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Error("the broken Set is not in the archive")
}
