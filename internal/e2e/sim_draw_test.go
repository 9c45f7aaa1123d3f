package e2e_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"time"
)

// draw is chance in a simulation: a number that depends on the seed and on
// what it is for, and on nothing else. There is no stream of numbers that the
// goroutines would share, so that a seed meets the same faults again.
type draw uint64

// of returns the draw for something more particular.
func (d draw) of(what ...any) draw {
	h := fnv.New64a()
	fmt.Fprintln(h, uint64(d), what)
	// FNV changes its upper bits little for what comes last: mix them, as
	// SplitMix64 does.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return draw(x ^ x>>31)
}

// share is from 0 to 1, without 1.
func (d draw) share() float64 { return float64(d>>11) / (1 << 53) }

// chance is true in that share of cases.
func (d draw) chance(share float64) bool { return d.share() < share }

// below is from 0 to n-1.
func (d draw) below(n int) int { return int(uint64(d) % uint64(n)) }

// pick is one of list.
func pick[T any](d draw, list ...T) T { return list[d.below(len(list))] }

// between is a time from shortest to longest; of each order of magnitude
// there are as many.
func (d draw) between(shortest, longest time.Duration) time.Duration {
	low, high := math.Log(float64(shortest)), math.Log(float64(longest))
	return time.Duration(math.Exp(low + (high-low)*d.share())).Round(time.Second)
}

// gap is the time to the next of things that happen once in mean on average,
// independent of each other.
func (d draw) gap(mean time.Duration) time.Duration {
	return time.Duration(-math.Log(1-d.share()) * float64(mean)).Round(time.Second)
}
