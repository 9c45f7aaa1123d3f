package policy

import "time"

// Rate is a limit of so many in so long a time, as a token bucket has it:
// all at once, and then one each Per/Count.
type Rate struct {
	Count int
	Per   time.Duration
}

// Bucket is how full the bucket of a Rate is, as one moment: when it will be
// full again. The zero Bucket is full. It is what CAs themselves keep (GCRA).
type Bucket struct {
	Full time.Time `json:"full,omitzero"`
}

// Free is when the next token can be taken: now if there is one. A Rate
// without Count or Per has no limit.
func (b Bucket) Free(r Rate, now time.Time) time.Time {
	if r.Count <= 0 || r.Per <= 0 {
		return now
	}
	free := b.Full.Add(r.each() - r.Per)
	if free.Before(now) || b.Full.After(now.Add(r.Per)) {
		// One that is full later than it can be was written with another Rate,
		// or by a clock that was ahead. To wait for it could take years; the
		// next Take puts it right.
		return now
	}
	return free
}

// Tokens is how many can be taken now, most at most. A Rate without Count or
// Per has no limit.
func (b Bucket) Tokens(r Rate, most int, now time.Time) int {
	n := 0
	for n < most && !b.Free(r, now).After(now) {
		b, n = b.Take(r, 1, now), n+1
	}
	return n
}

// Take returns the Bucket after n tokens have been taken, whether they were
// there or not: what has happened is counted.
func (b Bucket) Take(r Rate, n int, now time.Time) Bucket {
	if r.Count <= 0 || r.Per <= 0 {
		return b
	}
	from := b.Full
	if from.Before(now) {
		from = now
	}
	last := now.Add(r.Per)
	if from = from.Add(time.Duration(n) * r.each()); from.After(last) {
		from = last
	}
	return Bucket{Full: from.UTC()}
}

// Give returns the Bucket after one token has been put back that was taken for
// what did not happen.
func (b Bucket) Give(r Rate) Bucket {
	if r.Count <= 0 || r.Per <= 0 || b.Full.IsZero() {
		return b
	}
	return Bucket{Full: b.Full.Add(-r.each()).UTC()}
}

// Late returns the Bucket when the token that was taken last may have been taken
// as late as now.
func (b Bucket) Late(r Rate, now time.Time) Bucket {
	if r.Count <= 0 || r.Per <= 0 {
		return b
	}
	if least := now.Add(r.each()); b.Full.Before(least) {
		return Bucket{Full: least.UTC()}
	}
	return b
}

// Out is how many of n tokens that were taken before, when this was the Bucket
// that they left, have not come back meanwhile.
func (b Bucket) Out(r Rate, n int, now time.Time) int {
	switch {
	case r.Count <= 0 || r.each() <= 0:
		return n
	case !b.Full.After(now):
		return 0
	}
	return int(min(int64(n), int64(b.Full.Sub(now)/r.each())))
}

// each is the time in which one token comes back.
func (r Rate) each() time.Duration { return r.Per / time.Duration(r.Count) }
