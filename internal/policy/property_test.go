package policy_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

// world is a Domain whose renewals always succeed, at a CA that gives
// certificates of whatever length it likes.
type world struct {
	rand  *rand.Rand
	rules policy.Rules
	facts policy.Facts
	now   time.Time
	came  map[string]time.Time // when each key type's certificate came
}

func newWorld(seed uint64) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 1)), now: start, came: make(map[string]time.Time)}
	w.rules.Names = []string{"a.example", "*.b.example"}[:1+w.rand.IntN(2)]
	w.rules.KeyTypes = []string{"P-256", "RSA-2048", "P-384"}[:1+w.rand.IntN(3)]
	switch w.rand.IntN(3) {
	case 0:
		w.rules.Window = window(w.between(time.Minute, 100*day))
	case 1:
		share := time.Duration(1 + w.rand.IntN(99))
		w.rules.Window = func(notBefore, notAfter time.Time) time.Time {
			return notAfter.Add(-notAfter.Sub(notBefore) / 100 * share)
		}
	}
	if w.rand.IntN(4) == 0 {
		w.facts.NotBefore = w.now.Add(w.between(-day, 10000*day))
	}
	for _, t := range w.rules.KeyTypes {
		if w.rand.IntN(4) > 0 {
			c := w.issue(t)
			age := w.between(0, c.NotAfter.Sub(w.now)) // any age, in date
			c.NotBefore, c.NotAfter, c.Issued = c.NotBefore.Add(-age), c.NotAfter.Add(-age), c.Issued.Add(-age)
			w.facts.Certificates = append(w.facts.Certificates, c)
		}
	}
	return w
}

// between draws a duration from [low, high).
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rand.Int64N(int64(max(high-low, 1))))
}

// issue is what the CA gives: certificates of an hour to over a year, which
// began up to a hundredth of their life before they came.
func (w *world) issue(keyType string) policy.Certificate {
	lives := []time.Duration{time.Hour, day, 160 * time.Hour, 10 * day, 45 * day, 90 * day, 398 * day}
	life := lives[w.rand.IntN(len(lives))]
	life += w.between(-life/10, life/10)
	from := w.now.Add(-w.between(0, life/100))
	return policy.Certificate{
		KeyType: keyType, Names: w.rules.Names,
		NotBefore: from, NotAfter: from.Add(life), Issued: w.now,
	}
}

func (w *world) certificate(keyType string) *policy.Certificate {
	for i := range w.facts.Certificates {
		if w.facts.Certificates[i].KeyType == keyType {
			return &w.facts.Certificates[i]
		}
	}
	return nil
}

// order renews what was decided.
func (w *world) order(t *testing.T, d policy.Decision) {
	t.Helper()
	for _, keyType := range d.KeyTypes {
		c := w.certificate(keyType)
		if c == nil {
			w.facts.Certificates = append(w.facts.Certificates, policy.Certificate{})
			c = &w.facts.Certificates[len(w.facts.Certificates)-1]
		} else if age := w.now.Sub(c.Issued); age < 6*time.Minute || age < c.NotAfter.Sub(c.NotBefore)/101 {
			t.Fatalf("a %s certificate of %v is renewed %v after it came", keyType, c.NotAfter.Sub(c.NotBefore), age)
		}
		*c = w.issue(keyType)
	}
	w.facts.NotBefore = time.Time{}
}

// TestNextKeepsServing follows the decisions of many Domains: while renewals
// succeed, nothing that was in date ever expires, nobody orders all the time,
// and the time to look again is always ahead.
func TestNextKeepsServing(t *testing.T) {
	for seed := range uint64(2000) {
		w := newWorld(seed)
		if w.facts.NotBefore.After(w.now) && w.facts.NotBefore.Before(w.now.Add(9*day)) {
			w.facts.NotBefore = w.now // a failure that was long enough ago
		}
		for range 60 {
			for _, c := range w.facts.Certificates {
				if w.now.After(c.NotAfter) {
					t.Fatalf("seed %d: a %s certificate expired %v ago", seed, c.KeyType, w.now.Sub(c.NotAfter))
				}
			}
			d := policy.Next(w.rules, w.facts, w.now)
			if d.Due() {
				w.order(t, d)
				continue
			}
			if !d.At.After(w.now) {
				t.Fatalf("seed %d: nothing is due at %v, but the next look is at %v", seed, w.now, d.At)
			}
			w.now = d.At
		}
		for _, keyType := range w.rules.KeyTypes {
			if w.certificate(keyType) == nil {
				t.Errorf("seed %d: there is still no %s certificate", seed, keyType)
			}
		}
	}
}

// A CA that gives only what is due when it comes, or a clock that runs ahead,
// has us order again and again, but not all the time.
func TestNextRestsBetweenOrders(t *testing.T) {
	rules := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}}
	now, orders := start, 0
	facts := policy.Facts{}
	for now.Before(start.Add(10 * day)) {
		d := policy.Next(rules, facts, now)
		if !d.Due() {
			now = d.At
			continue
		}
		if orders++; orders > 100 {
			t.Fatalf("%d orders within %v", orders, now.Sub(start))
		}
		c := cert("P-256", "a.example")
		c.NotBefore, c.NotAfter, c.Issued = now.Add(-70*day), now.Add(20*day), now
		facts.Certificates = []policy.Certificate{c}
	}
	if orders < 10 || orders > 12 {
		t.Errorf("%d orders in ten days, want one in each 21.6 hours", orders)
	}
}
