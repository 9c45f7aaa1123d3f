package live

import (
	"fmt"
	mathrand "math/rand/v2"
	"reflect"
	"testing"
)

// TestIndexIsAMap does the same at random to an index and to a map.
func TestIndexIsAMap(t *testing.T) {
	random := mathrand.New(mathrand.NewPCG(3, 4))
	var ix index
	want := make(map[string]*Site)
	for _, phase := range []struct{ rounds, putOf10 int }{{5000, 9}, {5000, 5}, {8000, 1}} {
		for range phase.rounds {
			name := fmt.Sprint("name ", random.IntN(2000))
			if random.IntN(10) < phase.putOf10 {
				s := &Site{Domain: name}
				ix.put(name, served{site: s})
				want[name] = s
			} else {
				ix.remove(name)
				delete(want, name)
			}
		}
		for i := range 2000 {
			name := fmt.Sprint("name ", i)
			if got := siteIn(&ix, name); got != want[name] {
				t.Fatalf("find(%q) got %v, want %v", name, got, want[name])
			}
		}
		if ix.len != len(want) {
			t.Fatalf("got %d entries, want %d", ix.len, len(want))
		}
		if n := len(ix.buckets.Load().heads); n < 2*ix.len || n > minBuckets && n > 16*ix.len {
			t.Errorf("got %d buckets for %d entries, want more, but not many times more", n, ix.len)
		}
	}
	for name := range want {
		ix.remove(name)
	}
	if got := len(ix.buckets.Load().heads); got != minBuckets {
		t.Errorf("an empty index has %d buckets, want %d", got, minBuckets)
	}
}

// siteIn returns the Site of name, or nil.
func siteIn(ix *index, name string) *Site {
	if s := ix.find([]byte(name)); s != nil {
		return s.site
	}
	return nil
}

// TestChangesLeaveReadersAlone checks that a list which a reader walks stays
// whole when names in it are replaced and removed.
func TestChangesLeaveReadersAlone(t *testing.T) {
	b := newBuckets(1) // all in one list
	for i := range 4 {
		if !b.set(fmt.Sprint(i), served{}) {
			t.Errorf("name %d got there already, want it added", i)
		}
	}
	old := b.heads[0].Load()
	kept, found := without(old, "1")
	if !found {
		t.Fatal("got no entry removed, want one")
	}
	if got, want := namesIn(kept), "320"; got != want {
		t.Errorf("the list without a name got %q, want %q", got, want)
	}
	s := &Site{}
	if b.set("2", served{site: s}) {
		t.Error("a name that is replaced got added")
	}
	replaced := b.heads[0].Load()
	if got, want := namesIn(replaced), "2310"; got != want || replaced.site != s {
		t.Errorf("the list with a name replaced got %q, want %q with another Site at its front", got, want)
	}
	if got, want := namesIn(old), "3210"; got != want {
		t.Errorf("the list that was got %q, want %q", got, want)
	}
}

// TestEntriesFitCacheLines holds what entry says of its size.
func TestEntriesFitCacheLines(t *testing.T) {
	if got, want := reflect.TypeFor[entry]().Size(), uintptr(64); got > want {
		t.Errorf("an entry has %d bytes, want at most %d", got, want)
	}
}

func namesIn(e *entry) (names string) {
	for ; e != nil; e = e.next {
		names += e.name
	}
	return names
}

// BenchmarkPut loads a Table with a million names, and then renews one
// Domain in it.
func BenchmarkPut(b *testing.B) {
	names := make([][]string, 1_000_000)
	for i := range names {
		names[i] = []string{fmt.Sprintf("host-%07d.example.com", i)}
	}
	b.Run("a million names, one by one", func(b *testing.B) {
		for b.Loop() {
			var table Table
			for i := range names {
				table.Put(names[i], &Site{})
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(names)), "ns/name")
	})
	b.Run("one name among a million", func(b *testing.B) {
		var table Table
		for i := range names {
			table.Put(names[i], &Site{})
		}
		s := &Site{}
		for b.Loop() {
			table.Put(names[77], s)
		}
	})
}
