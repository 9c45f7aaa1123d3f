package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scenario is a file of testdata: what it ensures, and the script that shows
// it. In a script, empty lines and those that begin with # say nothing to us.
//
// A script that begins with "each WORD: a b c" is played once for each of a,
// b and c, which take the place of $WORD in all other lines.
type scenario struct {
	file     string
	ensures  string // the first sentence of the comment
	lines    []line
	values   map[string]string // what the other sections hold
	variants []string          // empty: there is one, without a name
	variable string            // "$WORD"
}

// line is one command of a script, as it is written.
type line struct {
	number int // in the file
	text   string
}

// parseScenario reads a scenario.
func parseScenario(file, text string) (*scenario, error) {
	comment, sections := parseTxtar(text)
	s := &scenario{file: file, ensures: firstSentence(comment), values: make(map[string]string)}
	if s.ensures == "" {
		return nil, fmt.Errorf("%s: it does not begin with a sentence that says what it ensures", file)
	}
	for _, section := range sections {
		if section.name != "script" {
			s.values[section.name] = section.text
			continue
		}
		for i, text := range slices.Collect(strings.Lines(section.text)) {
			text = strings.TrimSpace(text)
			if text != "" && !strings.HasPrefix(text, "#") {
				s.lines = append(s.lines, line{number: section.line + i, text: text})
			}
		}
	}
	if len(s.lines) == 0 {
		return nil, fmt.Errorf("%s: there is no section \"script\", or nothing in it", file)
	}
	if !s.checks() {
		return nil, fmt.Errorf("%s: nothing in it checks that what it ensures is so: expect something", file)
	}
	return s, s.takeEach()
}

// checks reports whether a scenario expects anything.
func (s *scenario) checks() bool {
	return slices.ContainsFunc(s.lines, func(l line) bool {
		return strings.HasPrefix(l.text, "expect ") || strings.HasPrefix(l.text, "wait until ")
	})
}

// takeEach takes the directive "each" out of the script.
func (s *scenario) takeEach() error {
	rest, ok := strings.CutPrefix(s.lines[0].text, "each ")
	if !ok {
		return nil
	}
	word, list, ok := strings.Cut(rest, ":")
	s.variable, s.variants = "$"+strings.TrimSpace(word), strings.Fields(list)
	if !ok || s.variable == "$" || len(s.variants) == 0 {
		return fmt.Errorf("%s:%d: want \"each WORD: a b c\"", s.file, s.lines[0].number)
	}
	s.lines = s.lines[1:]
	return nil
}

// variant returns the scenario with the variable's place taken by value.
func (s *scenario) variant(value string) *scenario {
	v := *s
	v.lines = slices.Clone(s.lines)
	for i := range v.lines {
		v.lines[i].text = strings.ReplaceAll(v.lines[i].text, s.variable, value)
	}
	return &v
}

// marked returns the script with a marker at a line.
func (s *scenario) marked(number int) string {
	var b strings.Builder
	for _, l := range s.lines {
		mark := "   "
		if l.number == number {
			mark = ">>>"
		}
		fmt.Fprintf(&b, "%s %3d  %s\n", mark, l.number, l.text)
	}
	return b.String()
}

// title names the scenario as a subtest.
func (s *scenario) title() string { return strings.TrimSuffix(filepath.Base(s.file), ".txtar") }

func firstSentence(comment string) string {
	text := strings.Join(strings.Fields(comment), " ")
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1]
	}
	if !strings.HasSuffix(text, ".") {
		return ""
	}
	return text
}

// command is a line taken apart: words, and options such as keys=P-256,
// attempts<=3 or error~"too many". Whoever obeys it takes both away, so that
// in the end what nobody has understood is left.
type command struct {
	words   []string
	options []option
	lacks   string // what was needed and is not there
}

type option struct{ name, op, value string }

