package policy_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

func TestChance(t *testing.T) {
	cas := []string{"a", "b", "c"}
	now := start
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, test := range []struct {
		name     string
		cas      []string
		current  string
		trials   map[string]policy.Trial
		left     time.Duration
		failover int
		want     string
	}{
		{"no CA where there is none", nil, "a", nil, 0, 0, ""},
		{"the first CA at first", cas, "", nil, 0, 0, "a"},
		{"the first CA where the current one is gone", cas, "x", nil, 0, 0, "a"},
		{"the current CA while it works", cas, "b", nil, 30 * day, 0, "b"},
		{"the current CA after a few failures", cas, "a", map[string]policy.Trial{"a": {Failures: 12}}, 0, 0, "a"},
		{"the next CA after many failures", cas, "a", map[string]policy.Trial{"a": {Failures: 13}}, 0, 0, "b"},
		{"the next CA after as many failures as wanted", cas, "a", map[string]policy.Trial{"a": {Failures: 2}}, 0, 2, "b"},
		{"the first CA behind the last", cas, "c", map[string]policy.Trial{"c": {Failures: 13}}, 0, 0, "a"},
		{"the only CA again and again", cas[:1], "a", map[string]policy.Trial{"a": {Failures: 99}}, 0, 0, "a"},
		{"the current CA whatever another did", cas, "a", map[string]policy.Trial{"b": {Failures: 99}}, 0, 0, "a"},
		{"the current CA for a quarter of the time", cas, "a", map[string]policy.Trial{"a": {Since: ago(7 * day)}}, 30 * day, 0, "a"},
		{"the next CA when a quarter of the time is gone", cas, "a", map[string]policy.Trial{"a": {Since: ago(8 * day)}}, 30 * day, 0, "b"},
		{"the next CA when a quarter of the time will be gone", cas, "a",
			map[string]policy.Trial{"a": {Since: ago(day), Blocked: now.Add(7 * day)}}, 30 * day, 0, "b"},
		{"the current CA when its limits end soon", cas, "a",
			map[string]policy.Trial{"a": {Since: ago(day), Blocked: now.Add(6 * day)}}, 30 * day, 0, "a"},
		{"the current CA for ever when only names fail", cas, "a", map[string]policy.Trial{"a": {Since: ago(999 * day)}}, 0, 0, "a"},
		{"the current CA for an hour when there is no time", cas, "a",
			map[string]policy.Trial{"a": {Failures: 7, Since: ago(day), Failing: ago(59 * time.Minute)}}, 0, 0, "a"},
		{"the next CA after an hour when there is no time", cas, "a",
			map[string]policy.Trial{"a": {Failures: 1, Since: ago(time.Hour), Failing: ago(time.Hour)}}, 0, 0, "b"},
		{"the current CA when it has worked within the hour", cas, "a",
			map[string]policy.Trial{"a": {Failures: 7, Since: ago(9 * day)}}, 0, 0, "a"},
		{"the one that may be asked first when all have been asked", cas, "a", map[string]policy.Trial{
			"a": {Failures: 13, Since: ago(day), Next: now.Add(3 * time.Hour)}, "b": {Since: ago(day), Next: now.Add(time.Hour), Blocked: now.Add(day)},
			"c": {Since: ago(day), Next: now.Add(2 * time.Hour)},
		}, 0, 0, "c"},
		{"the current CA when the others may not be asked yet", cas, "a", map[string]policy.Trial{
			"a": {Failures: 13, Since: ago(day), Next: now}, "b": {Since: ago(day), Next: now.Add(time.Hour)}, "c": {Since: ago(day), Next: now.Add(time.Hour)},
		}, 30 * day, 0, "a"},
		{"the first CA behind the last when all may be asked", cas, "c", map[string]policy.Trial{
			"a": {Since: ago(3 * day)}, "b": {Since: ago(2 * day)}, "c": {Failures: 13, Since: ago(day)},
		}, 30 * day, 0, "a"},
		{"the current CA when its limits end in minutes and there is no time", cas, "a",
			map[string]policy.Trial{"a": {Since: now, Blocked: now.Add(5 * time.Minute)}}, 0, 0, "a"},
		{"the next CA when its limits last longer and there is no time", cas, "a",
			map[string]policy.Trial{"a": {Since: now, Blocked: now.Add(6 * time.Minute)}}, 0, 0, "b"},
		{"the CA that is free first when there is no time", cas, "a", map[string]policy.Trial{
			"a": {Since: now, Blocked: now.Add(9 * day)}, "b": {Since: now, Blocked: now.Add(8 * day)}, "c": {Since: now, Blocked: now.Add(7 * day)},
		}, 0, 0, "c"},
		{"the current CA when the others let wait for longer", cas, "a", map[string]policy.Trial{
			"a": {Since: now, Blocked: now.Add(day)}, "b": {Since: now, Blocked: now.Add(2 * day)}, "c": {Since: now, Blocked: now.Add(23 * time.Hour)},
		}, 0, 0, "a"},
		{"the slow CA that has an order rather than another slow one", cas, "a", map[string]policy.Trial{
			"a": {Since: now, Blocked: now.Add(2 * day), Slow: true}, "b": {Since: ago(day), Blocked: now.Add(-day), Slow: true},
			"c": {Since: ago(day), Blocked: now.Add(3 * day)},
		}, 0, 0, "a"},
		{"a CA that has failed rather than one that lets wait for days", cas, "a", map[string]policy.Trial{
			"a": {Since: now, Blocked: now.Add(2 * day), Slow: true}, "b": {Since: ago(day), Blocked: now.Add(-day), Slow: true},
			"c": {Since: ago(day), Failures: 5},
		}, 0, 0, "c"},
		{"the slow CA for more than an hour when there is no time", cas, "a",
			map[string]policy.Trial{"a": {Failures: 2, Since: ago(day), Failing: ago(day), Slow: true}}, 0, 0, "a"},
		{"the slow CA when another's limits last for days", cas, "b", map[string]policy.Trial{
			"a": {Since: ago(day), Blocked: now.Add(-time.Hour), Slow: true}, "b": {Since: now, Blocked: now.Add(7 * day)},
			"c": {Since: ago(day), Blocked: now.Add(6 * day)},
		}, 0, 0, "a"},
		{"the current CA if it was not asked yet", cas, "a", map[string]policy.Trial{"a": {Blocked: now.Add(99 * day)}}, 30 * day, 0, "a"},
	} {
		t.Run("asks "+test.name, func(t *testing.T) {
			if got := policy.Chance(test.cas, test.current, test.trials, test.left, test.failover, now); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
