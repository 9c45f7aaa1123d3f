package e2e_test

import (
	"slices"
	"time"
)

// A trouble is a time in which something does not work that a certificate
// needs to be renewed. It may still go on.
type trouble struct {
	what     string
	from, to time.Time // to is zero while it goes on
}

// troubles are those that the simulation has made, by what they befall: a
// CA, a node, a Domain, the Store, the Notifier.
type troubles map[string][]trouble

// begin and end note a trouble. Those with the same key do not overlap.
func (t troubles) begin(key, what string, at time.Time) {
	t[key] = append(t[key], trouble{what: what, from: at})
}

func (t troubles) end(key string, at time.Time) {
	list := t[key]
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		list[n-1].to = at
	}
}

// brief notes a trouble of which the end is known.
func (t troubles) brief(key, what string, at time.Time, length time.Duration) {
	t[key] = append(t[key], trouble{what: what, from: at, to: at.Add(length)})
}

// calm reports whether there was none of the keys' troubles between two
// moments.
func (t troubles) calm(from, to time.Time, keys ...string) bool {
	return t.longestCalm(from, to, keys...) >= to.Sub(from)
}

// longestCalm is the longest time without any of the keys' troubles between
// two moments.
func (t troubles) longestCalm(from, to time.Time, keys ...string) time.Duration {
	var all []trouble
	for _, key := range keys {
		all = append(all, t[key]...)
	}
	slices.SortFunc(all, func(a, b trouble) int { return a.from.Compare(b.from) })
	var longest time.Duration
	calm := from
	for _, x := range all {
		if !x.to.IsZero() && x.to.Before(calm) {
			continue
		}
		if x.from.After(to) {
			break
		}
		longest = max(longest, x.from.Sub(calm))
		if calm = x.to; x.to.IsZero() {
			return longest
		}
	}
	return max(longest, to.Sub(calm))
}
