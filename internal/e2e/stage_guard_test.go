package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// guard is what the invariants remember from one look to the next.
type guard struct {
	accounts int                  // that a CA may know: more than one where keys were destroyed
	excused  []time.Time          // when a certificate may have come before its time
	better   map[string]better    // by node and Domain: what the Store has and is not served
	answers  map[string]time.Time // challenges and since when nobody needs them
	deaths   time.Time            // the last time that a process was killed, or hung

	// A clock was wrong: by it, what has just happened may be long ago.
	clockWasWrong bool
}

type better struct {
	version store.Version
	since   time.Time
}

func (g *guard) begin() {
	g.accounts = 1
	g.better, g.answers = make(map[string]better), make(map[string]time.Time)
}

// excuse: somebody has asked for a certificate, or has destroyed one.
func (g *guard) excuse() { g.excused = append(g.excused, time.Now()) }

// destroyed: what stood at a key of the Store is gone.
func (g *guard) destroyed(key string) {
	g.excuse()
	if strings.HasPrefix(key, "accounts/") {
		g.accounts++
	}
}

func (g *guard) killed() { g.deaths = time.Now() }

// invariants are what holds at all times, whatever the script lets happen.
func (s *stage) invariants() error {
	for _, check := range []func() error{
		s.noHotLoop, s.noAccountTwice, s.noLimitMet, s.noCertificateTooSoon, s.noKeyTwice,
		s.bestIsServed, s.challengesAreCleanedUp, s.nothingSecretIsLogged,
	} {
		if err := check(); err != nil {
			return fmt.Errorf("invariant: %w", err)
		}
	}
	return nil
}

// noHotLoop: nobody works without a pause.
func (s *stage) noHotLoop() error {
	for _, m := range s.members {
		if m.link.wasHot() {
			return fmt.Errorf("node %s used the Store without a pause", m.name)
		}
	}
	return nil
}

// noAccountTwice: the nodes have one account at each CA.
func (s *stage) noAccountTwice() error {
	for _, name := range s.caNames {
		keys := make(map[string]bool)
		for _, account := range s.cas[name].Accounts() {
			keys[account.Thumbprint] = true
		}
		if len(keys) > s.guard.accounts {
			return fmt.Errorf("ca %s knows %d accounts, want %d", name, len(keys), s.guard.accounts)
		}
	}
	return nil
}

// noLimitMet: no order is refused because of a CA's limits. That a name is
// paused can only be learnt from the CA.
func (s *stage) noLimitMet() error {
	if s.guard.clockWasWrong {
		return nil
	}
	for _, name := range s.caNames {
		for _, refusal := range s.cas[name].Refused() {
			if refusal.Limit != "paused" {
				return fmt.Errorf("ca %s refused an order: %v", name, refusal)
			}
		}
	}
	return nil
}

// noCertificateTooSoon: certificates of one CA for the same names and key
// type are further apart than ten minutes and a hundredth of their life,
// unless somebody asked for one.
func (s *stage) noCertificateTooSoon() error {
	if s.guard.clockWasWrong {
		return nil
	}
	for _, name := range s.caNames {
		last := make(map[string]acmetest.Certificate)
		for _, c := range s.cas[name].Certificates() {
			if c.Wrong != acmetest.NotWrong {
				continue
			}
			what := fmt.Sprintf("%s %T %d", strings.Join(c.Names, ","), c.Leaf.PublicKey, len(c.Leaf.RawSubjectPublicKeyInfo))
			before, ok := last[what]
			last[what] = c
			if ok && c.Issued.Sub(before.Issued) < floor(before) && !s.guard.wasExcused(before.Issued, c.Issued) {
				return fmt.Errorf("ca %s issued two certificates for %s within %v", name, what, c.Issued.Sub(before.Issued))
			}
		}
	}
	return nil
}

func floor(c acmetest.Certificate) time.Duration {
	return max(10*time.Minute, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/100)
}

