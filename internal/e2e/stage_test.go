package e2e_test

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
)

// stage is where a scenario is played: a world with CAs, nodes, a Store and
// clocks that all may go wrong.
type stage struct {
	*world
	script  *scenario
	began   time.Time
	cas     map[string]*authority
	caNames []string    // in the order of their declaration
	domains []md.Domain // the configuration that nodes read
	members []*member   // the nodes, running or not
	disk    disk
	zone    zone
	news    news
	skew    atomic.Int64 // what all wall clocks are ahead of the bubble's time
	seen    map[string]string
	backup  map[string][]byte // of the Store, nil if there is none
	guard   guard
	keys    *keyring
}

func newStage(t *testing.T, script *scenario, keys *keyring) *stage {
	s := &stage{
		world: newWorld(t), script: script, began: time.Now(), keys: keys,
		cas: make(map[string]*authority), seen: make(map[string]string),
	}
	s.guard.begin()
	return s
}

// verbs are the commands of a script.
var verbs = map[string]func(s *stage, c *command) error{
	"ca":       (*stage).caCommand,
	"domain":   (*stage).domainCommand,
	"remove":   (*stage).removeCommand,
	"reload":   (*stage).reloadCommand,
	"node":     (*stage).nodeCommand,
	"stop":     (*stage).stopCommand,
	"kill":     (*stage).killCommand,
	"restart":  (*stage).restartCommand,
	"freeze":   (*stage).freezeCommand,
	"thaw":     (*stage).thawCommand,
	"renew":    (*stage).renewCommand,
	"activate": (*stage).activateCommand,
	"revoke":   (*stage).revokeCommand,
	"restore":  (*stage).restoreCommand,
	"store":    (*stage).storeCommand,
	"notifier": (*stage).notifierCommand,
	"dns":      (*stage).dnsCommand,
	"network":  (*stage).networkCommand,
	"clock":    (*stage).clockCommand,
	"wait":     (*stage).waitCommand,
	"expect":   (*stage).expectCommand,
}

// play obeys one line of the script, and then checks what must always hold.
func (s *stage) play(text string) error {
	c, err := parseCommand(text)
	if err != nil {
		return err
	}
	verb := c.next()
	do := verbs[verb]
	if do == nil {
		return fmt.Errorf("%w %q for a command", errUnknown, verb)
	}
	err = do(s, c)
	if c.lacks != "" {
		return fmt.Errorf("%s: it lacks %s", verb, c.lacks)
	}
	if err := cmp.Or(err, c.leftover()); err != nil {
		return err
	}
	synctest.Wait()
	return s.invariants()
}

// close ends everything that runs, whatever state it is in.
func (s *stage) close() error {
	s.disk.repair()
	var errs []error
	for _, m := range s.members {
		m.link.thaw()
		if err := s.halt(m); err != nil {
			errs = append(errs, err)
		}
	}
	for _, ca := range s.cas {
		ca.Close()
	}
	return errors.Join(errs...)
}

// wall is the time by all clocks that are right.
func (s *stage) wall() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }

// clockCommand: "clock +3d" is a machine room, or a laptop, that was
// suspended: all clocks jump, and no timer has noticed. "clock a -2h" is one
// node whose clock is set wrong.
func (s *stage) clockCommand(c *command) error {
	s.guard.excuse()
	if len(c.words) == 2 {
		m, err := s.member(c.next())
		if err != nil {
			return err
		}
		d, err := c.needSpan()
		m.skew.Add(int64(d))
		s.guard.clockWasWrong = true
		return err
	}
	d, err := c.needSpan()
	s.skew.Add(int64(d))
	return err
}

// waitCommand: "wait 61d" lets time pass; "wait until EXPECTATION within=2d"
// lets it pass until what is expected is so. Meanwhile the invariants are
// checked again and again.
func (s *stage) waitCommand(c *command) error {
	const steps = 20
	if !c.has("until") {
		d, err := c.needSpan()
		if err != nil {
			return err
		}
		for range steps {
			time.Sleep(d / steps)
			if err := s.settled(); err != nil {
				return err
			}
		}
		return nil
	}
	within, err := c.span("within")
	if err != nil || within == 0 {
		return errors.Join(err, errors.New("wait until … needs within=DURATION"))
	}
	return s.waitUntil(c, within)
}

// waitUntil looks in growing steps, so that what happens soon is seen soon.
func (s *stage) waitUntil(c *command, within time.Duration) error {
	end := time.Now().Add(within)
	for step := 10 * time.Millisecond; ; step = min(step*5/4, within/40) {
		once := &command{words: slices.Clone(c.words), options: slices.Clone(c.options)}
		err := s.expectCommand(once)
		if err == nil || once.lacks != "" || errors.Is(err, errUnknown) {
			*c = *once
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("not within %v: %w", within, err)
		}
		time.Sleep(min(step, left))
		if err := s.settled(); err != nil {
			return err
		}
	}
}

// settled lets everything come to rest, and checks the invariants.
func (s *stage) settled() error {
	synctest.Wait()
	return s.invariants()
}

// networkCommand: "network blocks 443" is a firewall that nobody reaches the
// nodes through; "network works" takes it away.
func (s *stage) networkCommand(c *command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return obey(networkWords, "network", s, c)
}

var networkWords = map[string]func(s *stage, c *command) error{
	"blocks": func(s *stage, c *command) error { s.firewall = c.need("a port"); return nil },
	"works":  func(s *stage, _ *command) error { s.firewall = ""; return nil },
}

// obey does what the next word of a command says.
func obey(words map[string]func(s *stage, c *command) error, verb string, s *stage, c *command) error {
	word := c.need("a word that says what happens")
	do := words[word]
	if do == nil {
		return fmt.Errorf("%s: %w %q", verb, errUnknown, word)
	}
	return do(s, c)
}

// keyring makes keys. RSA keys take long, so that a few are made once and
// handed out in turn.
type keyring struct {
	mu    sync.Mutex // guards what follows
	ready []crypto.Signer
	next  int
}

const readyKeys = 4

func (r *keyring) newKey(ctx context.Context, t acmeclient.KeyType) (crypto.Signer, error) {
	if t != md.RSA2048 {
		return t.Generate(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ready) < readyKeys {
		key, err := t.Generate(ctx)
		if err != nil {
			return nil, err
		}
		r.ready = append(r.ready, key)
	}
	r.next++
	return r.ready[r.next%len(r.ready)], nil
}

// trail is the end of a long text, for those who look for what went wrong.
func trail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
