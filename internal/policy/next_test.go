package policy_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

const day = 24 * time.Hour

// start is when the certificates of these tests begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// cert is a certificate for names that lives for 90 days from start.
func cert(keyType string, names ...string) policy.Certificate {
	return lasting(90*day, keyType, names...)
}

func lasting(life time.Duration, keyType string, names ...string) policy.Certificate {
	return policy.Certificate{KeyType: keyType, Names: names, NotBefore: start, NotAfter: start.Add(life)}
}

// issued says when a certificate came.
func issued(c policy.Certificate, at time.Time) policy.Certificate {
	c.Issued = at
	return c
}

// window is one that begins a length before the end.
func window(length time.Duration) func(_, notAfter time.Time) time.Time {
	return func(_, notAfter time.Time) time.Time { return notAfter.Add(-length) }
}

func TestNextDecides(t *testing.T) {
	one := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}}
	two := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256", "RSA-2048"}}
	at := func(age time.Duration) time.Time { return start.Add(age) }

	for _, test := range []struct {
		name  string
		rules policy.Rules
		facts policy.Facts
		now   time.Time
		want  policy.Decision
	}{
		{"orders what is missing", one, policy.Facts{}, at(0),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): it is missing", Missing: true, At: at(0)}},
		{"leaves alone what is young", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}}, at(day),
			policy.Decision{At: at(60 * day)}},
		{"waits until the last moment before the window", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}}, at(60*day - 1),
			policy.Decision{At: at(60 * day)}},
		{"renews when the window begins", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}}, at(60 * day),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): its time to renew has come", At: at(60 * day)}},
		{"renews what has expired", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}}, at(90 * day),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): it has expired", At: at(90 * day)}},
		{"orders a name that is not covered",
			policy.Rules{Names: []string{"a.example", "b.example"}, KeyTypes: []string{"P-256"}},
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}}, at(day),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): it does not cover b.example", Missing: true, At: at(day)}},
		{"is content with a wildcard",
			policy.Rules{Names: []string{"b.a.example", "*.a.example"}, KeyTypes: []string{"P-256"}},
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "*.a.example")}}, at(day),
			policy.Decision{At: at(60 * day)}},
		{"is content with names in upper case", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "A.Example")}}, at(day),
			policy.Decision{At: at(60 * day)}},
		{"is not content with a wildcard two labels up",
			policy.Rules{Names: []string{"c.b.a.example"}, KeyTypes: []string{"P-256"}},
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "*.a.example")}}, at(day),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): it does not cover c.b.a.example", Missing: true, At: at(day)}},
		{"does not mind that a name was removed", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "b.example", "a.example")}}, at(day),
			policy.Decision{At: at(60 * day)}},
		{"does not mind that a key type was removed", one,
			policy.Facts{Certificates: []policy.Certificate{cert("RSA-2048", "a.example"), cert("P-256", "a.example")}}, at(day),
			policy.Decision{At: at(60 * day)}},
		{"orders only the key type that is missing", two,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}}, at(59 * day),
			policy.Decision{KeyTypes: []string{"RSA-2048"}, Reason: "certificate (RSA-2048): it is missing", Missing: true, At: at(59 * day)}},
		{"looks again when the first of two windows begins", two,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example"), lasting(45*day, "RSA-2048", "a.example")}}, at(day),
			policy.Decision{At: at(30 * day)}},
		{"renews along what is due within a twentieth of its life", two,
			policy.Facts{Certificates: []policy.Certificate{lasting(90*day+time.Hour, "P-256", "a.example"), cert("RSA-2048", "a.example")}}, at(60 * day),
			policy.Decision{KeyTypes: []string{"P-256", "RSA-2048"}, Reason: "certificate (RSA-2048): its time to renew has come", At: at(60 * day)}},
		{"does not renew along what is due much later", two,
			policy.Facts{Certificates: []policy.Certificate{lasting(100*day, "P-256", "a.example"), cert("RSA-2048", "a.example")}}, at(60 * day),
			policy.Decision{KeyTypes: []string{"RSA-2048"}, Reason: "certificate (RSA-2048): its time to renew has come", At: at(60 * day)}},
		{"does not renew along what has just come", two,
			policy.Facts{Certificates: []policy.Certificate{
				issued(lasting(90*day+time.Hour, "P-256", "a.example"), at(60*day-time.Hour)), cert("RSA-2048", "a.example")}}, at(60 * day),
			policy.Decision{KeyTypes: []string{"RSA-2048"}, Reason: "certificate (RSA-2048): its time to renew has come", At: at(60 * day)}},
		{"gives all reasons in the order of the key types", two,
			policy.Facts{Certificates: []policy.Certificate{cert("RSA-2048", "b.example")}}, at(day),
			policy.Decision{KeyTypes: []string{"P-256", "RSA-2048"}, Missing: true, At: at(day),
				Reason: "certificate (P-256): it is missing; certificate (RSA-2048): it does not cover a.example"}},
		{"orders all that was asked for", two,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example"), cert("RSA-2048", "a.example")}, Forced: true}, at(day),
			policy.Decision{KeyTypes: []string{"P-256", "RSA-2048"}, Reason: "it was asked for", At: at(day)}},
		{"does not wait with what was asked for", one,
			policy.Facts{NotBefore: at(2 * day), Forced: true}, at(day),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "it was asked for", At: at(day)}},
		{"waits after a failure and says why it would not", one,
			policy.Facts{NotBefore: at(2 * day)}, at(day),
			policy.Decision{Reason: "certificate (P-256): it is missing", Missing: true, At: at(2 * day)}},
		{"has waited enough", one,
			policy.Facts{NotBefore: at(2 * day)}, at(2 * day),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): it is missing", Missing: true, At: at(2 * day)}},
		{"forgets the failure while nothing is due", one,
			policy.Facts{Certificates: []policy.Certificate{cert("P-256", "a.example")}, NotBefore: at(70 * day)}, at(day),
			policy.Decision{At: at(60 * day)}},
		{"waits for a week and a clock that is a little behind", one,
			policy.Facts{NotBefore: at(7*day + time.Hour)}, at(0),
			policy.Decision{Reason: "certificate (P-256): it is missing", Missing: true, At: at(7*day + time.Hour)}},
		{"does not wait for years because a clock was wrong", one,
			policy.Facts{NotBefore: at(3650 * day)}, at(0),
			policy.Decision{KeyTypes: []string{"P-256"}, Reason: "certificate (P-256): it is missing", Missing: true, At: at(0)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := policy.Next(test.rules, test.facts, test.now)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if got.Due() != (len(test.want.KeyTypes) > 0) {
				t.Errorf("Due() = %v with %q to order", got.Due(), got.KeyTypes)
			}
		})
	}
}

