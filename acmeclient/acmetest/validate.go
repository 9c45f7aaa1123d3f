package acmetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is what a validation looks at.
type target struct {
	typ, name, token, keyAuth string
}

// validate looks at a target from all perspectives, and keeps the outcome.
func (ca *CA) validate(ctx context.Context, c *challenge, t target) {
	ctx, cancel := context.WithTimeout(ctx, orDuration(ca.ValidationTimeout, 10*time.Second))
	defer cancel()
	outcomes := make([]*problem, max(1, ca.Perspectives))
	var all sync.WaitGroup
	for i := range outcomes {
		all.Go(func() { outcomes[i] = ca.look(ctx, t) })
	}
	all.Wait()
	var failed *problem
	for i, p := range outcomes {
		if p == nil {
			continue
		}
		if len(outcomes) > 1 {
			p.detail = fmt.Sprintf("perspective %d of %d: %s", i+1, len(outcomes), p.detail)
		}
		failed = p
		break
	}
	found := ca.conclude(c, failed)
	ca.log().Debug("acmetest validation", "name", found.Name, "type", found.Type, "problem", found.Problem)
}

// look validates once.
func (ca *CA) look(ctx context.Context, t target) *problem {
	switch t.typ {
	case typeHTTP01:
		return ca.lookHTTP(ctx, t)
	case typeTLSALPN01:
		return ca.lookTLS(ctx, t)
	case typeDNS01:
		return ca.lookDNS(ctx, t)
	}
	return refuse(serverInternal, "no validator for %s", t.typ)
}

// conclude writes down how a validation ended. The first challenge that ends
// decides its authorization, and with it the orders (RFC 8555 §7.1.6).
func (ca *CA) conclude(c *challenge, failed *problem) Validation {
	s := ca.lock()
	defer ca.mu.Unlock()
	a, now := c.authz, time.Now()
	record := Validation{Name: a.identifier(), Type: c.typ, Account: s.base + a.account.path, At: now}
	if failed == nil {
		c.status, c.validated = valid, now
	} else {
		c.status, c.err = invalid, failed
		c.err.identifier = a.name
		record.Problem = failed.Error()
	}
	if a.state(now) == pending {
		a.status = c.status
		op := Op{Kind: kindAuthz, Object: a.identifier(), Nth: s.count("conclusion", a.identifier())}
		if failed == nil {
			s.validAuthz[a.account.path+" "+a.identifier()] = a
			a.expires = now.Add(orDuration(ca.AuthzLifetime, week))
		}
		a.hidden = ca.polls(ca.Faults.SlowValidation, "slow validation", op)
	}
	ca.countValidation(s, a, failed != nil, now)
	s.validations = append(s.validations, record)
	close(c.done)
	return record
}

// dial connects to port 80 or 443 of a name.
func (ca *CA) dial(ctx context.Context, name string, port int) (net.Conn, *problem) {
	addr := net.JoinHostPort(name, strconv.Itoa(port))
	local := ca.HTTPPort
	if port == 443 {
		local = ca.TLSPort
	}
	connect := ca.Dial
	switch {
	case connect != nil:
	case port == 80 && ca.HTTP != nil, port == 443 && ca.TLS != nil:
		return ca.connect(ctx, port), nil
	case local == 0:
		return nil, refuse(connection, "%s cannot be reached: nothing in CA stands for port %d", addr, port)
	default:
		connect = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(local)))
		}
	}
	conn, err := connect(ctx, "tcp", addr)
	if err != nil {
		return nil, unreachable(addr, err)
	}
	return conn, nil
}

// unreachable tells that nothing could be talked to.
func unreachable(addr string, err error) *problem {
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return refuse(dnsProblem, "looking up %s: %v", addr, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return refuse(connection, "%s: timeout during connect", addr)
	}
	return refuse(connection, "%s: %v", addr, err)
}

// lookDNS validates dns-01 (RFC 8555 §8.4).
func (ca *CA) lookDNS(ctx context.Context, t target) *problem {
	name := "_acme-challenge." + t.name
	records, err := ca.LookupTXT(ctx, name)
	if err != nil {
		return refuse(dnsProblem, "looking up TXT for %s: %v", name, err)
	}
	want := digestOf(t.keyAuth)
	for _, r := range records {
		if r == want {
			return nil
		}
	}
	if len(records) == 0 {
		return refuse(dnsProblem, "no TXT record found at %s", name)
	}
	return refuse(unauthorized, "none of the %d TXT records at %s is the right one; found %s",
		len(records), name, strconv.Quote(bounded(strings.Join(records, ", "))))
}

// bounded cuts what a server said to a length that can be shown.
func bounded(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
