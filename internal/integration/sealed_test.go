package integration

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/store"
)

// contents returns the values of a Store by key.
func contents(t *testing.T, s *store.Memory) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for e, err := range s.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Key] = string(e.Value)
	}
	return all
}

// TestWrongSealKeyReplacesNothing starts a Manager on a sealed Store without
// its key: what it cannot read is neither missing nor broken.
func TestWrongSealKeyReplacesNothing(t *testing.T) {
	const name = "example.test"
	p := newPlace(t)
	ca := p.startCA(t, localca.Config{})
	inner := new(store.Memory)
	manager := func(key store.SealKey) *md.Manager {
		keys, err := store.NewKeyring(key)
		if err != nil {
			t.Fatal(err)
		}
		return &md.Manager{
			Domains: []md.Domain{{Names: []string{name}}}, AcceptTerms: true, Store: store.Encrypted(inner, keys),
			Default: md.Domain{CAs: at(ca)}, Logger: logged(t),
		}
	}
	right := store.NewSealKey()
	m := manager(right)
	stop := p.run(t, m)
	ready(t, m)
	served := p.connect(t, name, ca.Roots())
	stop()
	before := contents(t, inner)

	wrong := manager(store.NewSealKey())
	if err := wrong.Load(t.Context()); !errors.Is(err, store.ErrNoSealKey) {
		t.Errorf("Load without the key = error %v, want ErrNoSealKey", err)
	}
	ctx, cancel := context.WithTimeout(restless(t.Context()), patience)
	defer cancel()
	if err := wrong.Renew(ctx, name); !errors.Is(err, store.ErrNoSealKey) {
		t.Errorf("Renew without the key = error %v, want ErrNoSealKey", err)
	}
	if after := contents(t, inner); !maps.Equal(after, before) {
		t.Errorf("the Store has other values after a Manager ran that cannot read them: %q, before %q",
			slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}

	m = manager(right)
	p.run(t, m)
	ready(t, m)
	if !p.connect(t, name, ca.Roots()).Equal(served) {
		t.Error("with the right key again, another certificate is served")
	}
}
