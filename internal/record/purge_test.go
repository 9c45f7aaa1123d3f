package record

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// What a CA has said is removed when it is over, and nothing else.
func TestPurgeLimits(t *testing.T) {
	over, ahead := moment.Add(-time.Second), moment.Add(time.Hour)
	limits := map[string]struct {
		Limit
		kept bool
	}{
		"empty":    {},
		"over":     {Limit: Limit{Until: over, Said: over, Why: "too many", Failures: over}},
		"until":    {Limit{Until: ahead}, true},
		"parked":   {Limit{Until: ahead, Parked: true}, true},
		"orders":   {Limit{Until: over, Orders: ahead}, true},
		"failures": {Limit{Failures: ahead}, true},
	}
	memory := new(store.Memory)
	r := &Records{Store: memory}
	put(t, memory, "limits/broken", []byte("x"))
	put(t, memory, "leases/a", []byte("x"))
	for name, l := range limits {
		data, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		put(t, memory, limitKey(directory, DefaultAccount, name), data)
	}
	after := ""
	for range len(limits) + 2 { // one at a time
		last, err := r.PurgeLimits(t.Context(), after, 1, moment)
		if err != nil {
			t.Fatal(err)
		}
		if after = last; after == "" {
			break
		}
	}
	if after != "" {
		t.Errorf("it does not come to an end: %q", after)
	}
	left := contents(t, memory)
	for name, l := range limits {
		if _, kept := left[limitKey(directory, DefaultAccount, name)]; kept != l.kept {
			t.Errorf("%s is kept: %v, want %v", name, kept, l.kept)
		}
	}
	if len(left) != 6 {
		t.Errorf("the Store has %d values, want 6", len(left))
	}
}

func TestPurgeLimitsSaysWhatFailed(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint("operation ", n+1), func(t *testing.T) {
			memory := new(store.Memory)
			put(t, memory, limitKey(directory, DefaultAccount, "a"), []byte("{}"))
			faulty := &storetest.Faulty{Store: memory, Fault: func(op storetest.Op) storetest.Fault {
				if op.N == n+1 {
					return storetest.FaultBefore
				}
				return storetest.FaultNone
			}}
			last, err := (&Records{Store: faulty}).PurgeLimits(t.Context(), "l", 10, moment)
			if !errors.Is(err, storetest.ErrInjected) || !strings.Contains(err.Error(), "limit") || last != "l" {
				t.Errorf("got %q, %v", last, err)
			}
		})
	}
}
