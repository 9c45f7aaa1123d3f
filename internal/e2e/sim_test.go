package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// The simulation of years: Domains, nodes, CAs and a Store, and everything
// that goes wrong with them, drawn from a seed. Invariants are checked after
// everything that happens; see sim_check_test.go and sim_witness_test.go.
//
//	go test ./internal/e2e -run TestSimulation                       some seeds
//	go test ./internal/e2e -run TestSimulation -sim.seeds=5000       so many
//	go test ./internal/e2e -run TestSimulation -sim.from=17 -sim.seeds=1 -sim.trace
//
// The last one replays seed 17 with all that the nodes log. Add
// GOMAXPROCS=1: the fewer goroutines run at once, the more is as it was.
// SIM_SEEDS does as -sim.seeds, for scripts that test everything.
var (
	simSeeds = flag.Int("sim.seeds", 0, "how many seeds to simulate; 0: a few")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed")
	simYears = flag.Float64("sim.years", 3, "how many years to simulate")
	simHangs = flag.Bool("sim.hangs", true, "let operations of the Store hang")
	simFar   = flag.Bool("sim.far", true, "let CAs ask for much patience")
	simTrace = flag.Bool("sim.trace", false, "print what happens, also of seeds that do not fail")
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
		return 4
	}
	return 20
}

func TestSimulation(t *testing.T) {
	for i := range seedCount() {
		seed := *simFrom + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, seed)
				s.run(time.Duration(*simYears * float64(year)))
			})
		})
	}
}
