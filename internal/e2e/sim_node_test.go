package e2e_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/store/storetest"
)

// simNode is one life of a node: a Manager from its start to its stop or
// crash.
type simNode struct {
	s      *sim
	id     int
	life   int
	draw   draw
	line   *lifeline
	m      *md.Manager
	update chan struct{} // one Update at a time
	born   time.Time

	// fuse counts down the operations until the node crashes. Zero: it does
	// not.
	fuse atomic.Int64

	domains []md.Domain // as the node was told; guarded by the sim's mu

	chance  sync.Mutex // guards what follows
	drawnAt time.Time
	drawn   int            // draws at that moment
	sent    map[string]int // requests so far, by what tells them apart
}

func (n *simNode) String() string { return fmt.Sprintf("node %d.%d", n.id, n.life) }

// newNode makes a node's Manager for the Domains as they are.
func (s *sim) newNode(id, life int) *simNode {
	n := &simNode{
		s: s, id: id, life: life, draw: s.draw.of("node", id, life),
		line: newLifeline(), update: make(chan struct{}, 1), born: time.Now(), domains: s.config(), sent: make(map[string]int),
	}
	logger := slog.New(slog.DiscardHandler)
	if s.verbose {
		logger = slog.New(slog.NewTextHandler(nodeLog{n}, nil))
	}
	n.m = &md.Manager{
		Domains:       n.domains,
		AcceptTerms:   true,
		Store:         &storetest.Faulty{Store: s.witness, Fault: n.storeFault},
		HTTPClient:    &http.Client{Transport: roundTripper(n.roundTrip)},
		Notifier:      md.NotifierFunc(n.notify),
		Logger:        logger,
		CheckInterval: s.checkInterval,
	}
	return n
}

// nodeLog takes a node's log into the trace.
type nodeLog struct{ n *simNode }

func (l nodeLog) Write(p []byte) (int, error) {
	l.n.s.trace("%v: %.400s", l.n, p)
	return len(p), nil
}

// apart is how far the clock of a node goes wrong at all times. What is to be
// done at one moment is done in any order, each time another: nothing that
// nodes do is to fall together, neither with each other nor with the checks.
func (s *sim) apart(id int) time.Duration { return time.Duration(1+id) * 17 * time.Millisecond }

// keep runs nodes in the place id, one after the other, until the simulation
// ends.
func (s *sim) keep(id int) {
	time.Sleep(time.Second + s.apart(id))
	for life := 0; ; life++ {
		key := fmt.Sprint("node ", id)
		n := s.newNode(id, life)
		s.enter(n)
		ctx, cancel := context.WithCancel(engine.WithKnobs(context.Background(), n.knobs()))
		done := make(chan error, 1)
		go func() { done <- n.m.Run(ctx) }()
		crashed, ended := false, false
		select {
		case <-n.line.dead:
			crashed = true
			time.Sleep(time.Microsecond) // who else woke up goes first
		case <-s.places[id].restart:
		case <-s.ended:
			ended = true
		}
		s.leave(n, crashed)
		cancel()
		if err := <-done; err != nil && !crashed {
			s.violate("%v: Run returned %v after its context ended", n, err)
		}
		if ended {
			return
		}
		pause := n.draw.of("pause").between(time.Second, 12*time.Hour)
		if n.draw.of("long pause").chance(0.1) {
			pause = n.draw.of("pause").between(time.Hour, 60*day)
		}
		s.trace("%v is gone; the next life begins in %v", n, pause)
		select {
		case <-time.After(pause):
		case <-s.calm: // from here on nothing goes wrong any more
		}
		s.mu.Lock()
		s.troubles.end(key, time.Now())
		s.mu.Unlock()
	}
}

// knobs are the times and the keys of the simulation.
func (n *simNode) knobs() engine.Knobs {
	return engine.Knobs{
		Tick: time.Hour,
		Wall: func() time.Time {
			return time.Now().Add(time.Duration(n.s.places[n.id].offset.Load()) - n.s.apart(n.id))
		},
		NewKey: func(_ context.Context, t acmeclient.KeyType) (crypto.Signer, error) {
			return poolKey(n.s.keys.Add(1), t), nil
		},
		Jitter: n.jitter,
	}
}

