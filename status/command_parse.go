package status

import (
	"errors"
	"fmt"
	"strings"
)

// ParseCommand splits a line into a program and its arguments, as mod_md's
// configuration has them and much as a shell does, without being one: there
// are no variables, patterns or pipes.
//
// Words are separated by spaces, tabs and line ends. Between single quotes
// every character stands for itself; between double quotes all but a
// backslash before a double quote or a backslash; outside of quotes a
// backslash makes the next character stand for itself. A quote that does not
// end, a backslash at the end, a NUL, and a line without a word are errors.
func ParseCommand(line string) ([]string, error) {
	args, err := splitCommand(line)
	if err != nil {
		return nil, fmt.Errorf("the command %.100q cannot be read: %w", line, err)
	}
	return args, nil
}

func splitCommand(line string) ([]string, error) {
	if strings.ContainsRune(line, 0) {
		return nil, errors.New("it has a NUL character, which no argument can have")
	}
	var args []string
	for {
		line = strings.TrimLeft(line, " \t\r\n")
		if line == "" {
			break
		}
		word, rest, err := firstWord(line)
		if err != nil {
			return nil, err
		}
		args, line = append(args, word), rest
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("it names no program")
	}
	return args, nil
}

// firstWord returns the word that line begins with, and what follows it.
func firstWord(line string) (word, rest string, err error) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), line[i:], nil
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == '\\' && escapes(quote, line[i+1:]):
			if i++; i == len(line) {
				return "", "", errors.New("it ends in a backslash")
			}
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", fmt.Errorf("a quote (%c) does not end", quote)
	}
	return b.String(), "", nil
}

// escapes reports whether a backslash before next takes the meaning from it.
func escapes(quote byte, next string) bool {
	switch quote {
	case 0:
		return true
	case '"':
		return strings.HasPrefix(next, `"`) || strings.HasPrefix(next, `\`)
	}
	return false
}