// The decision is the caller's: what it does to it is not done to the rules.
func TestNextReturnsItsOwnKeyTypes(t *testing.T) {
	rules := policy.Rules{KeyTypes: []string{"P-256", "RSA-2048"}}
	for _, facts := range []policy.Facts{{}, {Forced: true}} {
		d := policy.Next(rules, facts, start)
		slices.Reverse(d.KeyTypes)
		if rules.KeyTypes[0] != "P-256" {
			t.Fatalf("with %+v, the decision shares its key types with the rules", facts)
		}
	}
}

// TestNextRenewsAt looks at when certificates are renewed, by the moment that
// Next gives while they are young.
func TestNextRenewsAt(t *testing.T) {
	for _, test := range []struct {
		name   string
		window func(notBefore, notAfter time.Time) time.Time
		cert   policy.Certificate
		now    time.Duration // after start
		want   time.Duration
	}{
		{"at the default without a window", nil, cert("P-256"), day, 60 * day},
		{"at the window", window(21 * day), cert("P-256"), day, 69 * day},
		{"at a window that leaves a tenth of the life", window(80 * day), cert("P-256"), day, 10 * day},
		{"at the default if the window begins in the first tenth", window(81 * day), cert("P-256"), day, 60 * day},
		{"at the default if the window begins with the certificate", window(90 * day), cert("P-256"), day, 60 * day},
		{"at the default if the window is longer than the life", window(30 * day), lasting(6*day, "P-256"), day, 3 * day},
		{"at the default if the window says the zero time",
			func(_, _ time.Time) time.Time { return time.Time{} }, cert("P-256"), day, 60 * day},
		{"at the end if the window begins behind it", window(-day), cert("P-256"), day, 90 * day},
		{"a hundredth of the life after it came, if it was due then", nil,
			issued(cert("P-256"), start.Add(70*day)), 70 * day, 70*day + 90*day/100},
		{"ten minutes after it came, if its life is short", nil,
			issued(lasting(time.Hour, "P-256"), start.Add(40*time.Minute)), 41 * time.Minute, 50 * time.Minute},
		{"half of its life after it came, if that is shorter still", nil,
			issued(lasting(10*time.Minute, "P-256"), start.Add(5*time.Minute)), 6 * time.Minute, 10 * time.Minute},
		{"at its end, however late it came", nil,
			issued(cert("P-256"), start.Add(90*day-time.Hour)), 90*day - time.Minute, 90 * day},
		{"at its window, if it is said to come from the future", nil,
			issued(cert("P-256"), start.Add(80*day)), day, 60 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := policy.Rules{KeyTypes: []string{"P-256"}, Window: test.window}
			facts := policy.Facts{Certificates: []policy.Certificate{test.cert}}
			d := policy.Next(rules, facts, start.Add(test.now))
			if d.Due() || !d.At.Equal(start.Add(test.want)) {
				t.Errorf("renewal due %v, at %v, want %v", d.Due(), d.At.Sub(start), test.want)
			}
			if d := policy.Next(rules, facts, start.Add(test.want)); !d.Due() {
				t.Errorf("it is not due at its own moment, but at %v", d.At.Sub(start))
			}
		})
	}
}

