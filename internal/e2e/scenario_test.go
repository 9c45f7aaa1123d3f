package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// TestScenarios plays each file of testdata in a bubble of its own; its words
// are in testdata/README.md. To play one of them:
// go test -run 'TestScenarios/NAME' -v
func TestScenarios(t *testing.T) {
	keys := new(keyring)
	for i, script := range scenarios(t) {
		if testing.Short() && i%4 != 0 {
			continue // with the race detector they take long
		}
		t.Run(script.title(), func(t *testing.T) {
			if len(script.variants) == 0 {
				playScenario(t, script, keys)
			}
			for _, value := range script.variants {
				t.Run(value, func(t *testing.T) { playScenario(t, script.variant(value), keys) })
			}
		})
	}
}

// scenarios reads all files of testdata.
func scenarios(t *testing.T) []*scenario {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var all []*scenario
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		script, err := parseScenario(file, string(text))
		if err != nil {
			t.Error(err)
			continue
		}
		all = append(all, script)
	}
	return all
}

// playScenario plays one scenario and tells where it went wrong.
func playScenario(t *testing.T, script *scenario, keys *keyring) {
	t.Helper()
	t.Log(script.ensures)
	if number, account, err := perform(t, script, keys); err != nil {
		t.Errorf("%s:%d: %v\n\n%s\n%s", script.file, number, err, script.marked(number), account)
	}
}

// perform plays a scenario up to the first line that fails, and returns its
// number, with an account of what has happened.
func perform(t *testing.T, script *scenario, keys *keyring) (number int, account string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, script, keys)
		number, err = s.playAll()
		closeErr := s.close()
		if err == nil {
			err = closeErr
		}
		if err != nil {
			account = s.account()
		}
	})
	return number, account, err
}

// playAll plays the script up to the first line that fails.
func (s *stage) playAll() (number int, err error) {
	for _, l := range s.script.lines {
		number = l.number
		if err := s.play(l.text); err != nil {
			return number, err
		}
	}
	return number, nil
}

// account is what a reader needs to find out what went wrong: the events, the
// log, and what the CAs saw.
func (s *stage) account() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the events:\n%s\n", trail(s.news.text(s.began), 60))
	for _, name := range s.caNames {
		fmt.Fprintf(&b, "\nca %s saw:\n%s\n", name, trail(strings.Join(s.cas[name].Trace(), "\n"), 60))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&b, "\nthe log:\n%s\n", trail(s.log.String(), 150))
	s.log.Reset()
	return b.String()
}
