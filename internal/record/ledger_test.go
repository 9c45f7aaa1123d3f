package record

import (
	"errors"
	"testing"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestLimitIsReadAsWritten(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	want := Limit{Until: moment, Parked: true, Why: "paused", URL: "https://ca.test/unpause", Orders: moment.Add(1), Failures: moment.Add(2)}
	set := func(l Limit, write bool) {
		t.Helper()
		err := r.ChangeLimit(t.Context(), directory, DefaultAccount, AccountLimit, func(Limit) (Limit, bool) { return l, write })
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(want Limit) {
		t.Helper()
		got, _, err := r.Limit(t.Context(), directory, DefaultAccount, AccountLimit)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	check(Limit{})
	set(want, false)
	check(Limit{})
	set(want, true)
	check(want)
	if _, ok := contents(t, memory)["limits/ca.test-b37908d4/default/_"]; !ok {
		t.Error("it is under another key than limits/<ca>/<account>/_")
	}
	set(Limit{}, true)
	check(Limit{})
	if all := contents(t, memory); len(all) != 0 {
		t.Errorf("a Limit that forbids nothing is kept: %q", all)
	}
}

func TestBrokenLimitIsReplaced(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	put(t, memory, limitKey(directory, DefaultAccount, "a"), []byte("junk"))
	for _, want := range []Limit{{Until: moment}, {}} {
		err := r.ChangeLimit(t.Context(), directory, DefaultAccount, "a", func(l Limit) (Limit, bool) { return want, true })
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := r.Limit(t.Context(), directory, DefaultAccount, "a"); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestChangeLimitLosesNoChange(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	key := limitKey(directory, DefaultAccount, "a")
	meanwhile := (&Limit{Failures: moment}).encode
	calls := 0
	err := r.ChangeLimit(t.Context(), directory, DefaultAccount, "a", func(l Limit) (Limit, bool) {
		if calls++; calls == 1 {
			data, err := meanwhile()
			if err != nil {
				t.Fatal(err)
			}
			put(t, memory, key, data) // by another process
		}
		l.Until = moment.Add(time.Hour)
		return l, true
	})
	if err != nil || calls != 2 {
		t.Fatalf("%v after %d calls, want 2", err, calls)
	}
	want := Limit{Until: moment.Add(time.Hour), Failures: moment}
	if got, _, err := r.Limit(t.Context(), directory, DefaultAccount, "a"); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestLimitSaysThatTheStoreFailed(t *testing.T) {
	r := &Records{Store: &storetest.Faulty{Store: new(store.Memory),
		Fault: func(storetest.Op) storetest.Fault { return storetest.FaultBefore }}}
	err := r.ChangeLimit(t.Context(), directory, DefaultAccount, "a", func(l Limit) (Limit, bool) {
		t.Error("a change is asked for, although nothing could be read")
		return l, false
	})
	if !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("error %v, want the Store's", err)
	}
}
