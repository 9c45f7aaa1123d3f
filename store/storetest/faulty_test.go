package storetest

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/store"
)

func TestFaultyNumbersOperations(t *testing.T) {
	var got []Op
	s := &Faulty{Store: &store.Memory{}, Fault: func(op Op) Fault {
		got = append(got, op)
		return FaultNone
	}}
	ctx := t.Context()
	s.Get(ctx, "a")
	s.Put(ctx, "a", nil, store.None)
	s.Get(ctx, "b")
	s.Get(ctx, "a")
	s.Delete(ctx, "a", store.Any)
	seq := s.List(ctx, "a/")
	for range seq {
		t.Error("List of nothing yielded something")
	}
	want := []Op{
		{1, "get", "a", 1}, {2, "put", "a", 1}, {3, "get", "b", 1}, {4, "get", "a", 2}, {5, "delete", "a", 1}, {6, "list", "a/", 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("operations = %v, want %v", got, want)
	}
	if got := s.Count(); got != len(want) {
		t.Errorf("Count() = %d, want %d", got, len(want))
	}
}

// TestFaultyBreaksOperations breaks each kind of operation in each way, on a
// store that holds "was", and looks at the error and at the effect.
func TestFaultyBreaksOperations(t *testing.T) {
	ops := map[string]struct {
		do       func(ctx context.Context, s store.Store) error
		happened func(s store.Store) bool
	}{
		"get": {
			do: func(ctx context.Context, s store.Store) error {
				value, version, err := s.Get(ctx, "was")
				if err != nil && (value != nil || version != store.None) {
					return errors.New("a broken Get returned a value")
				}
				return err
			},
		},
		"put": {
			do: func(ctx context.Context, s store.Store) error {
				_, err := s.Put(ctx, "is", []byte("x"), store.None)
				return err
			},
			happened: func(s store.Store) bool {
				_, _, err := s.Get(t.Context(), "is")
				return err == nil
			},
		},
		"delete": {
			do: func(ctx context.Context, s store.Store) error { return s.Delete(ctx, "was", store.Any) },
			happened: func(s store.Store) bool {
				_, _, err := s.Get(t.Context(), "was")
				return errors.Is(err, fs.ErrNotExist)
			},
		},
		"list": {
			do: func(ctx context.Context, s store.Store) error {
				_, err := list(ctx, s, "")
				return err
			},
		},
	}
	for kind, op := range ops {
		for fault, want := range map[Fault]struct {
			err      error
			happened bool
		}{
			FaultNone:      {nil, true},
			FaultBefore:    {ErrInjected, false},
			FaultAfter:     {ErrInjected, true},
			FaultHang:      {context.DeadlineExceeded, false},
			FaultHangAfter: {context.DeadlineExceeded, true},
		} {
			t.Run(kind+" with "+fault.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := &store.Memory{}
					if err := putAll(t.Context(), m, Values{}, []string{"was"}); err != nil {
						t.Fatal(err)
					}
					s := &Faulty{Store: m, Fault: func(Op) Fault { return fault }}
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					if err := op.do(ctx, s); !errors.Is(err, want.err) {
						t.Errorf("error = %v, want %v", err, want.err)
					}
					if op.happened == nil {
						return
					}
					if got := op.happened(m); got != want.happened {
						t.Errorf("took effect = %v, want %v", got, want.happened)
					}
				})
			})
		}
	}
}

func TestFaultAfterKeepsTheStoresOwnError(t *testing.T) {
	s := &Faulty{Store: &store.Memory{}, Fault: func(Op) Fault { return FaultAfter }}
	if _, err := s.Put(t.Context(), "a", nil, "1"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Put = error %v, want %v", err, store.ErrConflict)
	}
	if err := expectListErr(s, "no slash", store.ErrKey); err != nil {
		t.Error(err)
	}
}

func expectListErr(s store.Store, prefix string, want error) error {
	_, err := list(context.Background(), s, prefix)
	return expectErr("List", err, want)
}

func TestFaultyListMayBeStopped(t *testing.T) {
	m := &store.Memory{}
	if err := putAll(t.Context(), m, Values{}, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	s := &Faulty{Store: m, Fault: func(Op) Fault { return FaultAfter }}
	for range s.List(t.Context(), "") {
		break // a List that yields after this panics
	}
}

func TestFaultyLocatesAsItsStore(t *testing.T) {
	dir := store.NewDir("somewhere")
	if got, want := (&Faulty{Store: dir}).Locate("a/b"), dir.Locate("a/b"); got != want {
		t.Errorf("Locate over a Dir = %q, want %q", got, want)
	}
	if got, want := (&Faulty{Store: &store.Memory{}}).Locate("a/b"), "a/b"; got != want {
		t.Errorf("Locate over a Memory = %q, want %q", got, want)
	}
}

func TestBySeed(t *testing.T) {
	const n = 20000
	var counts [5]int
	differ := false
	fault, again := BySeed(1, "a", 0.2), BySeed(1, "a", 0.2)
	other := BySeed(1, "b", 0.2)
	for i := range n {
		op := Op{N: i, Kind: "put", Key: "leases/example.com", Nth: i}
		f := fault(op)
		counts[f]++
		op.N = -i // what others do must not matter
		if got := again(op); got != f {
			t.Fatalf("the same operation is broken by %v and by %v", f, got)
		}
		differ = differ || other(op) != f
	}
	if !differ {
		t.Error("two nodes have the same faults, want different ones")
	}
	if want := n * 8 / 10; counts[FaultNone] < want*95/100 || counts[FaultNone] > want*105/100 {
		t.Errorf("%d of %d operations are left alone, want about %d", counts[FaultNone], n, want)
	}
	for f, got := range counts[1:] {
		if want := n / 20; got < want*8/10 || got > want*12/10 {
			t.Errorf("%d of %d operations are broken by %v, want about %d", got, n, Fault(f+1), want)
		}
	}
	if none := BySeed(1, "a", 0)(Op{}); none != FaultNone {
		t.Errorf("with a share of 0, a fault is %v, want none", none)
	}
	for i := range 100 {
		if BySeed(1, "a", 1)(Op{Nth: i}) == FaultNone {
			t.Error("with a share of 1, an operation is left alone")
		}
	}
}

func TestFaultHasAName(t *testing.T) {
	if got := Fault(17).String(); !strings.Contains(got, "17") {
		t.Errorf("String() of an unknown fault = %q, want its number in it", got)
	}
}