// jitter is what the engine leaves to chance. It depends on the moment, and on
// how many draws there were at it: one that is drawn more often changes little.
func (n *simNode) jitter() float64 {
	n.chance.Lock()
	defer n.chance.Unlock()
	if now := time.Now(); now.Equal(n.drawnAt) {
		n.drawn++
	} else {
		n.drawnAt, n.drawn = now, 0
	}
	return n.draw.of("jitter", n.drawnAt.Sub(n.s.began), n.drawn).share()
}

// storeFault is what goes wrong with an operation of the node's Store.
func (n *simNode) storeFault(op storetest.Op) storetest.Fault {
	d := n.draw.of("store", op.Kind, op.Key, op.Nth)
	d.take(50*time.Microsecond, 2*time.Millisecond)
	if n.line.cut.Load() {
		return storetest.FaultBefore
	}
	if n.burn() {
		n.s.trace("%v crashes at %s %s", n, op.Kind, op.Key)
		defer n.line.sever()
		return pick(d, storetest.FaultBefore, storetest.FaultAfter)
	}
	switch n.s.storeState.Load() {
	case storeFull:
		if op.Kind == "put" {
			return storetest.FaultBefore
		}
	case storeDown:
		return storetest.FaultBefore
	}
	if n.s.isCalm() || !d.chance(n.s.storeFaults) {
		return storetest.FaultNone
	}
	faults := []storetest.Fault{storetest.FaultBefore, storetest.FaultAfter}
	if n.s.hangs {
		faults = append(faults, storetest.FaultHang, storetest.FaultHangAfter)
	}
	fault := pick(d.of("how"), faults...)
	n.s.trace("%v: %s %s meets %v", n, op.Kind, op.Key, fault)
	return fault
}

// burn reports whether the node crashes with this operation.
func (n *simNode) burn() bool { return n.fuse.Load() > 0 && n.fuse.Add(-1) == 0 }

// roundTrip is the way to the CAs.
func (n *simNode) roundTrip(r *http.Request) (*http.Response, error) {
	n.drawFor(r).take(time.Millisecond, 50*time.Millisecond)
	if n.line.cut.Load() {
		return nil, errors.New("the process is dead")
	}
	ca := n.s.caAt(r.URL.Host)
	if n.burn() {
		after := n.draw.of("crash").chance(0.5)
		n.s.trace("%v crashes at %s, after its effect: %v", n, r.URL, after)
		if after {
			if res, err := ca.client.Transport.RoundTrip(r); err == nil {
				res.Body.Close()
			}
		}
		n.line.sever()
		return nil, errors.New("the process is dead")
	}
	res, err := ca.client.Transport.RoundTrip(r)
	if n.line.cut.Load() {
		if err == nil {
			res.Body.Close()
		}
		return nil, errors.New("the process is dead")
	}
	return res, err
}

// drawFor is chance for a request. It does not depend on which of two requests
// is sent first: what asks for orders often begins at the same moment, when the
// account is there.
func (n *simNode) drawFor(r *http.Request) draw {
	what := r.URL.RequestURI()
	if strings.Contains(what, "/new-order") && r.GetBody != nil {
		var jws struct{ Payload string }
		if body, err := r.GetBody(); err == nil && json.NewDecoder(body).Decode(&jws) == nil {
			what = jws.Payload
		}
	}
	n.chance.Lock()
	defer n.chance.Unlock()
	n.sent[what]++
	return n.draw.of("request", what, n.sent[what])
}

// notify is the Notifier of all nodes.
func (n *simNode) notify(ctx context.Context, e md.Event) error {
	n.s.trace("%v: event %s of %s %s %v", n, e.Kind, e.Domain, e.ChallengeName, shortError(e.Err))
	switch n.s.notifierState.Load() {
	case notifierVetoes:
		return fmt.Errorf("no changes this week: %w", md.ErrVeto)
	case notifierFails:
		return errors.New("the mail server is down")
	case notifierHangs:
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func shortError(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return text[:min(len(text), 300)]
}
