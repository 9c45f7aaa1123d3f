package acmeclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// A look is a request that changes nothing at the CA: POST-as-GET (RFC 8555 §6.3), and the requests for the directory, a nonce and renewal
// information. One that got no answer, or one without a meaning, is made again within the call: an order takes dozens of them, and
// without that, a CA that fails few requests fails most orders. What has an effect is never repeated: there the state of the order tells.

// look calls try, and again as long as try says so: twice at most, after 100 ms and then after 500 ms. There is no jitter: what is lost is
// lost at any time, and so is repeated at any time. The error is that of the last try, or that of ctx if it is cancelled in a pause.
func (t *transport) look(ctx context.Context, op, url string, try func() (again bool, err error)) error {
	for _, pause := range [...]time.Duration{100 * time.Millisecond, 500 * time.Millisecond} {
		again, err := try()
		if !again || ctx.Err() != nil {
			return err
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= pause {
			return err // which says more than that time is up
		}
		t.log.DebugContext(ctx, "asking the CA again", "url", clean(url, maxURL), "in", pause, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return &Problem{Op: op, URL: url, Err: ctx.Err()}
		case <-timer.C:
		}
	}
	_, err := try()
	return err
}

// look is like do, for requests that change nothing, and hands the reply to read, whose error says whether it is of any use.
func (s *Session) look(ctx context.Context, op, url string, send func(ctx context.Context) error, read func(r *reply) error) error {
	if s.account == "" {
		return s.noAccount(op, url)
	}
	return s.client.transport.look(ctx, op, url, func() (bool, error) {
		k := &call{url: url}
		r, err := s.client.do(ctx, op, k, send)
		if err == nil {
			err = read(r)
		}
		// If it ended before, with the directory or the nonce, that has been repeated already; a nonce refused, too (retryBadNonce).
		return k.posted && !k.badNonce && isWorthRepeating(err), err
	})
}

// isWorthRepeating reports whether a look that ended with err may go better within a second: nothing complete came back, or the server's own
// fault, or what is no answer. It is not where the CA has said when to come back, or that it is asked too often: that is for the caller to obey.
func isWorthRepeating(err error) bool {
	var lost *lostError
	if errors.As(err, &lost) {
		return lost.mayPass()
	}
	var p *Problem
	if !errors.As(err, &p) {
		return false
	}
	return p.garbled || p.Status >= 500 && !p.is("rateLimited") && p.RetryTime(time.Now()).IsZero()
}

// garbled is like invalidReply for a reply that was cut off, or is something else altogether. What says when to ask again is not worth
// repeating before.
func (r *reply) garbled(op, what string) *Problem {
	p := r.invalidReply(op, what)
	p.garbled = r.retryAfter() == 0
	return p
}

// lostError says why a request got no complete reply.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// mayPass reports whether another request may get one. A server that cannot be trusted, refuses connections or has no address
// will be the same within a second; RFC 9773 §4.3.3 counts the latter two among errors that last.
func (e *lostError) mayPass() bool {
	var untrusted *tls.CertificateVerificationError
	var resolve *net.DNSError
	switch {
	case errors.As(e.err, &untrusted), errors.Is(e.err, syscall.ECONNREFUSED):
		return false
	case errors.As(e.err, &resolve):
		return !resolve.IsNotFound
	}
	return true
}
