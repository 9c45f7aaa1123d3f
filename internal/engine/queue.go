package engine

import (
	"container/heap"
	"time"
)

// queue orders Domains by when to look at them next, by the wall clock. It
// is guarded by the Engine's mu.
type queue []*domain

func (q queue) Len() int { return len(q) }

// Less orders those that are due at one moment by name: the same each time.
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return byName(q[i], q[j]) < 0
	}
	return q[i].due.Before(q[j].due)
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push and Pop are for package heap.
func (q *queue) Push(x any) {
	d := x.(*domain)
	d.at = len(*q)
	*q = append(*q, d)
}

func (q *queue) Pop() any {
	old := *q
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	d.at = -1
	return d
}

// schedule puts d into the queue for the moment at, or moves it there.
func (e *Engine) schedule(d *domain, at time.Time) {
	d.due = at
	if d.removed {
		return
	}
	if d.at >= 0 {
		heap.Fix(&e.queue, d.at)
	} else {
		heap.Push(&e.queue, d)
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// unschedule takes d out of the queue.
func (e *Engine) unschedule(d *domain) {
	if d.at >= 0 {
		heap.Remove(&e.queue, d.at)
	}
}

// A lane is the way to one CA: so many attempts at once, the others wait in
// the order in which they became due. It is guarded by the Engine's mu.
type lane struct {
	busy    int
	waiting []*domain
}

// laneWidth bounds the attempts at one CA at a time. A slow Domain holds one
// place; the others go on.
const laneWidth = 32

// admit takes all Domains that are due from the queue, and returns those for
// which their CA's lane has a place.
func (e *Engine) admit(now time.Time) []*domain {
	e.mu.Lock()
	defer e.mu.Unlock()
	var start []*domain
	for len(e.queue) > 0 && !e.queue[0].due.After(now) {
		d := heap.Pop(&e.queue).(*domain)
		d.state = inLane
		d.lane = e.caAt(d.def, d.job.CA).URL
		l := e.lanes[d.lane]
		if l == nil {
			l = new(lane)
			e.lanes[d.lane] = l
		}
		if l.busy < laneWidth {
			l.busy++
			d.state = working
			start = append(start, d)
		} else {
			l.waiting = append(l.waiting, d)
		}
	}
	return start
}

// leave gives up the place in the lane to ca, and returns the Domain that
// takes it, nil if none waits.
func (e *Engine) leave(ca string) *domain {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lanes[ca]
	for len(l.waiting) > 0 {
		d := l.waiting[0]
		l.waiting = l.waiting[1:]
		// It may have been removed, or been looked at meanwhile for somebody
		// who asked.
		if !d.removed && d.state == inLane && d.lane == ca {
			d.state = working
			return d
		}
	}
	l.busy--
	return nil
}

// untilNext is how long the scheduler may sleep.
func (e *Engine) untilNext(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	wait := e.tick()
	if len(e.queue) > 0 {
		wait = min(wait, e.queue[0].due.Sub(now))
	}
	return max(wait, 0)
}
