package acmetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// everyFault are those that Op faults can be.
var everyFault = []Fault{
	FaultBefore, FaultAfter, FaultHang, FaultBadNonce, Fault500, Fault503, Fault429, FaultGarbage, FaultHuge,
}

func TestEveryRequestBrokenInEveryWay(t *testing.T) {
	scenario := func(t *testing.T, fault func(Op) Fault) *CA {
		s := newSite()
		ca := &CA{LookupTXT: s.lookupTXT, Fault: fault}
		h := newHonest(t, ca, s, "mailto:a@x.test")
		if err := h.obtain(t.Context(), 2, "a.test", "b.test"); err != nil {
			t.Errorf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
		}
		ca.Close()
		return ca
	}
	var ops int
	synctest.Test(t, func(t *testing.T) {
		for _, n := range scenario(t, nil).Requests() {
			ops += n
		}
	})
	if ops < 20 {
		t.Fatalf("the scenario has only %d requests", ops)
	}
	for _, fault := range everyFault {
		t.Run("by "+fault.String(), func(t *testing.T) {
			for n := 1; n <= ops; n++ {
				synctest.Test(t, func(t *testing.T) {
					ca := scenario(t, func(op Op) Fault {
						if op.N == n {
							return fault
						}
						return FaultNone
					})
					if got := len(ca.Accounts()); got != 1 {
						t.Errorf("request %d broken: %d accounts, want 1", n, got)
					}
				})
			}
		})
	}
}

func TestHonestClientsSucceed(t *testing.T) {
	for _, share := range []float64{0.1, 0.5, 1} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("with all shares %v and seed %d", share, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSite()
					ca := &CA{Seed: seed, Faults: Everything(share), LookupTXT: s.lookupTXT, AuthzReuse: share}
					defer ca.Close()
					h := newHonest(t, ca, s, "mailto:a@x.test")
					// Twice, because counting begins again after a success.
					for range 2 {
						if err := h.obtain(t.Context(), 40, "a.test", "b.test"); err != nil {
							t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
						}
					}
					t.Logf("%d attempts", h.attempts)
				})
			})
		}
	}
}

func TestNoMoreThanTwoFaultsPerObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		ca := &CA{Faults: Faults{LostRequest: 1}, LookupTXT: s.lookupTXT}
		defer ca.Close()
		h := newHonest(t, ca, s, "mailto:a@x.test")
		for round := 1; round <= 3; round++ {
			if err := h.obtain(t.Context(), 1, "a.test"); err != nil {
				t.Fatal(err)
			}
			for _, kind := range []string{kindNewOrder, kindOrder, kindAuthz, kindChallenge, kindFinalize, kindCertificate} {
				lost := 0
				for _, line := range ca.Trace() {
					if strings.Contains(line, " "+kind+" a.test → lost") {
						lost++
					}
				}
				if want := maxHits * round; lost != want {
					t.Errorf("after %d certificates %d of %s were lost, want %d", round, lost, kind, want)
				}
			}
		}
	})
}

func TestEqualSeedsGiveEqualFaults(t *testing.T) {
	const clients = 6
	// run returns what happened to each object, with one client after the
	// other or all at once.
	run := func(t *testing.T, seed uint64, together bool) map[string][]string {
		s := newSite()
		ca := &CA{Seed: seed, Faults: Everything(0.3), LookupTXT: s.lookupTXT}
		defer ca.Close()
		var all sync.WaitGroup
		for i := range clients {
			h := newHonest(t, ca, s, fmt.Sprintf("mailto:%d@x.test", i))
			work := func() {
				name := string(rune('a'+i)) + ".test"
				if err := h.obtain(t.Context(), 60, name, "www."+name); err != nil {
					t.Error(err)
				}
			}
			if together {
				all.Go(work)
			} else {
				work()
			}
		}
		all.Wait()
		happened := map[string][]string{}
		for _, line := range ca.Trace() {
			_, line, _ = strings.Cut(line, " ") // the number
			what, outcome, _ := strings.Cut(line, " → ")
			if strings.Contains(what, ".test") {
				happened[what] = append(happened[what], outcome)
			}
		}
		return happened
	}
	var one, two, other map[string][]string
	synctest.Test(t, func(t *testing.T) { one = run(t, 7, false) })
	synctest.Test(t, func(t *testing.T) { two = run(t, 7, true) })
	synctest.Test(t, func(t *testing.T) { other = run(t, 8, false) })
	for _, what := range slices.Sorted(maps.Keys(one)) {
		// Directory and nonces are shared: a client that met their faults in
		// another order may have asked more often, but nothing else.
		common := min(len(one[what]), len(two[what]))
		if !slices.Equal(one[what][:common], two[what][:common]) {
			t.Errorf("%s:\n one after the other %q\n all at once         %q", what, one[what], two[what])
		}
	}
	if len(one) < 5*clients || len(one) != len(two) {
		t.Errorf("%d and %d objects were seen", len(one), len(two))
	}
	if reflect.DeepEqual(one, other) {
		t.Error("another seed gives the same faults")
	}
}

func TestFaultsAsTheClientSeesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var next Fault
		ca := &CA{Fault: func(op Op) Fault {
			if op.Kind == kindNewOrder {
				return next
			}
			return FaultNone
		}, LookupTXT: newSite().lookupTXT}
		defer ca.Close()
		w := registered(t, ca)
		tests := []struct {
			fault  Fault
			status int // 0: no answer
			typ    string
			orders int // made
			took   time.Duration
		}{
			{FaultBefore, 0, "", 0, 0},
			{FaultAfter, 0, "", 1, 0},
			{FaultHang, 0, "", 0, time.Minute},
			{FaultBadNonce, 400, badNonce, 0, 0},
			{Fault500, 500, serverInternal, 0, 0},
			{Fault503, 503, serverInternal, 0, 0},
			{Fault429, 429, rateLimited, 0, 0},
			{FaultHuge, 0, "", 1, 0},
		}
		for _, tt := range tests {
			next = tt.fault
			before, start := len(ca.Orders()), time.Now()
			a, err := w.try(t.Context(), w.url("newOrder"), orderFor("a.test"), alter{})
			if got := len(ca.Orders()) - before; got != tt.orders {
				t.Errorf("%v: %d orders were made, want %d", tt.fault, got, tt.orders)
			}
			if got := time.Since(start); got != tt.took {
				t.Errorf("%v took %v, want %v", tt.fault, got, tt.took)
			}
			if tt.status == 0 {
				if err == nil {
					t.Errorf("%v: got %d, want no answer", tt.fault, a.status)
				}
				continue
			}
			if err != nil {
				t.Errorf("%v: %v", tt.fault, err)
				continue
			}
			wantProblem(t, a, tt.status, tt.typ)
		}
		next = FaultHang
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.try(ctx, w.url("newOrder"), orderFor("a.test"), alter{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hanging request ends with %v, want the context's error", err)
		}
	})
}

func TestDown(t *testing.T) {
	ca := &CA{}
	defer ca.Close()
	w := newWire(t, ca)
	ca.SetDown(true)
	if err := w.discover(t.Context(), ca); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a CA that is down gives %v, want ECONNREFUSED", err)
	}
	ca.SetDown(false)
	if err := w.discover(t.Context(), ca); err != nil {
		t.Errorf("a CA that is up again gives %v", err)
	}
}

// Whoever asks meanwhile has nothing in common with who changes the CA but the
// CA itself, which is what the race detector looks at here.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &CA{}
		defer ca.Close()
		url, client := ca.DirectoryURL(), ca.Client()
		answers := make(chan int, 4)
		go func() {
			defer close(answers)
			for range cap(answers) {
				time.Sleep(time.Second)
				resp, err := client.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				answers <- resp.StatusCode
			}
		}()
		for _, fault := range []Fault{Fault500, FaultNone} {
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			ca.Change(func() { ca.Fault = func(Op) Fault { return fault } })
		}
		var got []int
		for status := range answers {
			got = append(got, status)
		}
		if want := []int{200, 500, 500, 200}; !slices.Equal(got, want) {
			t.Errorf("the directory was answered with %v, want %v", got, want)
		}
	})
}

func TestNames(t *testing.T) {
	for _, f := range everyFault {
		if s := f.String(); strings.HasPrefix(s, "Fault(") {
			t.Errorf("a fault has no name: %s", s)
		}
	}
	if got, want := Fault(99).String(), "Fault(99)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := Wrong(99).String(), "Wrong(99)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
