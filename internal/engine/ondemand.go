package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/manageddomains/md/internal/policy"
)

// What hellos for names that nobody has declared may cost: whoever can reach
// the server can make them up.
const (
	// askLimit bounds one question to OnDemand, and maxAsking how many there
	// are at a time.
	askLimit  = 10 * time.Second
	maxAsking = 64
	// maxWaiting bounds the handshakes that wait for a certificate, and
	// maxWaitingFor those that wait for one Domain. The others are served the
	// fallback.
	maxWaiting    = 1024
	maxWaitingFor = 128
	// refusedFor is how long a name is not asked for again that nobody wants,
	// and failedFor one for which the question has failed.
	refusedFor = time.Minute
	failedFor  = 5 * time.Second
)

// clientRate and parentRate bound the questions for one client, and for the
// names below one registered domain.
func clientRate() policy.Rate { return policy.Rate{Count: 32, Per: time.Minute} }
func parentRate() policy.Rate { return policy.Rate{Count: 64, Per: time.Hour} }

// demand is what is known of names that nobody has declared. It has a lock of
// its own: a flood of hellos is not to keep attempts waiting.
type demand struct {
	mu      sync.Mutex // never held across a question
	asking  map[string]*flight
	calls   int                       // of OnDemand for a handshake that have not returned
	refused lately[string, time.Time] // until when
	clients lately[netip.Prefix, policy.Bucket]
	parents lately[string, policy.Bucket]
}

// demanded answers a hello for a name that no Domain has.
func (e *Engine) demanded(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name, err := demandedName(hello.ServerName)
	if err == nil {
		err = e.askOnce(helloContext(hello), name, hello)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotManaged, err)
	}
	site := e.table.Lookup(name)
	if site == nil { // it was removed at this moment
		return nil, fmt.Errorf("%w: %s", ErrNotManaged, name)
	}
	return e.firstCertificate(hello, site.Domain)
}

// demandedName returns a name as it could be had on demand, in lower case.
// Names of one label and what looks like an address have to be declared. So
// have names that repeat a label: those come from clients that were led in
// circles, and CAs refuse them.
func demandedName(sni string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(sni, "."))
	labels := strings.Split(name, ".")
	switch {
	case len(name) > 253:
		return "", errors.New("the name is longer than 253 bytes")
	case len(labels) < 2:
		return "", fmt.Errorf("%q has one label only, and is not declared", name)
	case strings.Trim(labels[len(labels)-1], "0123456789") == "":
		return "", fmt.Errorf("%q looks like an address, and is not declared", name)
	}
	for i, label := range labels {
		if !isLabel(label) {
			return "", fmt.Errorf("%q is not a host name", name)
		}
		if i > 0 && label == labels[i-1] {
			return "", fmt.Errorf("%q repeats a label, and is not declared", name)
		}
	}
	return name, nil
}

// isLabel reports whether s is a label of a host name, in lower case (RFC 1123
// §2.1).
func isLabel(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && strings.Trim(s, allowed) == ""
}

// askOnce has OnDemand asked for name, by one handshake for all that want it
// at this moment. It returns nil when there is a Domain.
func (e *Engine) askOnce(ctx context.Context, name string, hello *tls.ClientHelloInfo) error {
	for {
		f, mine, err := e.demand.join(name)
		if err != nil {
			return err
		}
		if mine {
			f.err = errPanic // unless ask says something else
			defer e.demand.leave(name, f)
			f.err = e.ask(ctx, name, hello)
			return f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return fmt.Errorf("waiting for OnDemand with %s: %w", name, context.Cause(ctx))
		}
		if !errors.Is(f.err, errWentAway) {
			return f.err
		}
	}
}

// errWentAway says that the client for which a question was asked has gone:
// others who want the same name ask again.
var errWentAway = errors.New("the client has gone away")

// join returns the question for name that is under way, or begins one.
func (d *demand) join(name string) (f *flight, mine bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.asking[name]; f != nil {
		return f, false, nil
	}
	if until, ok := d.refused.get(name); ok && time.Now().Before(until) {
		return nil, false, fmt.Errorf("%s was refused a moment ago", name)
	}
	if max(len(d.asking), d.calls) >= maxAsking { // also with those that were left behind
		return nil, false, fmt.Errorf("%s: too many names are asked for", name)
	}
	if d.asking == nil {
		d.asking = make(map[string]*flight)
	}
	f = &flight{done: make(chan struct{})}
	d.asking[name] = f
	return f, true, nil
}

func (d *demand) leave(name string, f *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.asking, name)
	close(f.done)
}

