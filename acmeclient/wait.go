package acmeclient

import (
	"context"
	"time"
)

const (
	firstPause = 25 * time.Millisecond // about what an idle CA needs for a validation
	maxPause   = 5 * time.Second       // and no longer than that if the CA does not say
	maxWait    = time.Minute           // as long as the CA may make us wait at once
	maxWaits   = 5 * time.Minute       // and with all pauses of a call together
)

// waiting is the pauses of one call that asks the CA again and again.
type waiting struct {
	op, url string
	pause   time.Duration // the next if the CA does not say
	end     time.Time     // of all waiting
}

func newWaiting(op, url string) *waiting {
	return &waiting{op: op, url: url, pause: firstPause, end: time.Now().Add(maxWaits)}
}

// wait pauses as long as the reply says, or a little longer than the last time. A nil reply says nothing.
func (w *waiting) wait(ctx context.Context, r *reply) error {
	d := r.retryAfter()
	if d == 0 {
		d = w.pause
		w.pause = min(2*w.pause, maxPause)
	}
	return w.until(ctx, time.Now().Add(d))
}

// until pauses until t, or returns a Problem that wraps ErrWait if that is too far away. A t in the past is no pause.
func (w *waiting) until(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	switch {
	case d <= 0:
		return nil
	case d > maxWait:
		return &Problem{Op: w.op, URL: w.url, RetryAt: t, Err: ErrWait}
	case t.After(w.end):
		return &Problem{Op: w.op, URL: w.url, RetryAt: time.Now().Add(maxWait), Err: ErrWait}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return &Problem{Op: w.op, URL: w.url, Err: ctx.Err()}
	case <-timer.C:
		return nil
	}
}