func TestDefaultWindow(t *testing.T) {
	for _, test := range []struct {
		name string
		life time.Duration
		want time.Duration // after the beginning
	}{
		{"of 160 hours begins in the middle", 160 * time.Hour, 80 * time.Hour},
		{"of a moment under ten days begins in the middle", 10*day - 2, 5*day - 1},
		{"of ten days begins at two thirds", 10 * day, 160 * time.Hour},
		{"of 45 days begins at two thirds", 45 * day, 30 * day},
		{"of 90 days begins at two thirds", 90 * day, 60 * day},
		{"of 398 days begins at two thirds", 398 * day, 398 * day * 2 / 3},
		{"of no time begins at the end", 0, 0},
		{"that ends before its start begins at the end", -day, -day},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := policy.DefaultWindow(start, start.Add(test.life)).Sub(start)
			if diff := got - test.want; diff < -1 || diff > 1 { // a division's rest
				t.Errorf("begins after %v, want %v", got, test.want)
			}
		})
	}
	t.Run("that ends never begins before its end", func(t *testing.T) {
		// RFC 5280 §4.1.2.5: this notAfter stands for no well-defined end.
		never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		if got := policy.DefaultWindow(start, never); got.Before(start) || got.After(never) {
			t.Errorf("begins at %v", got)
		}
		if got := policy.DefaultWindow(never, start); !got.Equal(start) {
			t.Errorf("of one that ends 8000 years before its start begins at %v, want %v", got, start)
		}
	})
}

func TestStale(t *testing.T) {
	rules := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}}
	young := []policy.Certificate{cert("P-256", "a.example")}
	old := []policy.Certificate{lasting(15*day, "P-256", "a.example")}
	other := []policy.Certificate{cert("P-256", "b.example")}
	now := start.Add(14 * day)
	for _, test := range []struct {
		name           string
		staged, active []policy.Certificate
		want           bool
	}{
		{"young in place of young", young, young, false},
		{"young in place of old", young, old, false},
		{"young in place of none", young, nil, false},
		{"old in place of young", old, young, true},
		{"old in place of old", old, old, false},
		{"old in place of none", old, nil, false},
		{"other names in place of the right ones", other, young, true},
		{"other names in place of other names", other, other, false},
		{"nothing in place of young", nil, young, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.Stale(rules, test.staged, test.active, now); got != test.want {
				t.Errorf("stale: %v, want %v", got, test.want)
			}
		})
	}
}
