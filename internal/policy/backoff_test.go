package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

func TestBackoffDoubles(t *testing.T) {
	const middle = 0.5 // the jitter that changes nothing
	for _, test := range []struct {
		name   string
		base   time.Duration
		errors int
		jitter float64
		want   time.Duration
	}{
		{"before the first failure is the base", 30 * time.Second, 0, middle, 30 * time.Second},
		{"after the first failure is the base", 30 * time.Second, 1, middle, 30 * time.Second},
		{"after the second failure is twice the base", 30 * time.Second, 2, middle, time.Minute},
		{"after the eighth failure is 128 times the base", 30 * time.Second, 8, middle, 64 * time.Minute},
		{"after the twelfth failure is seventeen hours", 30 * time.Second, 12, middle, 61440 * time.Second},
		{"after the thirteenth failure is a day", 30 * time.Second, 13, middle, day},
		{"after very many failures is a day", 30 * time.Second, math.MaxInt, middle, day},
		{"after a negative count is the base", 30 * time.Second, math.MinInt, middle, 30 * time.Second},
		{"without a base is the default", 0, 1, middle, policy.DefaultRetryDelay},
		{"with a negative base is the default", -time.Hour, 1, middle, policy.DefaultRetryDelay},
		{"with a base over a day is a day", math.MaxInt64, 1, middle, day},
		{"is half as long at the least", time.Minute, 1, 0, 30 * time.Second},
		{"is half as long again at the most", time.Minute, 1, 1, 90 * time.Second},
		{"is never over a day, whatever the jitter", time.Minute, 99, 1, day},
		{"is half a day at least after many failures", time.Minute, 99, 0, day / 2},
		{"takes no number for the least jitter", time.Minute, 1, math.NaN(), 30 * time.Second},
		{"takes an endless jitter for the most", time.Minute, 1, math.Inf(1), 90 * time.Second},
		{"takes a negative jitter for the least", time.Minute, 1, -7, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.Backoff(test.base, test.errors, test.jitter); got != test.want {
				t.Errorf("delay %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(int64(30*time.Second), 1, 0.5)
	f.Add(int64(0), math.MinInt, math.Inf(-1))
	f.Add(int64(math.MaxInt64), math.MaxInt, math.NaN())
	f.Add(int64(math.MinInt64), 0, 1.0)
	f.Add(int64(1), 2, 0.0)
	f.Fuzz(func(t *testing.T, base int64, errors int, jitter float64) {
		b := time.Duration(base)
		floor := min(b, policy.MaxRetryDelay) / 2
		if b <= 0 {
			floor = policy.DefaultRetryDelay / 2
		}
		got := policy.Backoff(b, errors, jitter)
		if got < floor || got > policy.MaxRetryDelay {
			t.Errorf("Backoff(%v, %d, %v) = %v, want %v to %v", b, errors, jitter, got, floor, policy.MaxRetryDelay)
		}
		if more := policy.Backoff(b, errors/2, jitter); errors > 0 && more > got {
			t.Errorf("after %d failures the delay is %v, and %v after %d", errors/2, more, got, errors)
		}
		interval := b
		if b <= 0 {
			interval = 12 * time.Hour
		}
		floor = min(interval, math.MaxInt64/2) / 2
		if got := policy.CheckDelay(b, jitter); got < floor || got/3 > floor+1 {
			t.Errorf("CheckDelay(%v, %v) = %v, want %v to three times that", b, jitter, got, floor)
		}
	})
}

func TestCheckDelay(t *testing.T) {
	for _, test := range []struct {
		name     string
		interval time.Duration
		jitter   float64
		want     time.Duration
	}{
		{"is the interval", time.Hour, 0.5, time.Hour},
		{"is half of the interval at least", time.Hour, 0, 30 * time.Minute},
		{"is half a day without an interval", 0, 0.5, 12 * time.Hour},
		{"is half a day for a negative interval", -time.Hour, 0.5, 12 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.CheckDelay(test.interval, test.jitter); got != test.want {
				t.Errorf("delay %v, want %v", got, test.want)
			}
		})
	}
	t.Run("is long for the longest interval", func(t *testing.T) {
		const century = 100 * 365 * day
		for _, jitter := range []float64{0.5, 0.9, 1} {
			if got := policy.CheckDelay(math.MaxInt64, jitter); got < century {
				t.Errorf("delay %v with jitter %v, want over a century", got, jitter)
			}
		}
	})
}

func TestRetry(t *testing.T) {
	const base, middle = time.Minute, 0.5
	now := start
	in := func(d time.Duration) time.Time { return now.Add(d) }
	for _, test := range []struct {
		name    string
		failure policy.Failure
		errors  int
		want    time.Duration
	}{
		{"obeys the back-off", policy.Failure{}, 3, 4 * time.Minute},
		{"obeys the CA that wants more time", policy.Failure{RetryAt: in(time.Hour)}, 3, time.Hour},
		{"obeys the back-off where the CA wants less time", policy.Failure{RetryAt: in(time.Second)}, 3, 4 * time.Minute},
		{"obeys the back-off where the CA names the past", policy.Failure{RetryAt: in(-day)}, 3, 4 * time.Minute},
		{"waits a day after a permanent problem", policy.Failure{Permanent: true}, 1, day},
		{"waits a day after a permanent problem although the CA wants less time",
			policy.Failure{Permanent: true, RetryAt: in(time.Hour)}, 1, day},
		{"does not wait a day after a permanent problem where little life is left",
			policy.Failure{Permanent: true, Left: 60 * time.Hour}, 1, 6 * time.Hour},
		{"waits an hour after a permanent problem however little life is left",
			policy.Failure{Permanent: true, Left: time.Minute}, 1, time.Hour},
		{"waits longer after a permanent problem if the CA says so",
			policy.Failure{Permanent: true, RetryAt: in(3 * day)}, 1, 3 * day},
		{"waits some hours where a name has nothing in date", policy.Failure{Left: 60 * day, Lacking: true}, 20, 4 * time.Hour},
		{"waits a day where that is the name's fault", policy.Failure{Left: 60 * day, Lacking: true, Permanent: true}, 20, day},
		{"obeys the CA for a week", policy.Failure{RetryAt: in(7 * day)}, 1, 7 * day},
		{"obeys the CA for no more than a week", policy.Failure{RetryAt: in(8 * day)}, 1, 7 * day},
		{"obeys no CA for millennia",
			policy.Failure{RetryAt: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}, 1, 7 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := policy.Retry(test.failure, base, test.errors, now, middle)
			if !got.Equal(in(test.want)) {
				t.Errorf("after %v, want %v", got.Sub(now), test.want)
			}
			// What Retry says is what Next obeys.
			rules := policy.Rules{KeyTypes: []string{"P-256"}}
			if d := policy.Next(rules, policy.Facts{NotBefore: got}, now); d.Due() || !d.At.Equal(got) {
				t.Errorf("Next says %v, due %v", d.At.Sub(now), d.Due())
			}
		})
	}
}

func TestLook(t *testing.T) {
	in := func(d time.Duration) time.Time { return start.Add(d) }
	for _, test := range []struct {
		name string
		at   time.Time
		left time.Duration
		want time.Time
	}{
		{"when the CA says", in(2 * day), 30 * day, in(2 * day)},
		{"when half of the rest is over", in(2 * day), 3 * day, in(36 * time.Hour)},
		{"in some minutes at the very end", in(2 * day), time.Minute, in(5 * time.Minute)},
		{"in some hours when nothing is in date", in(2 * day), 0, in(4 * time.Hour)},
		{"when the CA says, where nothing is in date", in(time.Hour), 0, in(time.Hour)},
		{"at once when the CA says nothing", time.Time{}, 0, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.Look(test.at, test.left, start, 0.5); !got.Equal(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
