package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/store/storetest"
)

// member is a node of the stage: a process that runs, or has run.
type member struct {
	name  string
	tune  func(m *md.Manager) error
	tick  time.Duration
	node  *node // nil while it does not run
	link  *link
	skew  atomic.Int64 // what its clock is ahead of the others
	ended time.Time
}

// link is what connects a process to the world. While it is frozen, nothing
// gets through, but gets through later; once it is cut, nothing ever does.
type link struct {
	*lifeline
	mu   sync.Mutex    // guards what follows
	gate chan struct{} // closed by thaw; nil: not frozen
	at   time.Time     // of the last operation
	rush int           // operations at that moment
	hot  bool          // there were too many
}

// pace counts operations, and slows a process down that makes no pauses: in a
// bubble no time would ever pass again.
func (l *link) pace() {
	const most = 20_000 // some Domains that are due at once make hundreds each
	l.mu.Lock()
	now := time.Now()
	if !now.Equal(l.at) {
		l.at, l.rush = now, 0
	}
	l.rush++
	tooMany := l.rush > most
	l.hot = l.hot || tooMany
	l.mu.Unlock()
	if tooMany {
		time.Sleep(time.Hour)
	}
}

func (l *link) wasHot() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hot
}

func (l *link) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate == nil {
		l.gate = make(chan struct{})
	}
}

func (l *link) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate != nil {
		close(l.gate)
		l.gate = nil
	}
}

func (l *link) frozen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gate != nil
}

// pass waits while the link is frozen, and reports whether it is not cut.
func (l *link) pass() bool {
	l.mu.Lock()
	gate := l.gate
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return !l.cut.Load()
}

func (l *link) client(base *http.Client) *http.Client {
	client := l.lifeline.client(base)
	next := client.Transport
	client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		l.pass()
		return next.RoundTrip(r)
	})
	return client
}

// member finds a node by its name.
func (s *stage) member(name string) (*member, error) {
	for _, m := range s.members {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", name)
}

// running are the nodes that run and are not frozen.
func (s *stage) running() []*member {
	var all []*member
	for _, m := range s.members {
		if m.node != nil && !m.link.frozen() {
			all = append(all, m)
		}
	}
	return all
}

// nodeCommand starts processes: "node a b [terms=no] [check=1h] [tick=10m]
// [failover=3]".
func (s *stage) nodeCommand(c *command) error {
	check, err1 := c.span("check")
	tick, err2 := c.span("tick")
	failover, err3 := c.count("failover")
	terms := c.option("terms") != "no"
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	tune := func(m *md.Manager) error {
		m.AcceptTerms, m.CheckInterval, m.RetryFailover = terms, check, failover
		return nil
	}
	for name := c.need("a name for the node"); name != ""; name = c.next() {
		m, err := s.member(name)
		if err != nil {
			m = &member{name: name}
			s.members = append(s.members, m)
		}
		if m.node != nil {
			return fmt.Errorf("node %s runs already", name)
		}
		m.tune, m.tick = tune, tick
		if err := s.boot(m); err != nil {
			return err
		}
	}
	return nil
}

// boot starts the process of a node.
func (s *stage) boot(m *member) error {
	if len(s.caNames) == 0 {
		return errors.New("declare a ca first")
	}
	l := &link{lifeline: newLifeline()}
	manager := s.manager(s.domainsFor(l)...)
	manager.Default.CAs = []md.CA{s.cas[s.caNames[0]].configured()}
	manager.Store = &storetest.Faulty{Store: s.store, Fault: func(op storetest.Op) storetest.Fault {
		l.pace()
		if !l.pass() {
			return storetest.FaultBefore
		}
		return s.disk.fault(op)
	}}
	manager.HTTPClient = l.client(s.caClient())
	manager.Notifier = &messenger{news: &s.news, node: m.name, link: l}
	manager.Logger = manager.Logger.With("node", m.name)
	if err := m.tune(manager); err != nil {
		return err
	}
	ctx := engine.WithKnobs(context.Background(), engine.Knobs{
		Wall:   func() time.Time { return s.wall().Add(time.Duration(m.skew.Load())) },
		Tick:   m.tick,
		NewKey: s.keys.newKey,
	})
	m.link, m.node = l, s.startIn(ctx, manager)
	return nil
}

// halt ends the process of a node, if it runs, as a context that ends does.
func (s *stage) halt(m *member) error {
	n := m.node
	if n == nil {
		return nil
	}
	s.unlist(n)
	n.stop()
	err := <-n.done
	m.node, m.ended = nil, time.Now()
	if err != nil {
		return fmt.Errorf("node %s ended with: %w", m.name, err)
	}
	return nil
}

// each calls do for the running nodes that are named.
func (s *stage) each(c *command, do func(m *member) error) error {
	for name := c.need("a node"); name != ""; name = c.next() {
		m, err := s.member(name)
		if err != nil {
			return err
		}
		if m.node == nil {
			return fmt.Errorf("node %s does not run", name)
		}
		if err := do(m); err != nil {
			return err
		}
	}
	return nil
}

// stopCommand ends processes as an operator does: "stop a [error~TEXT]".
func (s *stage) stopCommand(c *command) error {
	var ended error
	if err := s.each(c, func(m *member) error { ended = errors.Join(ended, s.halt(m)); return nil }); err != nil {
		return err
	}
	return c.wantError(ended)
}

// killCommand ends processes at once: nothing that they do has an effect any
// more.
func (s *stage) killCommand(c *command) error {
	return s.each(c, func(m *member) error {
		s.guard.killed()
		m.link.sever()
		m.link.thaw()
		return s.halt(m)
	})
}

// restartCommand stops processes and starts them with the configuration as
// it is now.
func (s *stage) restartCommand(c *command) error {
	return s.each(c, func(m *member) error {
		return errors.Join(s.halt(m), s.boot(m))
	})
}

// freezeCommand hangs processes: they run on, but reach nobody, and nobody
// reaches them.
func (s *stage) freezeCommand(c *command) error {
	return s.each(c, func(m *member) error {
		s.guard.killed()
		m.link.freeze()
		s.unlist(m.node)
		return nil
	})
}

// thawCommand lets frozen processes go on where they were.
func (s *stage) thawCommand(c *command) error {
	return s.each(c, func(m *member) error {
		m.link.thaw()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.nodes = append(s.nodes, m.node)
		return nil
	})
}

// reloadCommand has nodes read the configuration again; all that run, if none
// is named.
func (s *stage) reloadCommand(c *command) error {
	if len(c.words) == 0 {
		for _, m := range s.running() {
			c.words = append(c.words, m.name)
		}
	}
	return s.each(c, func(m *member) error {
		return m.node.m.Update(context.Background(), s.domainsFor(m.link))
	})
}
