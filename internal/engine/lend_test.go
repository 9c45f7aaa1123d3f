package engine

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// meanwhile is a Store during whose first operation of one kind something
// happens.
type meanwhile struct {
	store.Store
	at   string // "list", or the key that is read
	then func()
}

func (m *meanwhile) now(at string) {
	if then := m.then; then != nil && at == m.at {
		m.then = nil
		then()
	}
}

func (m *meanwhile) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	if strings.HasPrefix(prefix, record.ActivePrefix) {
		m.now("list")
	}
	return m.Store.List(ctx, prefix)
}

func (m *meanwhile) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	m.now(key)
	return m.Store.Get(ctx, key)
}

// A search for former certificates that is not done yet when other Domains are
// declared neither serves what is gone, nor says what there is now.
func TestDomainsDeclaredDuringASearch(t *testing.T) {
	domain := func(name string, names ...string) *Domain {
		return &Domain{Name: name, Names: names, KeyTypes: []acmeclient.KeyType{"P-256"}}
	}
	start := func(at string) (*Engine, *meanwhile) {
		s := &meanwhile{Store: new(store.Memory), at: at}
		e := New(Config{Store: s})
		for _, name := range []string{"a", "z"} {
			set, _ := newSet(t, 80*24*time.Hour)
			if _, err := e.records.Adopt(t.Context(), name, set, store.None); err != nil {
				t.Fatal(err)
			}
		}
		return e, s
	}
	load := func(e *Engine) {
		t.Helper()
		if err := e.Load(t.Context()); err != nil {
			t.Error(err)
		}
	}

	e, s := start("list")
	e.SetDomains([]*Domain{domain("b", "example.com", "www.example.com")})
	s.then = func() {
		e.SetDomains([]*Domain{domain("a", "example.com")})
		load(e)
	}
	load(e)
	if site := e.table.Lookup("example.com"); site == nil || site.Domain != "a" || len(site.Credentials) != 1 {
		t.Errorf("served is %+v, want what the declared Domain has", site)
	}

	e, s = start(record.ActivePrefix + "z")
	e.SetDomains([]*Domain{domain("a", "example.com"), domain("x", "x.test")})
	s.then = func() { e.SetDomains([]*Domain{domain("b", "example.com"), domain("x", "x.test")}) }
	load(e)
	if !slices.ContainsFunc(e.orphans, func(o orphan) bool { return o.name == "a" }) {
		t.Errorf("the former Domains are %+v, want one of them to be a", e.orphans)
	}
}
