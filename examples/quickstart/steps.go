package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// step says how a log message of the library is shown: a short word, and the
// attributes that tell the most.
type step struct {
	word  string
	attrs []string
}

// shown are the messages that are shown, by their text. Others are shown only
// from level Warn on.
var shown = map[string]step{
	"renewing":                {"due", []string{"reason"}},
	"account registered":      {"account", []string{"account"}},
	"order created":           {"order", []string{"order"}},
	"challenge set up":        {"challenge", []string{"type", "name"}},
	"name validated":          {"validated", []string{"type", "name"}},
	"certificate obtained":    {"certificate", []string{"certificate"}},
	"certificate staged":      {"staged", []string{"domain", "key"}},
	"certificates are active": {"active", []string{"names"}},
}

// steps is a slog.Handler that shows what the library does as numbered steps.
type steps struct {
	attrs   []slog.Attr // from WithAttrs
	began   time.Time
	counter *counter
}

// counter numbers the lines of all handlers that come from one.
type counter struct {
	mu    sync.Mutex // guards what follows, and keeps lines whole
	out   io.Writer
	lines int
}

func newSteps(out io.Writer) *steps {
	return &steps{began: time.Now(), counter: &counter{out: out}}
}

// Enabled implements slog.Handler.
func (s *steps) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (s *steps) Handle(_ context.Context, r slog.Record) error {
	line, known := shown[r.Message]
	if !known && r.Level < slog.LevelWarn {
		return nil
	}
	words := []string{r.Message}
	if known {
		words = nil
	}
	add := func(a slog.Attr) bool {
		switch {
		case !known:
			words = append(words, a.Key+"="+a.Value.String())
		case slices.Contains(line.attrs, a.Key):
			words = append(words, a.Value.String())
		}
		return true
	}
	for _, a := range s.attrs {
		add(a)
	}
	r.Attrs(add)
	if !known {
		line.word = strings.ToLower(r.Level.String())
	}
	s.counter.mu.Lock()
	defer s.counter.mu.Unlock()
	s.counter.lines++
	_, err := fmt.Fprintf(s.counter.out, "%3d  %6.3f s  %-12s %s\n",
		s.counter.lines, r.Time.Sub(s.began).Seconds(), line.word, strings.Join(words, " "))
	return err
}

// WithAttrs implements slog.Handler.
func (s *steps) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &steps{slices.Concat(s.attrs, attrs), s.began, s.counter}
}

// WithGroup implements slog.Handler. Groups are not shown.
func (s *steps) WithGroup(string) slog.Handler { return s }
