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
// that goes wrong with them, drawn from a seed. Invariants are checked every
// few hours, and at each change of the Store; see sim_check_test.go and
// sim_witness_test.go.
//
//	go test ./internal/e2e -run TestSimulation                       12 seeds, a year each
//	go test ./internal/e2e -run TestSimulation -short                2 of them
//	go test ./internal/e2e -run TestSimulation -sim.seeds=300 -sim.years=3 -timeout=2h
//	GOMAXPROCS=1 go test ./internal/e2e -run TestSimulation -sim.from=17 -sim.seeds=1 -sim.trace
//
// A year takes two to four seconds of one core. SIM_SEEDS does as -sim.seeds,
// for scripts that test everything; with SIM_TRACE the trace of the last seed
// that fails goes to that file.
//
// The last command replays seed 17 with all that the nodes log. What goes wrong
// is the same each time. What the nodes do with it is nearly so: where two
// goroutines are ready at one moment, nobody says which goes first, and a seed
// that fails rarely may have to be replayed some times.
//
// What is forgiven, and why:
//   - While a node's clock is wrong, and two weeks longer, nothing has to be
//     renewed: the times that it has written are obeyed.
//   - Where a CA asks for patience without measure (-sim.far), a Domain that
//     has no other may wait for the week that it is given.
//   - Without -sim.strict, an issued certificate may be left behind when its
//     Domain turns to another CA before it was fetched, and when a node has not
//     heard that the account was registered again by another.
var (
	simSeeds  = flag.Int("sim.seeds", 0, "how many seeds to simulate; 0: a few")
	simFrom   = flag.Uint64("sim.from", 1, "the first seed")
	simYears  = flag.Float64("sim.years", 1, "how many years to simulate")
	simHangs  = flag.Bool("sim.hangs", true, "let operations of the Store hang")
	simFar    = flag.Bool("sim.far", true, "let CAs ask for much patience")
	simStrict = flag.Bool("sim.strict", false, "forgive no certificate that was left behind with another CA or account")
	simTrace  = flag.Bool("sim.trace", false, "trace what the nodes log, and print it, also of seeds that do not fail")
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