var optionForm = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*)(<=|>=|=|~)(.*)$`)

// parseCommand takes a line apart. Double quotes keep spaces in a word.
func parseCommand(text string) (*command, error) {
	c := new(command)
	var word strings.Builder
	quoted, inWord, plain := false, false, true
	end := func() {
		if !inWord {
			return
		}
		w := word.String()
		if m := optionForm.FindStringSubmatch(w); m != nil && plain {
			c.options = append(c.options, option{name: m[1], op: m[2], value: m[3]})
		} else {
			c.words = append(c.words, w)
		}
		word.Reset()
		inWord, plain = false, true
	}
	for _, r := range text {
		switch {
		case r == '"':
			plain = plain && inWord // a word that begins with a quote is no option
			quoted, inWord = !quoted, true
		case r == ' ' && !quoted:
			end()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	end()
	return c, nil
}

// next takes the next word, "" if there is none.
func (c *command) next() string {
	if len(c.words) == 0 {
		return ""
	}
	w := c.words[0]
	c.words = c.words[1:]
	return w
}

// need takes the next word, which is to be there. The reader of the script
// is told what it stands for if it is not.
func (c *command) need(what string) string {
	w := c.next()
	if w == "" && c.lacks == "" {
		c.lacks = what
	}
	return w
}

// needSpan is need for a duration.
func (c *command) needSpan() (time.Duration, error) { return parseSpan(c.need("a duration")) }

// has takes a word away, and reports whether it is there.
func (c *command) has(word string) bool {
	i := slices.Index(c.words, word)
	if i < 0 {
		return false
	}
	c.words = slices.Delete(c.words, i, i+1)
	return true
}

// oneOf takes the first of words that is there, "" if none is.
func (c *command) oneOf(words ...string) string {
	for _, w := range words {
		if c.has(w) {
			return w
		}
	}
	return ""
}

// option takes the value of an option name=value, "" if it is not there.
func (c *command) option(name string) string {
	i := slices.IndexFunc(c.options, func(o option) bool { return o.name == name && o.op == "=" })
	if i < 0 {
		return ""
	}
	value := c.options[i].value
	c.options = slices.Delete(c.options, i, i+1)
	return value
}

// span takes the option name=duration.
func (c *command) span(name string) (time.Duration, error) {
	value := c.option(name)
	if value == "" {
		return 0, nil
	}
	return parseSpan(value)
}

// count takes the option name=number, 0 if it is not there.
func (c *command) count(name string) (int, error) {
	value := c.option(name)
	if value == "" {
		return 0, nil
	}
	return strconv.Atoi(value)
}

// times takes the option times=n; many stands for a missing one.
func (c *command) times() (int, error) {
	const many = 1 << 30
	value := c.option("times")
	if value == "" {
		return many, nil
	}
	return strconv.Atoi(value)
}

// errUnknown says that a script uses a word that it may not use there.
var errUnknown = errors.New("unknown word")

// leftover is an error that names what nobody has understood, if anything.
func (c *command) leftover() error {
	left := slices.Clone(c.words)
	for _, o := range c.options {
		left = append(left, o.name+o.op+o.value)
	}
	if len(left) > 0 {
		return fmt.Errorf("%w %q", errUnknown, strings.Join(left, " "))
	}
	return nil
}

// holds compares a number with what the option wants.
func (o option) holds(got int) error {
	want, err := strconv.Atoi(o.value)
	if err != nil {
		return fmt.Errorf("%s%s%s: %w", o.name, o.op, o.value, err)
	}
	ok := false
	switch o.op {
	case "=":
		ok = got == want
	case "<=":
		ok = got <= want
	case ">=":
		ok = got >= want
	}
	if !ok {
		return fmt.Errorf("got %s=%d, want %s%s%d", o.name, got, o.name, o.op, want)
	}
	return nil
}

// parseSpan reads a duration that may count days: 61d, 160h, +3d, -90m, 1d12h.
func parseSpan(s string) (time.Duration, error) {
	const mostDays = 100_000 // no script plays for longer, and they do not overflow
	bad := fmt.Errorf("%q is not a duration such as 61d or 2h30m", s)
	unsigned := strings.TrimLeft(s, "+-")
	sign := s[:len(s)-len(unsigned)]
	if unsigned == "" || len(sign) > 1 {
		return 0, bad
	}
	days := uint64(0)
	if n, rest, ok := strings.Cut(unsigned, "d"); ok {
		var err error
		if days, err = strconv.ParseUint(n, 10, 64); err != nil || days > mostDays {
			return 0, bad
		}
		unsigned = cmp.Or(rest, "0")
	}
	rest, err := time.ParseDuration(unsigned)
	if err != nil || rest < 0 || rest > mostDays*day {
		return 0, bad
	}
	span := time.Duration(days)*day + rest
	if sign == "-" {
		return -span, nil
	}
	return span, nil
}
