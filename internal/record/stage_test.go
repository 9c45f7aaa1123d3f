package record

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
)

func TestUnstage(t *testing.T) {
	half := &Set{Credentials: []Credential{newCredential(t, ecdsaType), newOrder(t, rsaType)}}
	order := &Set{Credentials: []Credential{newOrder(t, rsaType)}}
	whole := newSet(t, ecdsaType)
	unreadable := newSet(t, ecdsaType)
	unreadable.Credentials[0].Chain = [][]byte{[]byte("no certificate")}
	for _, test := range []struct {
		name string
		set  *Set
		kept bool
	}{
		{"keeps a copy of a complete Set", whole, true},
		{"keeps a copy of a Set with one certificate", half, true},
		{"keeps a copy of what the CA sent instead of a certificate", unreadable, true},
		{"keeps no copy of an order", order, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			memory := new(store.Memory)
			r := &Records{Store: memory}
			v, err := r.Stage(t.Context(), name, test.set, store.None)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Unstage(t.Context(), name, test.set, "another"); !errors.Is(err, store.ErrConflict) {
				t.Errorf("at another Version: %v, want ErrConflict", err)
			}
			for range 2 { // it may be repeated
				if err := r.Unstage(t.Context(), name, test.set, v); err != nil {
					t.Fatal(err)
				}
			}
			all := contents(t, memory)
			if _, ok := all[stagingKey(name)]; ok {
				t.Error("it is still staged")
			}
			if got := len(all); got != 0 && !test.kept || got != 1 && test.kept {
				t.Errorf("the archive has %d values, want it kept: %v", got, test.kept)
			}
		})
	}
	t.Run("leaves alone what could not be read", func(t *testing.T) {
		memory := new(store.Memory)
		v := put(t, memory, stagingKey(name), []byte("junk"))
		if err := (&Records{Store: memory}).Unstage(t.Context(), name, nil, v); err != nil {
			t.Fatal(err)
		}
		if all := contents(t, memory); len(all) != 0 {
			t.Errorf("the Store has %q", all)
		}
	})
}

// What is staged could be the only copy of a key.
func TestWhatCannotBeReadAgainIsNotStaged(t *testing.T) {
	twice := newSet(t, ecdsaType, otherType)
	twice.Credentials[1].KeyType = ecdsaType
	odd := newSet(t, ecdsaType)
	odd.Credentials[0].Other = []*pem.Block{{Type: "MD\nX"}}
	for _, test := range []struct {
		name string
		set  *Set
	}{
		{"no credentials", new(Set)},
		{"two credentials of one type", twice},
		{"a block that is none", odd},
	} {
		r := &Records{Store: new(store.Memory)}
		if _, err := r.Stage(t.Context(), name, test.set, store.None); err == nil || !strings.Contains(err.Error(), "staging/a") {
			t.Errorf("%s: error %v, want one that names staging/a", test.name, err)
		}
	}
}
