package e2e_test

import "strings"

// A section is one file of a txtar archive.
type section struct {
	name string
	line int // of its first line in the archive, counted from 1
	text string
}

// parseTxtar splits a txtar archive (golang.org/x/tools/txtar): the comment
// that it begins with, and the sections, each behind a line "-- name --".
func parseTxtar(text string) (comment string, sections []section) {
	var body strings.Builder
	flush := func() {
		if len(sections) == 0 {
			comment = body.String()
		} else {
			sections[len(sections)-1].text = body.String()
		}
		body.Reset()
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		if name, ok := sectionName(line); ok {
			flush()
			sections = append(sections, section{name: name, line: number + 1})
			continue
		}
		body.WriteString(line)
	}
	flush()
	return comment, sections
}

// sectionName returns the name in a line "-- name --".
func sectionName(line string) (name string, ok bool) {
	name, ok = strings.CutPrefix(strings.TrimRight(line, " \t\r\n"), "-- ")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, " --")
	name = strings.TrimSpace(name)
	return name, ok && name != ""
}
