package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// childEnv makes the test binary do something else than test: be another
// process that uses a Dir.
const childEnv = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(runChild(what, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// children are what another process may do with a Dir.
var children = map[string]func(ctx context.Context, d *Dir, args []string) error{
	"count":  countUpInChild,
	"churn":  churnInChild,
	"killed": killedInChild,
}

func runChild(what string, args []string) int {
	if err := children[what](context.Background(), NewDir(args[0]), args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, what, err)
		return 1
	}
	return 0
}

// child returns the command that runs one of children on root.
func child(t *testing.T, what, root string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, append([]string{root}, args...)...)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

// countUpInChild adds 1 to a key, n times, by compare-and-swap.
func countUpInChild(ctx context.Context, d *Dir, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		if err := addOne(ctx, d, "counter"); err != nil {
			return err
		}
	}
	return nil
}

func addOne(ctx context.Context, d *Dir, key string) error {
	for {
		value, version, err := d.Get(ctx, key)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(value))
		if err != nil {
			return err
		}
		_, err = d.Put(ctx, key, []byte(strconv.Itoa(n+1)), version)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

func TestDirLosesNoUpdateOfManyProcesses(t *testing.T) {
	const processes, goroutines, each = 3, 2, 40
	root := filepath.Join(t.TempDir(), "root")
	d := NewDir(root)
	mustPut(t, d, "counter", "0")
	var wg sync.WaitGroup
	for range processes {
		cmd := child(t, "count", root, strconv.Itoa(each))
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	for range goroutines {
		wg.Go(func() {
			for range each {
				if err := addOne(t.Context(), d, "counter"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := read(t, d, "counter"), strconv.Itoa((processes+goroutines)*each); got != want {
		t.Errorf("the counter is %s, want %s", got, want)
	}
}

// proven returns a value of random length that shows whether it is whole.
func proven() []byte {
	body := strings.Repeat("x", rand.IntN(50_000))
	return fmt.Appendf(nil, "%016x %s", checksum(body), body)
}

func isProven(value []byte) bool {
	sum, body, _ := strings.Cut(string(value), " ")
	return sum == fmt.Sprintf("%016x", checksum(body))
}

func checksum(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64() + uint64(len(s))
}

// churnInChild replaces and removes keys until it is killed, and says when it
// has done some.
func churnInChild(ctx context.Context, d *Dir, _ []string) error {
	for i := 0; ; i++ {
		key := fmt.Sprintf("a/%d/x", i%5)
		if i%7 == 0 {
			if err := d.Delete(ctx, key, Any); err != nil {
				return err
			}
		} else if _, err := d.Put(ctx, key, proven(), Any); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestDirSurvivesKilledWriters kills processes that write, while this one
// reads: all values are whole, and no leftovers stay.
func TestDirSurvivesKilledWriters(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	d := NewDir(root)
	for round := range 6 {
		cmd := child(t, "churn", root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 10 + rand.IntN(20) { // it dies wherever it happens to be
			if !lines.Scan() {
				t.Fatal("the writer ended by itself")
			}
			checkWhole(t, d)
		}
		cmd.Process.Kill()
		cmd.Wait()
		checkWhole(t, d)
		t.Logf("round %d: temporary files left: %d", round, len(tempsIn(t, d)))
	}
	for i := range 5 {
		mustPut(t, d, fmt.Sprintf("a/%d/x", i), string(proven()))
	}
	if temps := tempsIn(t, d); len(temps) > 0 {
		t.Errorf("temporary files are left after each key was put: %q", temps)
	}
}

func checkWhole(t *testing.T, d *Dir) {
	t.Helper()
	for e, err := range d.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !isProven(e.Value) {
			t.Errorf("%s has a torn value of %d bytes", e.Key, len(e.Value))
		}
	}
}

// killedInChild runs one of faultScenarios and dies at a step: the
// arguments are the scenario's name, the number of the step, and when.
func killedInChild(ctx context.Context, d *Dir, args []string) error {
	at, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	count := 0
	d.disk = stepDisk{step: func(_, _ string, do, doHalf func() error) error {
		count++
		if count != at {
			return do()
		}
		switch {
		case args[2] == after.String():
			do()
		case args[2] == half.String() && doHalf != nil:
			doHalf()
		}
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		self.Kill()
		select {}
	}}
	return faultScenarios[args[0]].do(ctx, d)
}

// TestDirSurvivesDeathAtEachStep lets a process die before, after, and amid
// each step of a write.
func TestDirSurvivesDeathAtEachStep(t *testing.T) {
	for name, scenario := range faultScenarios {
		steps := 0
		for _, how := range []breakage{before, after, half} {
			for at := 1; steps == 0 || at <= steps; at++ {
				if at > 100 {
					t.Fatalf("%s does not come to an end", name)
				}
				d := NewDir(filepath.Join(t.TempDir(), "root"))
				if scenario.old != "" {
					mustPut(t, d, "x/y", scenario.old)
				}
				if err := child(t, "killed", d.path, name, strconv.Itoa(at), how.String()).Run(); err == nil {
					steps = at - 1 // it has finished before that step
					break
				}
				checkAfterFault(t, d, &breaker{}, errors.New("killed"), scenario.old, scenario.new)
				if t.Failed() {
					t.Fatalf("that was %s, killed at step %d, %v", name, at, how)
				}
			}
		}
		if steps < 5 {
			t.Errorf("%s has %d steps, want more", name, steps)
		}
	}
}
