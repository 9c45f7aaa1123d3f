package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAScenarioThatCannotBeReadIsRefused(t *testing.T) {
	const good = "It ensures something.\n\n-- script --\nca one\nexpect ca one orders=0\n"
	if _, err := parseScenario("good.txtar", good); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	tests := []struct{ name, text, want string }{
		{"empty", "", "does not begin with a sentence"},
		{"without a comment", "-- script --\nexpect ready\n", "does not begin with a sentence"},
		{"with a comment that is no sentence", "some notes\n-- script --\nexpect ready\n", "does not begin with a sentence"},
		{"without a script", "It ensures nothing.\n-- scrpt --\nexpect ready\n", `no section "script"`},
		{"with a script of remarks", "It ensures nothing.\n-- script --\n# expect ready\n\n", `no section "script"`},
		{"that checks nothing", "It ensures nothing.\n-- script --\nca one\ndomain example.com\nnode a\nwait 1d\n", "expect something"},
		{"with each, but no values", "It ensures it.\n-- script --\neach WORD:\nexpect ready\n", `want "each WORD`},
		{"with each, but no word", "It ensures it.\n-- script --\neach : a b\nexpect ready\n", `want "each WORD`},
		{"with each, but no colon", "It ensures it.\n-- script --\neach WORD a b\nexpect ready\n", `want "each WORD`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseScenario("bad.txtar", test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "bad.txtar") {
				t.Errorf("got error %v, want one that begins with the file and says %q", err, test.want)
			}
		})
	}
}

func TestEachTakesTheVariablesPlace(t *testing.T) {
	script, err := parseScenario("x.txtar", "It ensures it.\nMore of it.\n-- script --\neach WORD: down up\n\nca one $WORD\nexpect ca one $WORD=1\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := script.ensures, "It ensures it."; got != want {
		t.Errorf("it ensures %q, want %q", got, want)
	}
	var got []string
	for _, value := range script.variants {
		for _, l := range script.variant(value).lines {
			got = append(got, l.text)
		}
	}
	want := []string{"ca one down", "expect ca one down=1", "ca one up", "expect ca one up=1"}
	if !slices.Equal(got, want) {
		t.Errorf("the lines are %q, want %q", got, want)
	}
	if got := script.lines[0].number; got != 6 {
		t.Errorf("the first line has number %d, want 6", got)
	}
}

// TestALineThatMakesNoSenseFails plays scripts of which the last line is
// wrong. Before it, a CA, a Domain and a node are there.
func TestALineThatMakesNoSenseFails(t *testing.T) {
	tests := []struct {
		want  string
		lines []string
	}{
		{"unknown word", []string{
			"expct ready", "ca one dwn", "ca one unfair wrong-colour", "ca one fault newOder lost", "ca one fault newOrder lsot",
			"ca one fault newOrder 429 form=roman", "store fall", "store fault pt lost", "store fault put lsot", "dns gone", "network gone",
			"notifier sleeps", "notifier fails renewd", "expect srved example.com", "expect status example.com pending atempts=0",
			"expect ca one newOder=1", "expect store archve=0", "expect events renwed=0", "wait until expect ready within=1d",
			"expect served example.com fallback trailing", "expect ca one orders=0 trailing", "wait 1s 2s",
			"stop a force=yes", "renew example.com key=P-256 error~refused", "expect served example.com fallback on=a on=b",
			"domain example.org colour=red", "domain example.org challenges=smoke", "clock a +1s x=y",
		}},
		{"it lacks", []string{
			"ca", "ca one unfair", "ca one fault", "ca one fault newOrder", "ca one refuses", "ca one refuses example.com", "ca one accepts",
			"ca one changes-terms", "ca one revokes", "ca one unpauses", "ca one renewal-info window=1d..2d", "domain", "domain name=x", "remove",
			"node", "stop", "kill", "restart", "freeze", "thaw", "renew", "activate", "revoke", "restore", "store", "store slow", "store fault put",
			"store put", "store put accounts/", "notifier", "dns", "dns slow", "network", "network blocks", "clock", "wait", "expect",
			"wait until within=1d", "expect served", "expect status", "expect status example.com", "expect events",
			"expect ca", "expect ca one", "expect store", "expect log",
		}},
		{"is not a duration", []string{
			"wait long", "wait 1x", "wait d", "wait +-1d", "wait 1d-2h", "wait 999999999999d", "clock a tomorrow", "clock a +1s +2s", "clock +",
			"store slow soon", "ca two lifetime=long", "wait until ready within=soon", "domain example.org delay=d",
		}},
		{"there is no", []string{
			"stop b", "expect ready on=b", "remove example.org", "expect ca two orders=0", "domain example.org cas=two", "store restore",
		}},
		{"invalid syntax", []string{
			"expect ca one orders=few", "node b failover=often", "store fault put lost times=many", "ca one pause-after=x",
		}},
		{"a quote is not closed", []string{`expect log "text`}},
		{"needs within=", []string{"wait until ready"}},
		{"not within 1h0m0s", []string{"wait until ready within=1h"}},
		{"runs already", []string{"node a"}},
		{"not both", []string{"expect events renewing errored=0"}},
		{"neither on nor off", []string{"domain example.org ari=maybe"}},
		{"has no section", []string{"store put jobs/example.com nothing"}},
		{"no such certificate", []string{"ca one revokes example.com", "ca one renewal-info example.com window=1d..2d"}},
		{"got orders=0", []string{"expect ca one orders=3", "expect ca one orders>=1"}},
		{"want valid", []string{"expect served example.com valid"}},
		{"want good", []string{"expect status example.com good"}},
		{"want \"installed\"", []string{"expect events installed"}},
		{"not managed", []string{"renew example.org"}},
		{"one that says", []string{"renew example.com error~nonsense", "activate example.com error~nonsense"}},
		{"the status knows no", []string{"expect status example.org good"}},
		{"the log does not say", []string{`expect log "pigs fly"`}},
	}
	keys := new(keyring)
	for _, test := range tests {
		for _, text := range test.lines {
			t.Run(text, func(t *testing.T) {
				script, err := parseScenario("x.txtar", "It fails.\n-- script --\nca one\nca one down\ndomain example.com\nnode a\nexpect ca one orders=0\n"+text+"\n")
				if err != nil {
					t.Fatal(err)
				}
				number, _, err := perform(t, script, keys)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got error %v, want one that says %q", err, test.want)
				}
				if last := 8; number != last {
					t.Errorf("it failed at line %d, want %d", number, last)
				}
			})
		}
	}
}

