package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestArchiveTellsFormerSets(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	var sets []*Set
	for i := range 3 {
		set := newSet(t, ecdsaType)
		set.Credentials[0].When = moment.Add(time.Duration(i) * time.Hour)
		for range 2 { // it may be repeated
			if err := r.Keep(t.Context(), name, set); err != nil {
				t.Fatal(err)
			}
		}
		sets = append(sets, set)
	}
	put(t, memory, archivePrefix(name)+"20261121T103000Z-torn", encoded(t, sets[0])[:100])
	put(t, memory, archivePrefix(name)+"broken-0123456789abcdef", []byte("junk"))
	got, err := r.Archived(t.Context(), name)
	if err != nil || len(got) != len(sets) {
		t.Fatalf("%d Sets, %v, want %d", len(got), err, len(sets))
	}
	for i, former := range got { // newest first
		want := encoded(t, sets[len(sets)-1-i])
		if !bytes.Equal(encoded(t, former.Set), want) {
			t.Errorf("number %d is another Set", i)
		}
		one, err := r.FromArchive(t.Context(), name, former.ID)
		if err != nil || !bytes.Equal(encoded(t, one), want) {
			t.Errorf("%s read alone: %v", former.ID, err)
		}
	}
	for _, id := range []string{"broken-0123456789abcdef", "../a", "none"} {
		if set, err := r.FromArchive(t.Context(), name, id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, %v, want fs.ErrNotExist", id, set, err)
		}
	}
}

func TestPrune(t *testing.T) {
	now := moment
	at := func(age time.Duration, hash string) string {
		return archivePrefix(name) + now.Add(-age).Format(archiveTime) + "-" + hash
	}
	for _, test := range []struct {
		name       string
		keys       []string
		kept, gone int
	}{
		{"keeps what is young and little", []string{at(0, "a"), at(time.Hour, "b"), archivePrefix(name) + "broken-a"}, 3, 0},
		{"removes what is old", []string{at(keepFor+time.Second, "a"), at(keepFor, "b")}, 1, 1},
		{"keeps all of the last days", manyAt(at, 3*keepSets), 3 * keepSets, 0},
		{"leaves alone what has no time", []string{archivePrefix(name) + "what"}, 1, 0},
		{"leaves others alone", []string{"archive/b/19700101T000000Z-a"}, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			memory := new(store.Memory)
			for _, key := range test.keys {
				put(t, memory, key, []byte(key))
			}
			if err := (&Records{Store: memory}).Prune(t.Context(), name, now); err != nil {
				t.Fatal(err)
			}
			if got := len(contents(t, memory)); got != test.kept || len(test.keys)-got != test.gone {
				t.Errorf("%d of %d are left, want %d", got, len(test.keys), test.kept)
			}
		})
	}
	t.Run("keeps the newest", func(t *testing.T) {
		memory := new(store.Memory)
		for i := range 2 * keepSets {
			put(t, memory, at(time.Duration(i)*8*24*time.Hour, "a"), []byte("x"))
		}
		for i := range 2 * keepBroken {
			put(t, memory, archivePrefix(name)+brokenPrefix+fmt.Sprint(i), []byte("x"))
		}
		if err := (&Records{Store: memory}).Prune(t.Context(), name, now); err != nil {
			t.Fatal(err)
		}
		all := contents(t, memory)
		for i := range keepSets {
			if _, ok := all[at(time.Duration(i)*8*24*time.Hour, "a")]; !ok {
				t.Errorf("the one of %d days ago is gone", 8*i)
			}
		}
		broken := 0
		for key := range all {
			if strings.Contains(key, brokenPrefix) {
				broken++
			}
		}
		if broken != keepBroken || len(all) != keepSets+keepBroken {
			t.Errorf("%d are left, %d of them broken", len(all), broken)
		}
	})
}

// manyAt are keys of so many Sets, one of each hour.
func manyAt(at func(time.Duration, string) string, n int) []string {
	var keys []string
	for i := range n {
		keys = append(keys, at(time.Duration(i)*time.Hour, "a"))
	}
	return keys
}

func TestArchiveSaysThatTheStoreFailed(t *testing.T) {
	for n := 1; n <= 2; n++ {
		memory := new(store.Memory)
		put(t, memory, archivePrefix(name)+"19700101T000000Z-a", []byte("x"))
		r := &Records{Store: &storetest.Faulty{Store: memory, Fault: func(op storetest.Op) storetest.Fault {
			if op.N == n {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}}}
		if err := r.Prune(t.Context(), name, moment); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("Prune with operation %d broken: %v", n, err)
		}
		r.Store.(*storetest.Faulty).Fault = func(op storetest.Op) storetest.Fault {
			if (op.Kind == "list") == (n == 1) {
				return storetest.FaultBefore
			}
			return storetest.FaultNone
		}
		if list, err := r.Archived(t.Context(), name); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("Archived: %v, %v", list, err)
		}
	}
}

func TestUnfinishedIsTheNewestThatIsWanted(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	for i, order := range []string{"old", "wanted", "other", ""} {
		set := newSet(t, ecdsaType)
		c := &set.Credentials[0]
		c.When = moment.Add(time.Duration(i) * time.Hour)
		if order != "" {
			c.Order, c.Certificate, c.Chain = order, "", nil
		}
		if err := r.Keep(t.Context(), name, set); err != nil {
			t.Fatal(err)
		}
	}
	put(t, memory, archivePrefix(name)+"20991121T103000Z-torn", []byte("junk"))
	put(t, memory, archivePrefix(name)+"broken-0123456789abcdef", []byte("junk"))
	find := func(orders string) *Credential {
		c, err := r.Unfinished(t.Context(), name, func(c *Credential) bool { return strings.Contains(orders, c.Order) })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := find("old wanted"); c == nil || c.Order != "wanted" || c.Key == nil {
		t.Errorf("got %+v, want the newer one of two, with its key", c)
	}
	issued := newSet(t, ecdsaType)
	issued.Credentials[0].Order = "wanted"
	if err := r.Keep(t.Context(), name, issued); err != nil {
		t.Fatal(err)
	}
	if c := find("old wanted"); c == nil || c.Order != "old" {
		t.Errorf("got %+v, want the older one: the newer order has led to a certificate", c)
	}
	if c := find("none"); c != nil {
		t.Errorf("got %+v, want none", c.Meta)
	}
}
