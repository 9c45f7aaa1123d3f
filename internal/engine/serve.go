package engine

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
)

// firstRead bounds how long a handshake waits for what has not been read from
// the Store yet.
const firstRead = 5 * time.Second

// Certificate returns the certificate for a hello: from memory, without a
// lock, for every Domain that has been loaded. A Domain without certificate
// gets a self-signed one. The error is ErrNotManaged for all other names.
func (e *Engine) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, site := e.table.Certificate(hello)
	switch {
	case cert != nil:
		if site.Asked != nil && !site.Asked.Load() {
			site.Asked.Store(true)
		}
		return cert, nil
	case site != nil:
		return e.firstCertificate(hello, site.Domain)
	case e.cfg.OnDemand != nil:
		return e.demandedOrFallback(hello)
	}
	return nil, e.unmanaged(hello, nil)
}

// demandedOrFallback asks OnDemand for a name, and serves FallbackName if it is
// not to be had.
func (e *Engine) demandedOrFallback(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var err error
	if hello.ServerName != "" {
		var cert *tls.Certificate
		if cert, err = e.demanded(hello); err == nil {
			return cert, nil
		}
	}
	if e.cfg.FallbackName != "" {
		other := *hello
		other.ServerName = e.cfg.FallbackName
		switch cert, site := e.table.Certificate(&other); {
		case cert != nil:
			return cert, nil
		case site != nil: // as without OnDemand
			return e.firstCertificate(&other, site.Domain)
		}
	}
	return nil, e.unmanaged(hello, err)
}

// unmanaged is the error for a hello that nothing serves.
func (e *Engine) unmanaged(hello *tls.ClientHelloInfo, why error) error {
	e.log.Debug("a client asks for a name that is not managed", "name", bounded(hello.ServerName), "reason", why)
	if why != nil {
		return why
	}
	return fmt.Errorf("%w: %.253q", ErrNotManaged, hello.ServerName)
}

// UnknownNames is how many hellos there were for names that nothing served.
func (e *Engine) UnknownNames() uint64 { return e.table.UnknownNames() }

// firstCertificate is for a Domain of which nothing is served yet: its value
// in the Store may not have been read, or it has none.
func (e *Engine) firstCertificate(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error) {
	e.mu.Lock()
	d := e.domains[name]
	if d == nil { // it was removed at this moment
		e.mu.Unlock()
		return nil, fmt.Errorf("%w: %.253q", ErrNotManaged, hello.ServerName)
	}
	unread, def := !d.loaded, d.def
	d.want()
	e.mu.Unlock()
	if unread {
		ctx, cancel := context.WithTimeout(helloContext(hello), firstRead)
		defer cancel()
		if err := e.loadOne(ctx, d); err != nil {
			e.log.Warn("reading the certificate for a handshake failed", "domain", name, "error", err)
		}
	}
	e.openFirst(helloContext(hello), d)
	e.await(helloContext(hello), d, declaredName(def, hello.ServerName))
	if cert, _ := e.table.Certificate(hello); cert != nil {
		return cert, nil
	}
	return e.fallback.Certificate(declaredName(def, hello.ServerName), e.now())
}

// declaredName is the name of the Domain that sni stands for. There are few
// of them, however many names a client makes up below a wildcard.
func declaredName(def *Domain, sni string) string {
	name := strings.ToLower(strings.TrimSuffix(sni, "."))
	if slices.Contains(def.Names, name) {
		return name
	}
	if _, parent, ok := strings.Cut(name, "."); ok && slices.Contains(def.Names, "*."+parent) {
		return "*." + parent
	}
	return def.Names[0]
}

func helloContext(hello *tls.ClientHelloInfo) context.Context {
	if ctx := hello.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// ConfigForClient answers tls-alpn-01 validators; nil, nil for all others.
func (e *Engine) ConfigForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return e.tlsalpn01.ConfigForClient(hello)
}

// OnFallback reports whether name is managed but has no certificate yet.
func (e *Engine) OnFallback(name string) bool {
	site := e.table.Lookup(name)
	return site != nil && len(site.Credentials) == 0 && len(site.Former) == 0
}

// Status yields the report of each Domain, in the order of their names.
func (e *Engine) Status() iter.Seq[status.Domain] {
	return func(yield func(status.Domain) bool) {
		e.mu.Lock()
		names := slices.Sorted(maps.Keys(e.domains))
		e.mu.Unlock()
		for _, name := range names {
			e.mu.Lock()
			d := e.domains[name]
			var now snapshot
			if d != nil {
				now = snapshot{def: d.def, certs: d.served(e.now()), filesErr: d.filesError(), unopened: d.unopenedNow(), waiting: d.waiting, job: d.job, busy: d.state == working, activity: d.activity}
			}
			e.mu.Unlock()
			if d != nil && !yield(now.report(e.now())) {
				return
			}
		}
	}
}

// snapshot is what is known of a Domain at one moment.
type snapshot struct {
	def      *Domain
	certs    []certificate
	filesErr error
	unopened unopened
	waiting  *waitingSet
	job      *record.Job
	busy     bool
	activity string
}

func (s snapshot) report(now time.Time) status.Domain {
	r := status.Domain{
		Name: s.def.Name, Names: slices.Clone(s.def.Shown), CA: cmp.Or(s.job.CA, s.def.CAs[0].URL),
		Certificates: describe(s.certs), State: status.Good,
	}
	expired := slices.ContainsFunc(s.certs, func(c certificate) bool { return !now.Before(c.NotAfter) })
	known := s.certs
	if len(s.unopened.certs) > 0 {
		known = s.unopened.certs
	}
	decision := policy.Next(s.def.rules(), policy.Facts{Certificates: factsOf(known, s.job)}, now)
	next, reason := decision, decision.Reason
	if s.waiting != nil { // what it renews is not due any more
		r.Staged = describe(s.waiting.certs)
		next = policy.Next(s.def.rules(), policy.Facts{Certificates: factsOf(s.waiting.certs, s.job)}, now)
		if !decision.Missing && !expired {
			reason = next.Reason
		}
	}
	r.ExplanationURL = explanation(s.job)
	r.Reason = reason
	if s.unopened.err != nil {
		r.Reason = fmt.Sprintf("the active certificates are not served: %v", s.unopened.err)
	}
	if s.filesErr != nil {
		r.Reason = s.filesErr.Error()
	}
	if n := len(s.job.Revocations); n > 0 && r.Reason == "" {
		r.Reason = fmt.Sprintf("%d former certificates are still to be revoked", n)
	}
	if !s.def.Manual {
		r.RenewAt = next.At
	}
	switch {
	case len(s.certs) == 0:
		r.State = status.Pending
	case expired:
		r.State = status.Expired
	case decision.Missing:
		r.State = status.Incomplete
	}
	r.Renewal = s.renewal(next.Due())
	return r
}

// renewal tells of the work under way, nil if there is none and never was
// any.
func (s snapshot) renewal(due bool) *status.Renewal {
	j := s.job
	if !s.busy && !due && j.Errors == 0 && len(j.Log) == 0 {
		return nil
	}
	r := &status.Renewal{
		Running: s.busy, Activity: s.activity, Attempts: j.Errors,
		LastError: j.LastError, LastProblem: j.LastProblem,
		LastAttempt: j.LastRun, NextAttempt: j.NextRun, Panics: j.Panics,
	}
	for _, l := range j.Log {
		r.Log = append(r.Log, status.LogEntry{Time: l.Time, What: l.What, Detail: l.Detail})
	}
	return r
}