// ask asks OnDemand for name, and declares the Domain that it returns.
func (e *Engine) ask(ctx context.Context, name string, hello *tls.ClientHelloInfo) error {
	if e.Manages(name) { // the answer came a moment ago
		return nil
	}
	if err := e.demand.spend(name, clientOf(hello), time.Now()); err != nil {
		return err // not remembered: it is the client's fault, not the name's
	}
	def, err := e.allowed(ctx, name, hello)
	if err == nil {
		err = e.declare(def, true)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errWentAway, err)
	case errors.Is(err, ErrNotManaged):
		e.demand.refuse(name, refusedFor)
		return err
	}
	e.demand.refuse(name, failedFor)
	e.log.Warn("a name could not be had on demand", "name", name, "error", err)
	return err
}

func (d *demand) refuse(name string, pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused.put(name, time.Now().Add(pause))
}

// allowed asks OnDemand for name; with no hello, whether what was allowed
// before still is.
func (e *Engine) allowed(ctx context.Context, name string, hello *tls.ClientHelloInfo) (*Domain, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("OnDemand has not answered within %v", askLimit))
	defer cancel()
	answer := make(chan *Domain, 1) // one that comes too late goes nowhere
	err := e.hook(ctx, "OnDemand for "+name, func(ctx context.Context) error {
		if hello != nil {
			defer e.demand.call()()
		}
		def, err := e.cfg.OnDemand(ctx, name, hello)
		answer <- def
		return err
	})
	if err != nil {
		return nil, err
	}
	def := <-answer
	if !policy.Covers(def.Names, name) {
		return nil, fmt.Errorf("OnDemand has returned a Domain without %s", name)
	}
	return def, nil
}

// call counts a call of OnDemand, until what it returns is called.
func (d *demand) call() (returned func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.calls--
	}
}

// spend takes a question from the budgets of the client and of the registered
// domain.
func (d *demand) spend(name string, client netip.Prefix, now time.Time) error {
	parent := name
	if registered, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		parent = registered
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	byClient, _ := d.clients.get(client)
	byParent, _ := d.parents.get(parent)
	switch {
	case client.IsValid() && byClient.Free(clientRate(), now).After(now):
		return fmt.Errorf("%s: the client asks for too many names", name)
	case byParent.Free(parentRate(), now).After(now):
		return fmt.Errorf("%s: too many names below %s are asked for", name, parent)
	}
	if client.IsValid() {
		d.clients.put(client, byClient.Take(clientRate(), 1, now))
	}
	d.parents.put(parent, byParent.Take(parentRate(), 1, now))
	return nil
}

// clientOf is the client's address; of IPv6, the network that one subscriber
// has. It is not valid if nobody knows.
func clientOf(hello *tls.ClientHelloInfo) netip.Prefix {
	if hello == nil || hello.Conn == nil {
		return netip.Prefix{}
	}
	remote, ok := hello.Conn.RemoteAddr().(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.Prefix{}
	}
	addr := remote.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// Patience is how long a handshake may be kept waiting, beyond what it takes.
func (e *Engine) Patience() time.Duration {
	if e.cfg.OnDemand == nil {
		return 0
	}
	return askLimit + max(e.cfg.OnDemandWait, 0)
}

// await lets a handshake wait until a Domain that was allowed on demand has a
// certificate for name: no longer than OnDemandWait, and only while an attempt
// is under way or will be in that time: another process may work on it.
func (e *Engine) await(ctx context.Context, d *domain, name string) {
	on := e.beginWait(d)
	if on == nil {
		return
	}
	defer e.endWait(on)
	ctx, cancel := context.WithTimeout(ctx, e.cfg.OnDemandWait)
	defer cancel()
	until := e.now().Add(e.cfg.OnDemandWait)
	for {
		e.mu.Lock()
		changed := e.changed
		atWork := e.running && !d.removed && (d.state != idle || !d.due.After(until))
		over := !atWork || d.covers([]string{name}, e.now())
		e.mu.Unlock()
		if over {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// beginWait counts a handshake that waits for d; it returns nil if it is not to.
func (e *Engine) beginWait(d *domain) *onDemand {
	e.mu.Lock()
	defer e.mu.Unlock()
	on := d.onDemand
	if on == nil || e.waiting >= maxWaiting || on.waiting >= maxWaitingFor {
		return nil
	}
	on.waiting++
	e.waiting++
	return on
}

// endWait is for a Domain that may have been declared meanwhile.
func (e *Engine) endWait(on *onDemand) {
	e.mu.Lock()
	defer e.mu.Unlock()
	on.waiting--
	e.waiting--
}
