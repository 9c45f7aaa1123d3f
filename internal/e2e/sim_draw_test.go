package e2e_test

import (
	"fmt"
	"math"
	"time"
)

// draw is chance in a simulation: a number that depends on the seed and on
// what it is for, and on nothing else. There is no stream of numbers that the
// goroutines would share, so that a seed meets the same faults again.
type draw uint64

// of returns the draw for something more particular: what is a list of
// strings and whole numbers.
func (d draw) of(what ...any) draw {
	for _, w := range what {
		switch w := w.(type) {
		case string:
			d = d.text(w)
		case int:
			d = d.number(uint64(w))
		case int64:
			d = d.number(uint64(w))
		case time.Duration:
			d = d.number(uint64(w))
		default:
			panic(fmt.Sprintf("a draw cannot be for a %T", w))
		}
	}
	return d
}

// text is FNV-1a over a string, mixed.
func (d draw) text(s string) draw {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return d.number(h)
}

// number mixes, as SplitMix64 does.
func (d draw) number(n uint64) draw {
	x := uint64(d)*0x9e3779b97f4a7c15 + n + 0x9e3779b97f4a7c15
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

// take lets time pass, of which no two draws are likely to have the same. So
// it is the seed that says who of two goroutines goes first: where both wait
// for the same moment, nobody does.
func (d draw) take(shortest, longest time.Duration) {
	time.Sleep(shortest + time.Duration(d.of("takes").share()*float64(longest-shortest)))
}

// gap is the time to the next of things that happen once in mean on average,
// independent of each other.
func (d draw) gap(mean time.Duration) time.Duration {
	return time.Duration(-math.Log(1-d.share()) * float64(mean)).Round(time.Second)
}
