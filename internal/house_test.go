// Package internal_test holds the house to its plan: which room may import
// which, and why.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/manageddomains/md"

// room is a row of the plan: what a package may import of this module, and
// the reason, which a failing test quotes.
type room struct {
	may    []string
	reason string
}

// house is the plan. Packages whose name ends in "test" are test rooms: their
// rows say what they may import, and no package that is not a test room, nor
// the tests of one, may import anything but what the plan says.
var house = map[string]room{
	"store":                {nil, "ground floor: a library of its own"},
	"acmeclient":           {nil, "ground floor: a library of its own; it knows no Domain and no Store"},
	"acmeclient/tailscale": {[]string{"acmeclient"}, "the local daemon as another source of certificates"},
	"status":               {nil, "ground floor: a library of its own"},
	"challenge": {[]string{"store", "internal/resolve"},
		"it works without a Manager; it gets key authorizations and callbacks as values"},
	"stapling": {[]string{"store", "status"},
		"it works without a Manager; one fetch per cluster needs store.Lease"},
	"store/modmd": {[]string{"store", "internal/record"}, "it translates what record writes"},

	"internal/resolve": {nil, "ground floor: it asks name servers and nothing else"},
	"internal/policy":  {nil, "it has no hands: no store, network, clock or logger"},
	"internal/live":    {nil, "it runs in handshakes: nothing that could wait may be reachable"},
	"internal/record":  {[]string{"store", "status"}, "it remembers, it does not act"},
	"internal/front": {[]string{"challenge", "status"},
		"what it must know of names comes as callbacks, so that it is tested without a Manager"},
	"internal/probe": {[]string{"challenge", "status", "internal/resolve"},
		"it only looks; what is configured comes as values"},
	"internal/migrate": {[]string{"internal/record"}, "foreign files in, Sets out"},
	"internal/engine": {[]string{"store", "store/modmd", "acmeclient", "acmeclient/tailscale", "challenge", "stapling", "status",
		"internal/policy", "internal/record", "internal/live", "internal/resolve", "internal/probe"},
		"the only doer; nothing above it, nothing that only migrates"},
	".": {[]string{"store", "acmeclient", "challenge", "stapling", "status",
		"internal/engine", "internal/front", "internal/policy", "internal/migrate"},
		"never record or live: what a Manager knows it asks the engine"},

	"store/storetest": {[]string{"store"}, "it tests Stores"},
	"acmeclient/acmetest": {nil,
		"written from the RFCs: sharing our client's code would make both wrong together"},
	"challenge/challengetest": {[]string{"challenge"}, "it tests Challengers"},

	"internal":     {nil, "only this test"},
	"internal/e2e": {nil, "only tests"},
}

// outside is what the root module may import of others, and require.
var outside = []string{"golang.org/x/crypto", "golang.org/x/net", "golang.org/x/sync"}

// outsideIndirect may in addition be required, as what outside needs.
var outsideIndirect = []string{"golang.org/x/sys", "golang.org/x/text"}

// linkTests are packages that would link the testing package into users'
// programs.
var linkTests = []string{"testing", "net/http/httptest", "testing/fstest", "testing/iotest", "testing/slogtest",
	"testing/synctest", "testing/cryptotest", "testing/quick"}

// source is a Go file of the root module.
type source struct {
	path    string // slash-separated, below the module's root
	imports []string
}

func (s source) dir() string    { return path.Dir(s.path) }
func (s source) isTest() bool   { return strings.HasSuffix(s.path, "_test.go") }
func (s source) testRoom() bool { return isTestRoom(s.dir()) }

func isTestRoom(dir string) bool { return strings.HasSuffix(path.Base(dir), "test") }

// sources reads the imports of all Go files of the root module.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(file, entry.Name())
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(relative)}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// enter returns fs.SkipDir for directories that hold no package of the root
// module.
func enter(dir, name string) error {
	if dir == ".." {
		return nil
	}
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir // another module
	}
	return nil
}

