package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The simulation of years: Domains, nodes, CAs and a Store, and everything
// that goes wrong with them, drawn from a seed. Each operation of a Store and
// of a CA takes its time, so that nodes really work at once. What must hold is
// checked every few hours, soon after each event, and at the end of each
// certificate that is served (sim_check_test.go); and at each change of the
// Store (sim_witness_test.go):
//
//   - No expired certificate is served while a CA would have given another,
//     for eight days in one piece, or a third of its life if that is less.
//
//   - No CA refuses an order because of its limits; none has more accounts
//     than it was made to forget, and one.
//
//   - Two certificates for the same need a reason, and none is lost that was
//     issued: it has stood in the Store.
//
//   - Nothing is removed from the Store but what is old, and no Set is written
//     at any version.
//
//   - Nobody's answers to challenges and no goroutine are left in the end.
//
//     go test ./internal/e2e -run TestSimulation            12 seeds, a year each
//     go test ./internal/e2e -run TestSimulation -short     2 of them
//
// Many seeds go best in as many processes as there are cores, with one thread
// each; what fails there fails again:
//
//	go test -c -o /tmp/sim.test ./internal/e2e
//	cd internal/e2e
//	GOMAXPROCS=1 /tmp/sim.test -test.run '^TestSimulation$' -sim.from=1 -sim.seeds=150 -sim.years=3 -test.timeout=30m
//
// A year takes about half a second. SIM_SEEDS does as -sim.seeds, for scripts
// that test everything.
//
//	GOMAXPROCS=1 go test ./internal/e2e -run '^TestSimulation$' -sim.from=17 -sim.seeds=1 -sim.trace
//
// replays seed 17 with all that the nodes log; with SIM_TRACE the trace goes to
// that file. With one thread the same seed has the same trace, to the byte.
//
// What is forgiven, and why:
//   - While a node's clock is wrong, and a day longer, nothing has to be
//     renewed, and for eight days limits may not be kept: times that it has
//     written are obeyed until they are found out.
//   - Where a CA asks for days of patience, a Domain that has no other CA may
//     wait for them.
//   - A certificate may be left behind, and another ordered, when the clock was
//     wrong, the Domains have changed or the CA has forgotten its accounts in
//     between; or when the Domain has turned to another CA before the first had
//     delivered: then the order and its key are in the archive.
//   - A Domain that is taken out of the configuration after a crash, and before
//     the next start, leaves its challenges' answers behind: its job remembers
//     them until it comes back.
var (
	simSeeds = flag.Int("sim.seeds", 0, "how many seeds to simulate; 0: a few")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed")
	simYears = flag.Float64("sim.years", 1, "how many years to simulate")
	simTrace = flag.Bool("sim.trace", false, "trace what the nodes log, and print it, also of seeds that do not fail")
)

// year is what a simulated year has.
const year = 365 * day

func seedCount() int {
	if *simSeeds > 0 {
		return *simSeeds
	}
	if n, err := strconv.Atoi(os.Getenv("SIM_SEEDS")); err == nil && n > 0 {
		return n
	}
	if testing.Short() || raceEnabled {
		return 2
	}
	return 12
}

func TestSimulation(t *testing.T) {
	keyPool() // outside the bubbles
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	for i := range seedCount() {
		seed := *simFrom + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			if runtime.GOMAXPROCS(0) > 1 {
				t.Parallel()
			}
			synctest.Test(t, func(t *testing.T) {
				newSim(t, seed, time.Duration(*simYears*float64(year))).run()
			})
		})
	}
}

// A seed that fails is of use only if it fails again.
func TestSimulationIsReplayedToTheByte(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector lets goroutines run in any order")
	}
	keyPool()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	traceOf := func(seed uint64) (text string) {
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, seed, year/3)
			s.verbose = true
			s.run()
			text = s.log.text()
		})
		return text
	}
	for _, seed := range []uint64{2, 5, 7} {
		got, want := strings.Split(traceOf(seed), "\n"), strings.Split(traceOf(seed), "\n")
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("seed %d, line %d:\n%s\nand in the replay:\n%s", seed, i+1, got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Errorf("seed %d has %d lines, and %d in the replay", seed, len(got), len(want))
		}
	}
}
