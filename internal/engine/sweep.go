package engine

import (
	"context"
	"maps"
	"slices"
	"time"
)

// sweepMost bounds what is looked at in one sweep.
const sweepMost = 1000

// sweep removes what nobody needs any more: from memory what has expired, and
// from the Store the limits of CAs that are over. It does so once a day, a part
// at a time; several processes that do the same are of no harm.
func (e *Engine) sweep(ctx context.Context) {
	now := e.now()
	e.mu.Lock()
	if now.Before(e.sweepAt) && e.sweepAt.Sub(now) < 2*sweepEvery {
		e.mu.Unlock()
		return
	}
	first := e.sweepAt.IsZero()
	e.sweepAt = now.Add(sweepEvery/2 + time.Duration(e.jitter()*float64(sweepEvery)))
	from := e.swept
	maps.DeleteFunc(e.lenders, func(_ string, l lender) bool { return !now.Before(l.notAfter) })
	e.orphans = slices.DeleteFunc(e.orphans, func(o orphan) bool { return !now.Before(o.notAfter) })
	e.mu.Unlock()
	if first { // there is enough to do at the start
		return
	}
	last, err := e.records.PurgeLimits(ctx, from, sweepMost, now)
	if err != nil && ctx.Err() == nil {
		e.log.Warn("what is over could not be removed from the Store", "error", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.swept = last
}

const sweepEvery = 24 * time.Hour
