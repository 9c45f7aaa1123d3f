package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// located is a Store that says where it keeps things, and that has values
// which no Put took.
type located struct {
	*store.Memory
	long []byte // what Get returns if it is not nil
}

func (s located) Locate(key string) string { return "/kept/" + key }

func (s located) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	if s.long != nil {
		return s.long, "long", nil
	}
	return s.Memory.Get(ctx, key)
}

func TestKeys(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	ctx := t.Context()
	set, replaced := newSet(t, ecdsaType), newSet(t, ecdsaType)
	put(t, memory, "domains/*.example.test", encoded(t, replaced))
	if _, err := r.PutJob(ctx, "*.example.test", new(Job), store.None); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutAccount(ctx, directory, DefaultAccount, newAccount(t), store.None); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stage(ctx, "*.example.test", set, store.None); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Activate(ctx, "*.example.test", agree); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stage(ctx, "*.example.test", newSet(t, ecdsaType), store.None); err != nil {
		t.Fatal(err)
	}
	hash, err := replaced.Hash()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for key := range contents(t, memory) {
		got = append(got, key)
	}
	slices.Sort(got)
	want := []string{
		"accounts/ca.test-b37908d4/default",
		"archive/*.example.test/20261121T103000Z-" + hash,
		"domains/*.example.test",
		"jobs/*.example.test",
		"staging/*.example.test",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, want := LeaseKey("*.example.test"), "leases/*.example.test"; got != want {
		t.Errorf("the lease's key is %q, want %q", got, want)
	}
	if got, want := ActiveName("domains/*.example.test"), "*.example.test"; got != want {
		t.Errorf("the name is %q, want %q", got, want)
	}
	for _, odd := range []string{"", "x", "domains/"} { // what a Store should not have listed
		if got := ActiveName(odd); len(got) > len(odd) {
			t.Errorf("of %q it is %q", odd, got)
		}
	}
}

func TestKeysOfCAs(t *testing.T) {
	seen := make(map[string]string)
	for _, test := range []struct{ directory, host string }{
		{"https://ca.test/directory", "ca.test-"},
		{"https://ca.test/other", "ca.test-"},
		{"https://ca.test:8443/directory", "ca.test-"},
		{"https://ca.test/directory?x", "ca.test-"},
		{"https://other.test/directory", "other.test-"},
		{"https://[::1]:14000/dir", "::1-"},
		{"", "ca-"},
		{"no URL at all", "ca-"},
		{"https://%zz/", "ca-"},
		{"https://\xff/", "ca-"},
		{"https://" + strings.Repeat("a.", 122) + "x/", strings.Repeat("a.", 122) + "x-"},
		{"https://" + strings.Repeat("a.", 123) + "x/", "ca-"}, // a component of a key may not be longer
	} {
		id := caID(test.directory)
		if !strings.HasPrefix(id, test.host) || len(id) != len(test.host)+8 {
			t.Errorf("%.40q is %q, want %q and 8 digits", test.directory, id, test.host)
		}
		if was, ok := seen[id]; ok {
			t.Errorf("%.40q and %.40q are both %q", was, test.directory, id)
		}
		seen[id] = test.directory
		if err := store.CheckKey(accountKey(test.directory, DefaultAccount)); err != nil || strings.Contains(id, "/") {
			t.Errorf("%.40q: %q cannot stand in a key: %v", test.directory, id, err)
		}
	}
}

func TestBrokenValue(t *testing.T) {
	ctx := t.Context()
	memory := new(store.Memory)
	r := &Records{Store: located{Memory: memory}}
	incomplete := encoded(t, &Set{Credentials: []Credential{newOrder(t, ecdsaType)}})
	for _, test := range []struct {
		name, key string
		value     []byte
		read      func() error
	}{
		{"an active Set", "domains/a", []byte("x"), func() error { _, _, err := r.Active(ctx, "a"); return err }},
		{"an active Set without its certificate", "domains/a", incomplete, func() error { _, _, err := r.Active(ctx, "a"); return err }},
		{"an empty active Set", "domains/a", nil, func() error { _, _, err := r.Active(ctx, "a"); return err }},
		{"a staged Set", "staging/a", []byte("x"), func() error { _, _, err := r.Staged(ctx, "a"); return err }},
		{"a Job", "jobs/a", []byte("x"), func() error { _, _, err := r.Job(ctx, "a"); return err }},
		{"an account", "accounts/ca.test-b37908d4/default", []byte("x"),
			func() error { _, _, err := r.Account(ctx, directory, DefaultAccount); return err }},
	} {
		t.Run(test.name, func(t *testing.T) {
			version := put(t, memory, test.key, test.value)
			err := test.read()
			var broken *BrokenError
			if !errors.As(err, &broken) {
				t.Fatalf("error %v, want a *BrokenError", err)
			}
			if broken.Key != test.key || broken.Version != version || broken.Place != "/kept/"+test.key {
				t.Errorf("it is of %q, version %q, in %q", broken.Key, broken.Version, broken.Place)
			}
			if broken.Err == nil || !errors.Is(err, broken.Err) {
				t.Errorf("it does not unwrap to why: %v", broken.Err)
			}
			if want := fmt.Sprintf("/kept/%s is broken (%v)", test.key, broken.Err); err.Error() != want {
				t.Errorf("it says %q, want %q", err, want)
			}
			for range 2 { // it may be repeated
				if err := r.SetAside(ctx, "a", broken); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.SetAsideAccount(ctx, directory, broken); err != nil {
				t.Fatal(err)
			}
			copies := 0
			for key, value := range contents(t, memory) {
				if strings.Contains(key, "/broken-") && bytes.Equal(value, test.value) {
					copies++
				}
			}
			if copies != 2 {
				t.Errorf("%d copies, want one in the Domain's archive and one in the CA's", copies)
			}
		})
	}
}

// What no Store would take is put aside as far as one would.
func TestBrokenValueThatIsTooLong(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: located{Memory: memory, long: bytes.Repeat([]byte("x"), store.MaxValue+1)}}
	_, _, err := r.Staged(t.Context(), "a")
	var broken *BrokenError
	if !errors.As(err, &broken) || !errors.Is(err, store.ErrTooLarge) {
		t.Fatalf("error %v, want a *BrokenError and ErrTooLarge", err)
	}
	if err := r.SetAside(t.Context(), "a", broken); err != nil {
		t.Fatal(err)
	}
	for key, value := range contents(t, memory) {
		if !strings.HasPrefix(key, "archive/a/broken-") || len(value) != store.MaxValue {
			t.Errorf("%q has %d bytes", key, len(value))
		}
	}
}

// Of what is broken again and again, some copies are kept, the last among them.
func TestSetAsideKeepsFew(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	for i := range 3 * keepBroken {
		value := []byte{byte(i)}
		put(t, memory, "domains/a", value)
		_, _, err := r.Active(t.Context(), "a")
		var broken *BrokenError
		if !errors.As(err, &broken) {
			t.Fatalf("error %v, want a *BrokenError", err)
		}
		if err := r.SetAsideAccount(t.Context(), directory, broken); err != nil {
			t.Fatal(err)
		}
		kept, last := 0, false
		for key, copied := range contents(t, memory) {
			if strings.HasPrefix(key, "archive/"+caID(directory)+"/broken-") {
				kept++
				last = last || bytes.Equal(copied, value)
			}
		}
		if kept != min(i+1, keepBroken) || !last {
			t.Errorf("after %d broken values %d are kept, the last among them: %v", i+1, kept, last)
		}
	}
}

func TestSetAsideSaysWhatFailed(t *testing.T) {
	faulty := &storetest.Faulty{Store: new(store.Memory), Fault: func(storetest.Op) storetest.Fault { return storetest.FaultBefore }}
	r := &Records{Store: faulty}
	err := r.SetAside(t.Context(), "a", &BrokenError{Place: "the place"})
	if !errors.Is(err, storetest.ErrInjected) || !strings.Contains(err.Error(), "the place") {
		t.Errorf("error %v", err)
	}
}

func TestReadSaysWhatFailed(t *testing.T) {
	faulty := &storetest.Faulty{Store: located{Memory: new(store.Memory)},
		Fault: func(storetest.Op) storetest.Fault { return storetest.FaultBefore }}
	r := &Records{Store: faulty}
	_, v, err := r.Active(t.Context(), "a")
	if !errors.Is(err, storetest.ErrInjected) || !strings.Contains(err.Error(), "/kept/domains/a") || v != store.None {
		t.Errorf("read: %q, %v", v, err)
	}
	_, err = r.Stage(t.Context(), "a", newSet(t, ecdsaType), store.None)
	if !errors.Is(err, storetest.ErrInjected) || !strings.Contains(err.Error(), "/kept/staging/a") {
		t.Errorf("write: %v", err)
	}
	err = r.Unstage(t.Context(), "a", nil, store.None)
	if !errors.Is(err, storetest.ErrInjected) || !strings.Contains(err.Error(), "/kept/staging/a") {
		t.Errorf("remove: %v", err)
	}
}

func agree(_, _ *Set) error { return nil }
