package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func FuzzClaim(f *testing.F) {
	f.Add([]byte(`{"holder":"a, process 7","id":"ABC","count":3,"ttl-ms":20000}`))
	f.Add([]byte(`{"id":"A","ttl-ms":9223372036854775807}`))
	f.Add([]byte(`{"id":"A","count":18446744073709551615}`))
	f.Add([]byte(`{"id":7}`))
	f.Add([]byte(`null`))
	f.Add([]byte("\xff"))
	f.Add(claim{Holder: "h", ID: "i", Count: 1, TTL: 1}.encode())
	f.Fuzz(func(t *testing.T, value []byte) {
		c := decodeClaim(value)
		if got := c.ttl(); got < 0 || got > maxTTL {
			t.Errorf("TTL of %q = %v, want 0 to %v", value, got, maxTTL)
		}
		if who := c.who(); len(who) > 1100 || !utf8.ValidString(who) {
			t.Errorf("holder of %q = %q, want something short that can be printed", value, who)
		}
		if again := decodeClaim(c.encode()); c.ID != "" && again != c {
			t.Errorf("claim %+v is read back as %+v", c, again)
		}
	})
}

func TestSightingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Memory{}
		l := &Leaser{Store: s}
		c := claim{ID: "another"}
		for i := range maxSightings + 100 {
			key := fmt.Sprintf("leases/%d", i)
			if got := l.sighted(key, "1", c); got != defaultTTL {
				t.Fatalf("a first sighting may be taken over in %v, want %v", got, defaultTTL)
			}
		}
		if got := len(l.sightings); got != maxSightings {
			t.Errorf("there are %d sightings, want %d", got, maxSightings)
		}
		// One that is known may still be updated, and another is not lost by it.
		for key := range l.sightings {
			time.Sleep(time.Second)
			l.sighted(key, "2", c)
			if got := l.sightings[key].version; got != "2" {
				t.Errorf("%s is seen at %q, want 2", key, got)
			}
			break
		}
		if got := len(l.sightings); got != maxSightings {
			t.Errorf("there are %d sightings, want %d", got, maxSightings)
		}
	})
}

func TestSightingsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Memory{}
		a, b := &Leaser{Store: s}, &Leaser{Store: s}
		lease, err := a.Try(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		b.Try(t.Context(), "x")
		if got := len(b.sightings); got != 1 {
			t.Fatalf("there are %d sightings, want 1", got)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lease, err = b.Try(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if got := len(b.sightings); got != 0 {
			t.Errorf("after the lease was acquired there are %d sightings, want 0", got)
		}
		lease.Release(t.Context())
	})
}
