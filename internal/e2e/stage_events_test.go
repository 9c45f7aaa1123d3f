package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
)

// news is all that the Notifiers of all nodes were told.
type news struct {
	mu     sync.Mutex // guards what follows
	told   []telegram
	looked int               // how many of them the scenario has looked at
	moods  map[string]string // by kind of event: how Notifiers take it
}

// telegram is an event with who told it.
type telegram struct {
	md.Event
	node string
	at   time.Time // of the bubble
}

// messenger is the Notifier of one node.
type messenger struct {
	news *news
	node string
	link *link
}

// Notify implements md.Notifier.
func (m *messenger) Notify(ctx context.Context, e md.Event) error {
	if !m.link.pass() {
		return errDead
	}
	m.news.mu.Lock()
	m.news.told = append(m.news.told, telegram{Event: e, node: m.node, at: time.Now()})
	mood := m.news.moods[string(e.Kind)]
	if mood == "" {
		mood = m.news.moods["any"]
	}
	m.news.mu.Unlock()
	switch mood {
	case "fails":
		return errors.New("the webhook answers 502")
	case "vetoes":
		return fmt.Errorf("not on a Friday: %w", md.ErrVeto)
	case "hangs":
		<-ctx.Done()
		return ctx.Err()
	case "ignores-the-end": // a hook that knows no context
		time.Sleep(10 * time.Minute)
	case "panics":
		panic("the webhook has a bug")
	}
	return nil
}

// notifierCommand: "notifier fails renewed" is how the Notifiers of all nodes
// take an event from then on; "notifier works" ends it.
func (s *stage) notifierCommand(c *command) error {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	mood, kind := c.need("a word that says how"), cmp.Or(c.next(), "any")
	if !slices.Contains(notifierWords, mood) || kind != "any" && !slices.Contains(eventKinds, kind) {
		return fmt.Errorf("notifier: %w %q or %q", errUnknown, mood, kind)
	}
	if mood == "works" || s.news.moods == nil {
		s.news.moods = make(map[string]string)
	}
	if mood != "works" {
		s.news.moods[kind] = mood
	}
	return nil
}

var notifierWords = []string{"fails", "vetoes", "hangs", "ignores-the-end", "panics", "works"}

var eventKinds = []string{
	string(status.Renewing), string(status.ChallengeSetup), string(status.Renewed),
	string(status.Installed), string(status.Expiring), string(status.Errored),
}

// text tells the events as a diary.
func (n *news) text(began time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, e := range n.told {
		fmt.Fprintf(&b, "%v node %s: %s %s", e.at.Sub(began), e.node, e.Kind, e.Domain)
		if e.Err != nil {
			fmt.Fprintf(&b, " (%v; next at %v)", e.Err, e.NextAttempt.Sub(began))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// expectEvents: "expect events KIND… [of=NAME]" is what Notifiers were told
// since the last look, in order; "expect events KIND>=N…" counts instead.
// "none" is no event at all.
func (s *stage) expectEvents(c *command) error {
	of := c.option("of")
	want := c.words
	switch {
	case len(want)+len(c.options) == 0:
		c.need("an event, or none")
	case len(want) > 0 && len(c.options) > 0:
		return errors.New("expect events: name them in order, or count them, not both")
	}
	c.words = nil
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	var got []string
	for _, e := range s.news.told[s.news.looked:] {
		if of == "" || e.Domain == of {
			got = append(got, string(e.Kind))
		}
	}
	if len(c.options) > 0 {
		for _, o := range c.options {
			if !slices.Contains(eventKinds, o.name) {
				return fmt.Errorf("expect events: %w %q", errUnknown, o.name)
			}
			count := 0
			for _, kind := range got {
				if kind == o.name {
					count++
				}
			}
			if err := o.holds(count); err != nil {
				return err
			}
		}
		c.options = nil
	} else {
		if slices.Equal(want, []string{"none"}) {
			want = nil
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("the events are %q, want %q", strings.Join(got, " "), strings.Join(want, " "))
		}
	}
	s.news.looked = len(s.news.told)
	return nil
}