func TestParseSpan(t *testing.T) {
	tests := map[string]time.Duration{
		"61d": 61 * day, "160h": 160 * time.Hour, "1d12h": 36 * time.Hour, "+3d": 3 * day, "-90m": -90 * time.Minute, "-1d12h": -36 * time.Hour, "0s": 0,
	}
	for text, want := range tests {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("parseSpan(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzParseTxtar(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			f.Add(string(text))
		}
	}
	for _, seed := range []string{"", "-- --\n", "-- a --", "-- a --\n-- b --\n", "--a--\n", "-- a -- \r\nx", "x\n-- a\n-- a --x\n", "-- -- --\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		comment, sections := parseTxtar(text)
		lines := slices.Collect(strings.Lines(text))
		all := comment
		for _, s := range sections {
			if s.line < 2 || s.line-2 >= len(lines) {
				t.Fatalf("section %q begins at line %d of %d", s.name, s.line, len(lines))
			}
			marker := lines[s.line-2]
			if name, ok := sectionName(marker); !ok || name != s.name {
				t.Errorf("before section %q stands %q", s.name, marker)
			}
			all += marker + s.text
		}
		if all != text {
			t.Errorf("the parts together are %q, want %q", all, text)
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{
		"", " ", `""`, `"`, `a "b c" d`, "keys=P-256,RSA-2048", `error~"too many"`, "attempts<=3 staged>=1", `"keys=x"`, `a"b"c`, "x=", "=x", "<=", "a  b",
		`domain *.example.com name=wild challenges=dns-01`, `log~"a=b"`, "münchen.example", "a=\n", "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCommand(text)
		if err != nil {
			return
		}
		again, err := parseCommand(c.text())
		if err != nil {
			t.Fatalf("%q, written as %q: %v", text, c.text(), err)
		}
		if !slices.Equal(again.words, c.words) || !slices.Equal(again.options, c.options) {
			t.Errorf("%q is %q %q; written as %q it is %q %q", text, c.words, c.options, c.text(), again.words, again.options)
		}
	})
}

// text writes a command with all quotes that it may need.
func (c *command) text() string {
	var parts []string
	for _, w := range c.words {
		parts = append(parts, `"`+w+`"`)
	}
	for _, o := range c.options {
		parts = append(parts, o.name+o.op+`"`+o.value+`"`)
	}
	return strings.Join(parts, " ")
}