// wasExcused reports whether something between two moments, or just before,
// called for a certificate.
func (g *guard) wasExcused(from, to time.Time) bool {
	for _, at := range g.excused {
		if !at.Before(from) && !at.After(to) {
			return true
		}
	}
	return false
}

// noKeyTwice: a renewed certificate has another key.
func (s *stage) noKeyTwice() error {
	used := make(map[string]string)
	for _, name := range s.caNames {
		for _, c := range s.cas[name].Certificates() {
			if c.Wrong == acmetest.WrongKey || fmt.Sprintf("%T", c.Leaf.PublicKey) == "*rsa.PublicKey" {
				continue // RSA keys come from a small supply
			}
			key := string(c.Leaf.RawSubjectPublicKeyInfo)
			if other, ok := used[key]; ok && other != c.Order {
				return fmt.Errorf("the orders %s and %s have the same key", other, c.Order)
			}
			used[key] = c.Order
		}
	}
	return nil
}

// bestIsServed: no node serves the fallback or an expired certificate for
// longer than a moment, while the Store has one that is in date.
func (s *stage) bestIsServed() error {
	const aMoment = 5 * time.Minute
	if !s.disk.works() {
		clear(s.guard.better)
		return nil
	}
	records := &record.Records{Store: s.store}
	for _, m := range s.running() {
		for d := range m.node.m.Status() {
			at := m.name + " " + d.Name
			set, version, err := records.Active(context.Background(), d.Name)
			if err != nil || !s.inDate(set) || s.servesInDate(m, d.Names) {
				delete(s.guard.better, at)
				continue
			}
			known, ok := s.guard.better[at]
			if !ok || known.version != version {
				s.guard.better[at] = better{version: version, since: time.Now()}
			} else if time.Since(known.since) > max(aMoment, 3*m.tick) {
				return fmt.Errorf("node %s serves nothing in date for %s, although the Store has it", m.name, d.Name)
			}
		}
	}
	return nil
}

// inDate reports whether all certificates of a Set are in date.
func (s *stage) inDate(set *record.Set) bool {
	now := s.wall()
	for i := range set.Credentials {
		leaf, err := set.Credentials[i].Leaf()
		if err != nil || now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
			return false
		}
	}
	return true
}

// servesInDate reports whether clients of a node see a certificate in date
// for at least one of the names: a name may be too young to be covered.
func (s *stage) servesInDate(m *member, names []string) bool {
	for _, name := range names {
		name = strings.Replace(name, "*", "any", 1)
		if seen, err := s.look(m, name, ""); s.state(seen, err) == "valid" {
			return true
		}
	}
	return false
}

// challengesAreCleanedUp: when no attempt is under way, no answer is left,
// but for some time after a process has died.
func (s *stage) challengesAreCleanedUp() error {
	left := s.world.keys("challenges/")
	if s.zone.count() > 0 {
		left = append(left, "a TXT record")
	}
	if s.busy() || !s.disk.works() {
		clear(s.guard.answers)
		return nil
	}
	patience := 10 * time.Minute
	if !s.guard.deaths.IsZero() {
		patience = 48 * time.Hour
	}
	still := make(map[string]time.Time)
	for _, key := range left {
		since, ok := s.guard.answers[key]
		if !ok {
			since = time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("the answer to a challenge was left behind: %s", key)
		}
		still[key] = since
	}
	s.guard.answers = still
	return nil
}

// busy reports whether somebody works on a Domain, or nobody is there who
// could clean up.
func (s *stage) busy() bool {
	all := s.running()
	for _, m := range all {
		for d := range m.node.m.Status() {
			if d.Renewal != nil && d.Renewal.Running {
				return true
			}
		}
	}
	return len(all) == 0 || s.zone.broken()
}

// nothingSecretIsLogged: no log line shows a private key.
func (s *stage) nothingSecretIsLogged() error {
	if s.logged("PRIVATE KEY") {
		return errors.New("the log has a private key")
	}
	return nil
}
