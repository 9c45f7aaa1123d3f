package acmeclient

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"
)

// stillReady is how long an order stays ready after its finalize request until we believe that the CA has not taken it.
const stillReady = 2 * time.Second

const maxFinalizes = 2

// Finalize hands the CSR to the CA (RFC 8555 §7.4) and waits until the order is valid. o is not changed.
//
// The CSR is sent once, and not at all if the order turns out to be past that. It is sent a second time, and never a third, only if the order
// stays ready as if nothing had come. If the reply is lost, the order is looked at: it tells what became of the request.
// The order may therefore be valid for a CSR that another call has sent; CheckChain tells.
//
// The error is the CA's reason if the order is invalid. If it is of kind invalidProfile, the order's profile is gone: another order is needed. It may wrap ErrWait: the same call, later, goes on where this one stopped.
func (s *Session) Finalize(ctx context.Context, o *Order, csr []byte) (*Order, error) {
	const op = "finalize the order"
	w := newWaiting(op, o.URL)
	var r *reply
	var err error
	var posted time.Time // zero if there is no reason to wait before the next one
	for posts := 0; ; {
		switch o.Status {
		case StatusValid:
			if o.Certificate == "" {
				return nil, &Problem{Op: op, URL: o.URL, Err: errors.New("the order is valid, but the CA does not say where the certificate is (RFC 8555 §7.1.3)")}
			}
			return o, nil
		case StatusReady:
			if posts < maxFinalizes && time.Since(posted) >= stillReady {
				posts, posted = posts+1, time.Now()
				if o, r, err = s.finalize(ctx, op, o, csr, posts == maxFinalizes); err != nil {
					return nil, err
				}
			}
			if o.Status != StatusReady {
				continue
			}
		case StatusPending: // before the first request, or the CA has said orderNotReady
			posted = time.Time{}
		case StatusProcessing:
		default:
			return nil, o.failure(op)
		}
		if err = w.wait(ctx, r); err != nil {
			return nil, err
		}
		if o, r, err = s.order(ctx, op, o.URL); err != nil {
			return nil, err
		}
	}
}

// FinalizeFor is Finalize with the CSR that r asks for, signed with key. A CA that does not take must-staple, which many have given up, refuses
// the CSR and leaves the order as it is: it is then finalized without, and a warning says so.
func (s *Session) FinalizeFor(ctx context.Context, o *Order, r OrderRequest, key crypto.Signer) (done *Order, warnings []string, err error) {
	csr, err := r.CSR(key)
	if err != nil {
		return nil, nil, &Problem{Op: "finalize the order", URL: o.URL, Err: err}
	}
	done, err = s.Finalize(ctx, o, csr)
	var p *Problem
	if !r.MustStaple || !errors.As(err, &p) || !p.is("badCSR") {
		return done, nil, err
	}
	warning := fmt.Sprintf("the CA refuses a certificate that demands stapling (must-staple, RFC 7633): %s; going on without", clean(p.Detail, maxShort))
	now, lookErr := s.Order(ctx, o.URL)
	if lookErr != nil || now.Status != StatusReady {
		return nil, nil, err // the order is spent
	}
	r.MustStaple = false
	if done, _, err = s.FinalizeFor(ctx, now, r, key); err != nil {
		return nil, nil, err // it was not for must-staple, or not only
	}
	return done, []string{warning}, nil
}

// finalize sends the CSR and returns the order as it is thereafter. An error means that the request cannot have been taken, or
// that nobody knows; last says that there will be no other.
func (s *Session) finalize(ctx context.Context, op string, o *Order, csr []byte, last bool) (*Order, *reply, error) {
	if err := checkURLString(o.Finalize, s.client.ca.PlainLoopback); err != nil {
		return nil, nil, &Problem{Op: op, URL: o.URL, Err: fmt.Errorf("the URL %q, where the CA wants the CSR, %w", clean(o.Finalize, maxURL), err)}
	}
	r, err := s.do(ctx, op, o.Finalize, func(ctx context.Context) error {
		_, _, err := s.acme.CreateCertFromOrder(ctx, &acme.Order{URI: o.URL, FinalizeURL: o.Finalize}, csr, true)
		return err
	})
	if err == nil {
		after, decodeErr := decodeOrder(op, o.URL, r)
		if decodeErr != nil {
			return s.order(ctx, op, o.URL) // it was taken, but the reply does not tell
		}
		if after.Finalize == "" {
			after.Finalize = o.Finalize
		}
		return after, r, nil
	}
	var p *Problem
	if ctx.Err() != nil || !errors.As(err, &p) || p.Status == http.StatusTooManyRequests {
		return nil, nil, err
	}
	s.distrustProfiles(ctx, p) // RFC 8555 has no such error here, but profiles may go between order and CSR (draft-ietf-acme-profiles)
	after, r, lookErr := s.order(ctx, op, o.URL)
	if lookErr != nil {
		return nil, nil, err // the first says more
	}
	switch after.Status {
	case StatusValid, StatusProcessing:
		// The reply was lost, or it was the second request: some CAs then say malformed or unauthorized in place of orderNotReady.
		return after, r, nil
	case StatusReady, StatusPending:
		lost := p.Status == 0
		if !last && (lost || p.is("orderNotReady")) {
			return after, r, nil
		}
	case StatusInvalid:
		if after.Problem != nil {
			return nil, nil, after.failure(op)
		}
	}
	return nil, nil, err
}
