package record

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestDeclaredIsReadAsWritten(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	want := &Declared{Names: []string{"a.test", "b.test"}, Since: moment, Used: moment.AddDate(0, 1, 0)}
	if _, _, err := r.Declared(t.Context(), "a.test"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it is written: %v, want fs.ErrNotExist", err)
	}
	v, err := r.PutDeclared(t.Context(), "a.test", want, store.None)
	if err != nil {
		t.Fatal(err)
	}
	got, version, err := r.Declared(t.Context(), "a.test")
	if err != nil || version != v || !slices.Equal(got.Names, want.Names) || !got.Since.Equal(want.Since) || !got.Used.Equal(want.Used) {
		t.Errorf("got %+v at %q, %v, want %+v at %q", got, version, err, want, v)
	}
}

func TestDeclaredThatCannotBeMeant(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	many := &Declared{Names: slices.Repeat([]string{"a.test"}, maxDeclaredNames+1)}
	for _, d := range []*Declared{{}, many} {
		if _, err := r.PutDeclared(t.Context(), "a.test", d, store.None); err == nil {
			t.Errorf("a Domain of %d names is written", len(d.Names))
		}
	}
	put(t, r.Store, declaredKey("a.test"), []byte("{"))
	if _, _, err := r.Declared(t.Context(), "a.test"); !errors.As(err, new(*BrokenError)) {
		t.Errorf("reading what is no JSON: %v, want a *BrokenError", err)
	}
}

func TestForget(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all: ", all), func(t *testing.T) {
			r := &Records{Store: new(store.Memory)}
			set := newSet(t, ecdsaType)
			for _, name := range []string{"a.test", "b.test"} {
				if _, err := r.PutDeclared(t.Context(), name, &Declared{Names: []string{name}}, store.None); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.Adopt(t.Context(), "a.test", set, store.None); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(r.Forget(t.Context(), "a.test", all), r.Forget(t.Context(), "a.test", all)); err != nil {
				t.Fatal(err)
			}
			var left []string
			for name, err := range r.AllDeclared(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				left = append(left, name)
			}
			if !slices.Equal(left, []string{"b.test"}) {
				t.Errorf("%v are remembered, want b.test", left)
			}
			if _, _, err := r.Active(t.Context(), "a.test"); errors.Is(err, fs.ErrNotExist) != all {
				t.Errorf("the certificates: %v, want them gone: %v", err, all)
			}
		})
	}
	t.Run("while the Store does not work", func(t *testing.T) {
		faulty := &storetest.Faulty{Store: new(store.Memory), Fault: func(storetest.Op) storetest.Fault { return storetest.FaultBefore }}
		r := &Records{Store: faulty}
		if err := r.Forget(t.Context(), "a.test", true); err == nil {
			t.Error("it is forgotten")
		}
		for name, err := range r.AllDeclared(t.Context()) {
			if err == nil {
				t.Errorf("%q is remembered", name)
			}
		}
	})
}

func TestAdoptTakesTheVersionRead(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	one, two := newSet(t, ecdsaType), newSet(t, otherType)
	v, err := r.Adopt(t.Context(), "a.test", one, store.None)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Adopt(t.Context(), "a.test", two, store.None); !errors.Is(err, store.ErrConflict) {
		t.Errorf("where there is one: %v, want store.ErrConflict", err)
	}
	if got, version, err := r.Active(t.Context(), "a.test"); err != nil || version != v || !bytesOf(t, got, one) {
		t.Errorf("active is %v at %q, %v, want the first at %q", got, version, err, v)
	}
	incomplete := &Set{Credentials: []Credential{newOrder(t, ecdsaType)}}
	if _, err := r.Adopt(t.Context(), "b.test", incomplete, store.None); err == nil {
		t.Error("an order in progress is active")
	}
}

// bytesOf reports whether two Sets are written alike.
func bytesOf(t *testing.T, a, b *Set) bool {
	t.Helper()
	return string(encoded(t, a)) == string(encoded(t, b))
}
