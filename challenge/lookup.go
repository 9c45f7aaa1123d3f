package challenge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/store"
)

const (
	// A validator gives up after some ten seconds. A lookup that has waited
	// for one round before its own must still be in time.
	roundLimit  = 4 * time.Second
	lookupLimit = 2 * roundLimit

	// Rounds come at once while they are few. A flood is served by ten
	// rounds a second, and delays a validator by a tenth of a second.
	roundPace  = 100 * time.Millisecond
	roundBurst = 50

	// Up to this many wanted keys are read as they are; of more, it is first
	// listed which of them are there.
	directReads   = 4
	parallelReads = 8
)

// errUnread is the outcome of a round that did not come to its end.
var errUnread = errors.New("challenge: the Store did not say whether there is an answer")

// lookup reads answers from a Store for whoever asks, which may be a CA's
// validators at several places at once, or a flood.
//
// It reads in rounds. A round gathers the keys that are asked for while the
// one before is reading; then one of the askers reads all of them. So one
// round at a time reads, whatever the number of askers, and memory is held
// only for those who wait. Nothing is remembered between rounds: what a round
// says was read after it was asked for, so an answer that was put before the
// CA was told to look is always seen, and no attacker who asks for a name
// ahead of time can keep it hidden, as he could behind a cache of names that
// are not there.
//
// The zero lookup is ready for use, concurrently.
type lookup struct {
	mu        sync.Mutex    // guards what follows; not held while waiting or reading
	reading   chan struct{} // holds an element while a round reads
	gathering *round        // can be joined; nil if there is none
	paid      time.Time     // rounds up to here have been paid for by waiting
}

// round is one reading of the Store.
type round struct {
	wanted  map[string]int // by key, how many wait for it; guarded by lookup.mu while gathering
	done    chan struct{}  // closed when the round is over
	results map[string]result
	err     error // for the keys that have no result
}

type result struct {
	value []byte
	err   error
}

// get returns the value of prefix+name in s, or an error that is
// fs.ErrNotExist, or one that says why this is not known.
func (l *lookup) get(ctx context.Context, s store.Store, prefix, name string, log *slog.Logger) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	key := prefix + name
	r, lead := l.join(key)
	if lead {
		// Others rely on the round, so it outlives the one who leads it.
		l.lead(context.WithoutCancel(ctx), s, prefix, r, log)
	} else {
		select {
		case <-r.done:
		case <-ctx.Done():
			l.leave(r, key)
			return nil, fmt.Errorf("%w: %w", errUnread, context.Cause(ctx))
		}
	}
	if res, ok := r.results[key]; ok {
		return res.value, res.err
	}
	return nil, r.err
}

// join adds key to the gathering round. It reports whether the caller has
// begun that round and must lead it.
func (l *lookup) join(key string) (r *round, lead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading == nil {
		l.reading = make(chan struct{}, 1)
	}
	r = l.gathering
	if r == nil {
		lead = true
		r = &round{wanted: make(map[string]int), done: make(chan struct{}), err: errUnread}
		l.gathering = r
	}
	r.wanted[key]++
	return r, lead
}

// leave takes key from a round that has not begun to read, so that askers who
// come and go leave nothing behind.
func (l *lookup) leave(r *round, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gathering != r {
		return
	}
	if r.wanted[key]--; r.wanted[key] == 0 {
		delete(r.wanted, key)
	}
}

// lead waits until it is r's turn, closes it to joiners and reads it.
func (l *lookup) lead(ctx context.Context, s store.Store, prefix string, r *round, log *slog.Logger) {
	defer close(r.done) // whatever happens, a panic of the Store included
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()

	err := l.takeTurn(ctx)
	keys := l.begin(r)
	if err != nil {
		r.err = fmt.Errorf("%w: %w", errUnread, err)
	} else {
		defer func() { <-l.reading }()
		readCtx, cancel := context.WithTimeout(ctx, roundLimit)
		defer cancel()
		r.results, err = readAll(readCtx, s, prefix, keys)
		if err != nil && r.results == nil {
			r.err = fmt.Errorf("%w: %w", errUnread, err)
		}
	}
	if err != nil {
		// Here, once for all who asked: rounds are few, askers may be many.
		log.Warn("challenge answers could not be read", "prefix", prefix, "error", err)
	}
}

// takeTurn returns nil when no other round reads and the pace allows one.
func (l *lookup) takeTurn(ctx context.Context) error {
	select {
	case l.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if wait := l.pay(time.Now()); wait > 0 {
		<-time.After(wait) // roundPace at most
	}
	return nil
}

// pay takes the price of one round and returns how long to wait before it:
// roundBurst rounds are free, then there is one each roundPace.
func (l *lookup) pay(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paid.Before(now) {
		l.paid = now
	}
	l.paid = l.paid.Add(roundPace)
	return min(l.paid.Sub(now)-roundBurst*roundPace, roundPace)
}

// begin closes r to joiners and returns the keys it is to read.
func (l *lookup) begin(r *round) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gathering = nil
	keys := make([]string, 0, len(r.wanted))
	for key := range r.wanted {
		keys = append(keys, key)
	}
	r.wanted = nil
	return keys
}

// readAll reads keys, which are all below prefix. The error tells of the
// first thing that went wrong; with nil results nothing is known.
func readAll(ctx context.Context, s store.Store, prefix string, keys []string) (map[string]result, error) {
	results := make(map[string]result, len(keys))
	if len(keys) > directReads {
		there, err := listed(ctx, s, prefix, keys)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			results[key] = result{err: fs.ErrNotExist}
		}
		keys = there
	}
	if len(keys) == 1 { // as nearly always
		value, _, err := s.Get(ctx, keys[0])
		results[keys[0]] = result{value, err}
		return results, unlessMissing(err)
	}
	read := make([]result, len(keys))
	var readers errgroup.Group
	readers.SetLimit(parallelReads)
	for i, key := range keys {
		readers.Go(func() error {
			value, _, err := s.Get(ctx, key)
			read[i] = result{value, err}
			return unlessMissing(err)
		})
	}
	err := readers.Wait()
	for i, key := range keys {
		results[key] = read[i]
	}
	return results, err
}

// unlessMissing returns err, unless it says that there is no value: that is
// an answer.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// listed returns those of keys that are in s below prefix. What else is there
// is passed over without being kept.
func listed(ctx context.Context, s store.Store, prefix string, keys []string) ([]string, error) {
	wanted := make(map[string]bool, len(keys))
	for _, key := range keys {
		wanted[key] = true
	}
	var there []string
	for item, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if wanted[item.Key] {
			delete(wanted, item.Key)
			there = append(there, item.Key)
		}
	}
	return there, nil
}
