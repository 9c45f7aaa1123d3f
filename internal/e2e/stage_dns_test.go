package e2e_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md/challenge"
)

// zone is the DNS of the stage: a Challenger, and what the CAs look up.
type zone struct {
	mu      sync.Mutex // guards what follows
	records map[string][]txt
	delay   time.Duration // until a record can be seen everywhere
	mood    string        // empty, "fails" or "panics"
}

// txt is a TXT record and when it can be seen.
type txt struct {
	value string
	since time.Time
}

// Types implements md.Challenger.
func (z *zone) Types() []string { return []string{challenge.TypeDNS01} }

// Present implements md.Challenger.
func (z *zone) Present(_ context.Context, c challenge.Challenge) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if err := z.refusal(); err != nil {
		return err
	}
	if z.records == nil {
		z.records = make(map[string][]txt)
	}
	r := txt{value: c.TXTValue(), since: time.Now().Add(z.delay)}
	z.records[c.TXTName()] = append(z.records[c.TXTName()], r)
	return nil
}

// CleanUp implements md.Challenger.
func (z *zone) CleanUp(_ context.Context, c challenge.Challenge) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if err := z.refusal(); err != nil || z.records == nil {
		return err
	}
	z.records[c.TXTName()] = slices.DeleteFunc(z.records[c.TXTName()], func(r txt) bool { return r.value == c.TXTValue() })
	return nil
}

// provider is the zone as one process reaches it.
type provider struct {
	*zone
	link *link
}

// Present implements md.Challenger.
func (p *provider) Present(ctx context.Context, c challenge.Challenge) error {
	if !p.link.pass() {
		return errDead
	}
	return p.zone.Present(ctx, c)
}

// CleanUp implements md.Challenger.
func (p *provider) CleanUp(ctx context.Context, c challenge.Challenge) error {
	if !p.link.pass() {
		return errDead
	}
	return p.zone.CleanUp(ctx, c)
}

func (z *zone) refusal() error {
	switch z.mood {
	case "fails":
		return errors.New("the DNS provider refuses the API key")
	case "panics":
		panic("the DNS provider's library has a bug")
	}
	return nil
}

// Wait implements challenge.Waiter.
func (z *zone) Wait(ctx context.Context, c challenge.Challenge) error {
	for {
		seen, err := z.lookup(ctx, c.TXTName())
		if err != nil || slices.Contains(seen, c.TXTValue()) {
			return err
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// lookup is the CAs' view.
func (z *zone) lookup(_ context.Context, name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	var values []string
	for _, r := range z.records[strings.TrimSuffix(name, ".")] {
		if !time.Now().Before(r.since) {
			values = append(values, r.value)
		}
	}
	return values, nil
}

// count is the number of records that are there.
func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := 0
	for _, records := range z.records {
		n += len(records)
	}
	return n
}

// dnsCommand: "dns slow 2m" is how long records take until they are seen;
// "dns fails" is a provider that refuses, "dns panics" one whose library has
// a bug; "dns works" ends all of that.
func (s *stage) dnsCommand(c *command) error {
	s.zone.mu.Lock()
	defer s.zone.mu.Unlock()
	s.zone.delay, s.zone.mood = 0, ""
	return obey(dnsWords, "dns", s, c)
}

var dnsWords = map[string]func(s *stage, c *command) error{
	"slow":   func(s *stage, c *command) (err error) { s.zone.delay, err = c.needSpan(); return err },
	"fails":  func(s *stage, _ *command) error { s.zone.mood = "fails"; return nil },
	"panics": func(s *stage, _ *command) error { s.zone.mood = "panics"; return nil },
	"works":  func(*stage, *command) error { return nil },
}

// broken reports whether the provider refuses everything.
func (z *zone) broken() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.mood != ""
}
