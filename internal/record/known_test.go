package record

import (
	"reflect"
	"testing"

	"github.com/manageddomains/md/store"
)

func TestActiveAtReadsWhatActiveReads(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	set := newSet(t, ecdsaType, rsaType)
	data, err := set.Encode()
	if err != nil {
		t.Fatal(err)
	}
	version := put(t, memory, "domains/a", data)
	want, _, err := r.Active(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []store.Version{store.None, version, "another"} {
		got, v, err := r.ActiveAt(t.Context(), "a", known)
		if err != nil || v != version || !reflect.DeepEqual(got, want) {
			t.Errorf("known at %q: %v, %q, %v, want %v, %q", known, got, v, err, want, version)
		}
	}
}

// What was never read is checked, whatever else is known.
func TestActiveAtChecksWhatIsNotKnown(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	data, err := newSet(t, ecdsaType).Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(t, memory, "domains/a", data[1:])
	for _, known := range []store.Version{store.None, "another"} {
		if _, _, err := r.ActiveAt(t.Context(), "a", known); err == nil {
			t.Errorf("known at %q: a broken value is taken", known)
		}
	}
}

func BenchmarkActive(b *testing.B) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	data, err := newSet(b, ecdsaType).Encode()
	if err != nil {
		b.Fatal(err)
	}
	version, err := memory.Put(b.Context(), "domains/a", data, store.None)
	if err != nil {
		b.Fatal(err)
	}
	for name, known := range map[string]store.Version{"checked": store.None, "known": version} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := r.ActiveAt(b.Context(), "a", known); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