// ours returns the path of a package of this module below its root.
func ours(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

func TestEveryRoomIsInThePlan(t *testing.T) {
	all := sources(t)
	if len(all) < 2 {
		t.Error("no packages were found: this test looks in the wrong place")
	}
	seen := make(map[string]bool)
	for _, s := range all {
		if _, ok := house[s.dir()]; !ok && !seen[s.dir()] {
			seen[s.dir()] = true
			t.Errorf("package %s has no row in the table of imports; give it one, with its reason", s.dir())
		}
	}
}

func TestRoomsImportWhatThePlanSays(t *testing.T) {
	for _, s := range sources(t) {
		row := house[s.dir()]
		for _, imported := range s.imports {
			room, ok := ours(imported)
			switch {
			case !ok, slices.Contains(row.may, room):
			case s.isTest():
				testImport(t, s, room)
			case isTestRoom(room) && !s.testRoom():
				t.Errorf("%s imports the test room %s: users must not link our tests", s.path, room)
			default:
				t.Errorf("%s imports %s, but %s may not: %s", s.path, room, s.dir(), row.reason)
			}
		}
	}
}

// testImport checks what a test imports beyond what its package may. Tests
// may use test rooms, their own package, and the rooms that those below them
// are made of (a Store, to try a Challenger on); scenarios may use whatever
// they need. All else would show that a room cannot be understood alone.
func testImport(t *testing.T, s source, room string) {
	t.Helper()
	switch dir := s.dir(); {
	case isTestRoom(room), room == dir, dir == "internal/e2e", dir == ".", dir == "internal/engine":
	case below(dir, room):
	case s.testRoom(): // the test of a test room tries it on the real thing
	default:
		t.Errorf("the test %s imports %s, but tests may import only test rooms and what %s is made of: %s",
			s.path, room, dir, house[dir].reason)
	}
}

// below reports whether room may be reached from dir, by however many steps.
func below(dir, room string) bool {
	return slices.ContainsFunc(house[dir].may, func(next string) bool {
		return next == room || below(next, room)
	})
}

// TestThePlanHasNoCircles shows what below relies on.
func TestThePlanHasNoCircles(t *testing.T) {
	height := make(map[string]int) // rooms that stand on lower ones only
	for range house {
		for name, row := range house {
			h := 0
			for _, next := range row.may {
				if height[next] == 0 {
					h = -1 // a lower room has not been placed yet
					break
				}
				h = max(h, height[next])
			}
			if h >= 0 {
				height[name] = h + 1
			}
		}
	}
	for name := range house {
		if height[name] == 0 {
			t.Errorf("%s can be reached from itself, or may import a room that has no row", name)
		}
	}
}

func TestTestsAreNotLinked(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.testRoom() {
			continue
		}
		for _, imported := range s.imports {
			if slices.Contains(linkTests, imported) {
				t.Errorf("%s imports %s: users must not link our tests", s.path, imported)
			}
		}
	}
}

func TestOutsideImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			_, own := ours(imported)
			first, _, _ := strings.Cut(imported, "/")
			if own || !strings.Contains(first, ".") || within(imported, outside) {
				continue
			}
			t.Errorf("%s imports %s: the root module uses the standard library and %s, tests included; "+
				"whatever needs more is a nested module", s.path, imported, strings.Join(outside, ", "))
		}
	}
}

func within(imported string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool {
		return imported == m || strings.HasPrefix(imported, m+"/")
	})
}

func TestRequirements(t *testing.T) {
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := requirements(string(text))
	for _, name := range slices.Sorted(maps.Keys(required)) {
		allowed := outside
		if required[name] == indirect {
			allowed = slices.Concat(outside, outsideIndirect)
		}
		if !slices.Contains(allowed, name) {
			t.Errorf("go.mod requires %s (%s): the root module may require only %s", name, required[name],
				strings.Join(allowed, ", "))
		}
	}
	if strings.Contains(string(text), "replace") {
		t.Error("go.mod has a replace: it does not reach users")
	}
}

// How a module is required.
const (
	direct   = "direct"
	indirect = "indirect"
)

// requirements reads the required modules from the text of a go.mod, and
// how they are required.
func requirements(text string) map[string]string {
	required := make(map[string]string)
	block := ""
	for line := range strings.Lines(text) {
		code, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block == "" && words[0] == "require":
			words = words[1:]
		case block != "require":
			continue
		}
		how := direct
		if strings.TrimSpace(comment) == "indirect" {
			how = indirect
		}
		required[words[0]] = how
	}
	return required
}

func TestRequirementsAreRead(t *testing.T) {
	got := requirements("module m\n\ngo 1.26\nrequire a.b/c v1.0.0 // indirect\nrequire (\n\td.e/f v2.0.0\n)\n" +
		"exclude (\n\tg.h/i v1.0.0\n)\n")
	want := map[string]string{"a.b/c": indirect, "d.e/f": direct}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
