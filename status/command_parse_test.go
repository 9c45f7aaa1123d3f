package status_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/manageddomains/md/status"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string][]string{
		`/usr/bin/notify`:                    {"/usr/bin/notify"},
		"  notify \t -v\r\n":                 {"notify", "-v"},
		`notify a\ b "c d" 'e f'`:            {"notify", "a b", "c d", "e f"},
		`notify a"b c"d'e f'g`:               {"notify", "ab cde fg"},
		`notify "" ''`:                       {"notify", "", ""},
		`notify "a\"b\\c\d'"`:                {"notify", `a"b\c\d'`},
		`notify 'a\"b"c\'`:                   {"notify", `a\"b"c\`},
		`notify \"a\' \\ \` + "\t":           {"notify", `"a'`, `\`, "\t"},
		`"C:\Program Files\md\notify.exe" x`: {`C:\Program Files\md\notify.exe`, "x"},
		`notify $HOME *.pem | cat; # x`:      {"notify", "$HOME", "*.pem", "|", "cat;", "#", "x"},
		"notify über\u00a0all":               {"notify", "über\u00a0all"},
	} {
		got, err := status.ParseCommand(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
}

func TestParseCommandRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":              "names no program",
		" \t\n":         "names no program",
		`"" x`:          "names no program",
		`notify "a b`:   `a quote (") does not end`,
		`notify 'a"`:    `a quote (') does not end`,
		`notify \`:      "ends in a backslash",
		`notify "\`:     `a quote (") does not end`,
		"notify a\x00b": "NUL character",
	} {
		got, err := status.ParseCommand(line)
		wantError(t, err, want)
		if got != nil {
			t.Errorf("%s: got %q with an error", line, got)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, line := range []string{`notify a\ b "c d" 'e f'`, `""`, `'`, `\`, `a"b c"d'e f'g`, "\x00", "é\xff\\"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args, err := status.ParseCommand(line)
		if err != nil {
			if args != nil {
				t.Errorf("got %q with error %v", args, err)
			}
			return
		}
		if len(args) == 0 || args[0] == "" {
			t.Fatalf("%q names no program: %q", line, args)
		}
		var quoted []string
		for _, a := range args {
			quoted = append(quoted, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
		}
		again, err := status.ParseCommand(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, args) {
			t.Errorf("%q is %q, which is read again as %q, %v", line, args, again, err)
		}
	})
}
