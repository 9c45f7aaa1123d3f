package challengetest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/manageddomains/md/challenge"
)

// records is a Challenger for DNS that keeps its records in memory. With a
// fault it breaks one promise.
type records struct {
	fault string
	mu    sync.Mutex // guards txt
	txt   map[string][]string
}

func (r *records) Types() []string {
	switch r.fault {
	case "no types":
		return nil
	case "unknown type":
		return []string{"dns01"}
	}
	return []string{challenge.TypeDNS01}
}

func (r *records) Present(ctx context.Context, c challenge.Challenge) error {
	if ctx.Err() != nil && r.fault != "lies after the end" {
		return ctx.Err()
	}
	if r.fault == "presents nothing" || ctx.Err() != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault == "keeps one value" {
		r.txt[c.TXTName()] = nil
	}
	if r.fault == "keeps one name" {
		clear(r.txt)
	}
	name := c.TXTName()
	if r.fault == "counts" || !r.has(c) {
		r.txt[name] = append(r.txt[name], c.TXTValue())
	}
	return nil
}

func (r *records) CleanUp(ctx context.Context, c challenge.Challenge) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.has(c) && r.fault == "misses what is not there" {
		return os.ErrNotExist
	}
	if r.fault == "never cleans up" {
		return nil
	}
	if r.fault == "cleans up too much" {
		delete(r.txt, c.TXTName())
	}
	var kept []string
	removed := false
	for _, v := range r.txt[c.TXTName()] {
		if v != c.TXTValue() || r.fault == "counts" && removed {
			kept = append(kept, v)
			continue
		}
		removed = true
	}
	r.txt[c.TXTName()] = kept
	return nil
}

// has reports whether c is there; r.mu is held.
func (r *records) has(c challenge.Challenge) bool {
	for _, v := range r.txt[c.TXTName()] {
		if v == c.TXTValue() {
			return true
		}
	}
	return false
}

func (r *records) see(_ *testing.T, _ context.Context, c challenge.Challenge) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has(c)
}

// forgetful is another process that does not know what the first one did.
type forgetful struct{ *records }

func (forgetful) CleanUp(context.Context, challenge.Challenge) error { return nil }

func TestRunIsContentWithAGoodChallenger(t *testing.T) {
	r := &records{txt: make(map[string][]string)}
	Run(t, r, r.see, r)
}

// TestRunFinds is run by TestRunFindsEachFault in a process of its own,
// because it is to fail.
func TestRunFinds(t *testing.T) {
	fault, ok := os.LookupEnv("CHALLENGETEST_FAULT")
	if !ok {
		t.Skip("it is part of TestRunFindsEachFault")
	}
	r := &records{fault: fault, txt: make(map[string][]string)}
	if fault == "forgets between instances" {
		Run(t, r, r.see, forgetful{r})
		return
	}
	Run(t, r, r.see)
}

func TestRunFindsEachFault(t *testing.T) {
	for fault, promise := range map[string]string{
		"no types":                  "its types are known to CAs",
		"unknown type":              "its types are known to CAs",
		"presents nothing":          "Present makes the answer visible",
		"never cleans up":           "Present makes the answer visible",
		"counts":                    "Present may be called twice",
		"keeps one value":           "two values for one name can be pending",
		"keeps one name":            "two names can be pending",
		"cleans up too much":        "CleanUp takes only its own answer away",
		"misses what is not there":  "CleanUp needs no Present",
		"forgets between instances": "CleanUp works from another instance",
		"lies after the end":        "an ended context is obeyed or does no harm",
	} {
		t.Run(fault, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRunFinds$")
			cmd.Env = append(os.Environ(), "CHALLENGETEST_FAULT="+fault)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("a Challenger that %s passes:\n%s", fault, out)
			}
			want := strings.ReplaceAll(promise, " ", "_") + " ("
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "--- FAIL") && strings.Contains(line, want) {
					return
				}
			}
			t.Errorf("no failure of %q in:\n%s", promise, out)
		})
	}
}
