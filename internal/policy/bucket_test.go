package policy_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/policy"
)

func TestBucket(t *testing.T) {
	rate := policy.Rate{Count: 5, Per: time.Hour}
	taken := func(n int) policy.Bucket { return policy.Bucket{}.Take(rate, n, start) }
	for _, test := range []struct {
		name   string
		bucket policy.Bucket
		rate   policy.Rate
		want   time.Duration // from start
	}{
		{"never used has tokens", policy.Bucket{}, rate, 0},
		{"with one token left has it", taken(4), rate, 0},
		{"with none left gets one in a fifth of the time", taken(5), rate, 12 * time.Minute},
		{"overdrawn gets none sooner, and none later", taken(500), rate, 12 * time.Minute},
		{"that was emptied a while ago has one", policy.Bucket{}.Take(rate, 5, start.Add(-12*time.Minute)), rate, 0},
		{"that cannot be so empty is not waited for", policy.Bucket{Full: start.AddDate(10, 0, 0)}, rate, 0},
		{"without a count has no limit", taken(5), policy.Rate{Per: time.Hour}, 0},
		{"without a time has no limit", taken(5), policy.Rate{Count: 5}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.bucket.Free(test.rate, start).Sub(start); got != test.want {
				t.Errorf("free after %v, want %v", got, test.want)
			}
		})
	}
	t.Run("put right by the next that is taken", func(t *testing.T) {
		b := policy.Bucket{Full: start.AddDate(10, 0, 0)}.Take(rate, 1, start)
		if want := start.Add(time.Hour); !b.Full.Equal(want) {
			t.Errorf("full at %v, want %v", b.Full, want)
		}
	})
	t.Run("without a limit stays as it is", func(t *testing.T) {
		if b := taken(5); b.Take(policy.Rate{}, 1, start) != b {
			t.Error("it has changed")
		}
	})
}

// What was taken comes back with time, one after the other.
func TestBucketOut(t *testing.T) {
	rate := policy.Rate{Count: 5, Per: time.Hour}
	for _, test := range []struct {
		name  string
		rate  policy.Rate
		after time.Duration
		want  int
	}{
		{"all at first", rate, 0, 4},
		{"one less when a fifth of the time is over", rate, 12 * time.Minute, 3},
		{"and another as soon as that has begun to come back", rate, 12*time.Minute + 1, 2},
		{"none when the bucket is full", rate, 48 * time.Minute, 0},
		{"none later", rate, 30 * day, 0},
		{"all if the clock was set back", rate, -30 * day, 4},
		{"all without a limit", policy.Rate{}, 30 * day, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := policy.Bucket{}.Take(rate, 4, start)
			if got := b.Out(test.rate, 4, start.Add(test.after)); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// Who waits until a token is free gives out no more than the rate allows, in
// any stretch of its length, and never waits longer than a token takes.
func TestBucketKeepsItsRate(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		rate := policy.Rate{Count: 1 + r.IntN(20), Per: time.Second + time.Duration(r.Int64N(int64(7*day)))}
		each := rate.Per / time.Duration(rate.Count)
		var b policy.Bucket
		var given []time.Time
		now := start
		for range 200 {
			free := b.Free(rate, now)
			if free.Before(now) || free.After(now.Add(each)) {
				t.Fatalf("seed %d: the wait is %v, want at most %v", seed, free.Sub(now), each)
			}
			now = free
			if again := b.Free(rate, now); again.After(now) {
				t.Fatalf("seed %d: at the moment it named, it is not free for another %v", seed, again.Sub(now))
			}
			b = b.Take(rate, 1, now)
			given = append(given, now)
			// All at once, and then one at a time: twice the count at the most.
			if n := len(given) - 1 - 2*rate.Count; n >= 0 && now.Sub(given[n]) < rate.Per-each {
				t.Fatalf("seed %d: %d within %v, the rate is %d in %v", seed, 2*rate.Count+1, now.Sub(given[n]), rate.Count, rate.Per)
			}
			if r.IntN(3) == 0 {
				now = now.Add(time.Duration(r.Int64N(int64(rate.Per))))
			}
		}
	}
}

func TestBucketOfAnExtremeRate(t *testing.T) {
	for _, rate := range []policy.Rate{{Count: math.MaxInt, Per: 1}, {Count: 1, Per: math.MaxInt64}, {Count: -1, Per: -1}} {
		b := policy.Bucket{}.Take(rate, 1, start)
		if free := b.Free(rate, start); free.Before(start) {
			t.Errorf("%+v: free before now, at %v", rate, free)
		}
	}
}

func TestBucketGive(t *testing.T) {
	r := policy.Rate{Count: 5, Per: 5 * time.Hour}
	now := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	full := policy.Bucket{}.Take(r, 5, now)
	if free := full.Give(r).Free(r, now); !free.Equal(now) {
		t.Errorf("what was put back is free at %v, want now", free)
	}
	if got := (policy.Bucket{}).Give(r); got != (policy.Bucket{}) {
		t.Errorf("a full bucket became %v", got)
	}
}

// A token may be taken later than it was counted: then it comes back later.
func TestBucketLate(t *testing.T) {
	r := policy.Rate{Count: 5, Per: 5 * time.Hour}
	counted := policy.Bucket{}.Take(r, 1, start)
	if got, want := counted.Late(r, start.Add(time.Hour)).Full, start.Add(2*time.Hour); !got.Equal(want) {
		t.Errorf("taken an hour later, the bucket is full at %v, want %v", got, want)
	}
	if got, want := counted.Take(r, 4, start).Late(r, start.Add(time.Hour)).Full, start.Add(5*time.Hour); !got.Equal(want) {
		t.Errorf("with others before, the bucket is full at %v, want %v: nothing changes", got, want)
	}
	if got := (policy.Bucket{}).Late(policy.Rate{}, start); !got.Full.IsZero() {
		t.Errorf("without a limit, the bucket is full at %v", got.Full)
	}
}
