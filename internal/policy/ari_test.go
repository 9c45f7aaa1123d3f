package policy_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

func TestDraw(t *testing.T) {
	for _, test := range []struct {
		name   string
		length time.Duration
		share  float64
		want   time.Duration
	}{
		{"the beginning", 2 * day, 0, 0},
		{"the middle", 2 * day, 0.5, day},
		{"the end", 2 * day, 1, 2 * day},
		{"nothing before the beginning", 2 * day, -1, 0},
		{"nothing behind the end", 2 * day, 7, 2 * day},
		{"from the front half of a short window", 10 * time.Hour, 1, 5 * time.Hour},
	} {
		t.Run("draws "+test.name, func(t *testing.T) {
			end := start.Add(test.length)
			want := policy.ARI{Start: start, End: end, At: start.Add(test.want)}
			if got := policy.Draw(start, end, test.share); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestNextObeysARI(t *testing.T) {
	suggest := func(from, to time.Duration) *policy.ARI {
		a := policy.Draw(start.Add(from), start.Add(to), 0.5)
		return &a
	}
	for _, test := range []struct {
		name   string
		window func(notBefore, notAfter time.Time) time.Time
		ari    *policy.ARI
		now    time.Duration
		want   time.Duration // after start
	}{
		{"as it says", nil, suggest(69*day, 71*day), day, 70 * day},
		{"earlier than the default", nil, suggest(49*day, 51*day), day, 50 * day},
		{"not in the first half of the life", nil, suggest(9*day, 11*day), day, 45 * day},
		{"not in the last seventh of the life", nil, suggest(85*day, 87*day), day, 90 * day * 85 / 100},
		{"at once when its window has passed", nil, suggest(0, day), 2 * day, 2 * day},
		{"not later than the user's window", window(30 * day), suggest(69*day, 71*day), day, 60 * day},
		{"earlier than the user's window", window(30 * day), suggest(49*day, 51*day), day, 50 * day},
		{"not if its window ends before it starts", nil, suggest(51*day, 49*day), day, 60 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := cert("P-256", "a.example")
			c.ARI = test.ari
			rules := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}, Window: test.window}
			d := policy.Next(rules, policy.Facts{Certificates: []policy.Certificate{c}}, start.Add(test.now))
			if !d.At.Equal(start.Add(test.want)) || d.Due() != (test.now == test.want) {
				t.Errorf("due %v, at %v, want %v", d.Due(), d.At.Sub(start), test.want)
			}
		})
	}
}

// A CA that says at once that its certificates are to be replaced is obeyed,
// but not all the time.
func TestARIKeepsTheRest(t *testing.T) {
	now := start.Add(time.Hour)
	c := issued(cert("P-256", "a.example"), now)
	a := policy.Draw(start.Add(-day), start, 0)
	c.ARI = &a
	rules := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}}
	d := policy.Next(rules, policy.Facts{Certificates: []policy.Certificate{c}}, now)
	if want := now.Add(90 * day / 100); d.Due() || !d.At.Equal(want) {
		t.Errorf("due %v, at %v, want %v", d.Due(), d.At, want)
	}
}

func TestNextRestsAlthoughItWasAskedFor(t *testing.T) {
	c := issued(cert("P-256", "a.example"), start)
	c.CA = "one"
	rules := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}}
	facts := policy.Facts{Certificates: []policy.Certificate{c}, Forced: true, CA: "one"}
	rest := start.Add(90 * day / 100)
	if d := policy.Next(rules, facts, start.Add(time.Hour)); d.Due() || !d.At.Equal(rest) || d.Reason == "" {
		t.Errorf("right after a certificate: due %v at %v because %q, want %v", d.Due(), d.At, d.Reason, rest)
	}
	if d := policy.Next(rules, facts, rest); !d.Due() {
		t.Errorf("after its rest it is not due: %+v", d)
	}
	for name, change := range map[string]func(){
		"another CA":  func() { facts.CA = "two" },
		"other names": func() { facts.CA, rules.Names = "one", []string{"a.example", "b.example"} },
		"fewer names": func() {
			facts.Certificates[0].Names, rules.Names = []string{"a.example", "b.example"}, []string{"a.example"}
		},
		"revocation": func() { facts.Certificates[0].Names, facts.Revoked = rules.Names, true },
	} {
		change()
		if d := policy.Next(rules, facts, start.Add(time.Hour)); !d.Due() {
			t.Errorf("with %s it is not due: %+v", name, d)
		}
		facts = policy.Facts{Certificates: []policy.Certificate{c}, Forced: true, CA: "one"}
		rules.Names = []string{"a.example"}
	}
}

func TestRetryLeavesTimeForMore(t *testing.T) {
	for _, test := range []struct {
		name string
		left time.Duration
		want time.Duration
	}{
		{"nothing is in date", 0, 4 * time.Hour},
		{"much is left", 30 * day, day},
		{"a day is left", day, day / 10},
		{"a moment is left", time.Second, time.Minute},
	} {
		got := policy.Retry(policy.Failure{Left: test.left}, time.Minute, 99, start, 0.5).Sub(start)
		if got != test.want {
			t.Errorf("if %s: after %v, want %v", test.name, got, test.want)
		}
	}
}
