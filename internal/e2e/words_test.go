package e2e_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// vocabulary is all words that scripts know, by the title under which
// testdata/README.md lists them.
func vocabulary() map[string][]string {
	return map[string][]string{
		"Commands":           sorted(verbs),
		"ca NAME":            sorted(caVerbs),
		"ca NAME fault KIND": sorted(faultWords),
		"ca NAME unfair":     sorted(sharesOf(new(acmetest.Faults))),
		"form":               sorted(retryForms),
		"store":              sorted(storeWords),
		"store fault KIND":   sorted(diskFaults),
		"notifier":           slices.Sorted(slices.Values(notifierWords)),
		"dns":                sorted(dnsWords),
		"network":            sorted(networkWords),
		"expect":             sorted(expectWords),
	}
}

func sorted[T any](words map[string]T) []string { return slices.Sorted(maps.Keys(words)) }

var listed = regexp.MustCompile("^- `([^ `]+)")

// readWords returns the words that testdata/README.md lists under each title.
func readWords(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	words := make(map[string][]string)
	title := ""
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "## "); ok {
			title = strings.TrimSpace(rest)
		} else if m := listed.FindStringSubmatch(line); m != nil {
			words[title] = append(words[title], m[1])
		}
	}
	return words
}

func TestTheListOfWordsIsTrue(t *testing.T) {
	told := readWords(t)
	for title, want := range vocabulary() {
		got := slices.Sorted(slices.Values(told[title]))
		if !slices.Equal(got, want) {
			t.Errorf("testdata/README.md lists under %q\n%q, scripts know\n%q", title, got, want)
		}
		delete(told, title)
	}
	if len(told) > 0 {
		t.Errorf("testdata/README.md lists words that stand for nothing: %q", told)
	}
}

// TestTheListTellsOfOptions takes the options from the scenarios: one that is
// used must stand there.
func TestTheListTellsOfOptions(t *testing.T) {
	text, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := append(sorted(counts), slices.Concat(requestKinds, eventKinds, storePrefixes)...)
	for _, script := range scenarios(t) {
		for _, l := range script.lines {
			c, err := parseCommand(l.text)
			if err != nil {
				t.Fatalf("%s:%d: %v", script.file, l.number, err)
			}
			for _, o := range c.options {
				if o.name == "within" && c.words[0] == "wait" || slices.Contains(known, o.name) {
					continue
				}
				if told := regexp.MustCompile(`[\[ ]` + o.name + `[=<~]`); !told.Match(text) {
					t.Errorf("testdata/README.md does not tell of %s%s, which %s:%d uses", o.name, o.op, script.file, l.number)
				}
			}
		}
	}
}
