package policy_test

import (
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

func TestActivation(t *testing.T) {
	rules := policy.Rules{Names: []string{"a.example"}, KeyTypes: []string{"P-256"}}
	good := cert("P-256", "a.example")
	revoked := good
	revoked.ARI = &policy.ARI{Start: start.Add(-2 * day), End: start.Add(-day)}
	now := start.Add(60 * day)
	for _, test := range []struct {
		name   string
		inUse  []policy.Certificate
		staged time.Time
		delay  time.Duration
		want   time.Time
	}{
		{"is at once without a delay", []policy.Certificate{good}, now, 0, now},
		{"waits for the delay", []policy.Certificate{good}, now, day, now.Add(day)},
		{"counts the delay from when it came", []policy.Certificate{good}, now.Add(-time.Hour), day, now.Add(23 * time.Hour)},
		{"is at once when the delay is over", []policy.Certificate{good}, now.Add(-2 * day), day, now},
		{"is an hour before the end at the latest", []policy.Certificate{good}, now, 100 * day, good.NotAfter.Add(-time.Hour)},
		{"is at once where nothing is in use", nil, now, day, now},
		{"is at once where a name is not covered", []policy.Certificate{cert("P-256", "b.example")}, now, day, now},
		{"is at once where what is in use has expired", []policy.Certificate{lasting(30*day, "P-256", "a.example")}, now, day, now},
		{"is at once where what is in use is to be revoked", []policy.Certificate{revoked}, now, day, now},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.Activation(rules, test.inUse, test.staged, test.delay, now); !got.Equal(test.want) {
				t.Errorf("after %v, want %v", got.Sub(now), test.want.Sub(now))
			}
		})
	}
}
