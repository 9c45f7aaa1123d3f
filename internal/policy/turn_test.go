package policy_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

// What is over decides nothing: of the CAs that may be asked, the one whose
// turn it is is asked, whichever was free before; and an order under way holds
// a CA its turn only where there is no time to lose by waiting.
func TestTurnsOfCAs(t *testing.T) {
	cas := []string{"a", "b", "c"}
	ago := func(d time.Duration) time.Time { return start.Add(-d) }
	for _, test := range []struct {
		name   string
		trials map[string]policy.Trial
		left   time.Duration
		want   string
	}{
		{"the one behind, though another was free before", map[string]policy.Trial{
			"a": {Failures: 13, Since: ago(3 * day), Next: start.Add(time.Hour)},
			"b": {Since: ago(2 * day), Next: ago(time.Hour)}, "c": {Since: ago(day), Blocked: ago(day)},
		}, 0, "b"},
		{"the next one, when a slow one has had a quarter of the time",
			map[string]policy.Trial{"a": {Since: ago(8 * day), Slow: true}}, 30 * day, "b"},
	} {
		if got := policy.Chance(cas, "a", test.trials, test.left, 0, start); got != test.want {
			t.Errorf("asked is %q, want %s: %q", got, test.name, test.want)
		}
	}
}
