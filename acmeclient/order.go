package acmeclient

import (
	"context"
	"fmt"
	"time"
)

// An Order is an order as the CA described it last (RFC 8555 §7.1.3).
type Order struct {
	URL            string    // where to look at it
	Status         string    // StatusPending, StatusReady, StatusProcessing, StatusValid or StatusInvalid
	Names          []string  // DNS names and wildcards in lower case, IP addresses in the form of RFC 5952
	Authorizations []string  // URLs
	Finalize       string    // URL that takes the CSR
	Certificate    string    // URL of the certificate; empty until the order is valid
	Expires        time.Time // zero: the CA does not say
	Profile        string    // that the certificate will have, says the CA; empty: it does not say
	Problem        *Problem  // why the order is invalid; nil: the CA does not say

	// ReplacesRefused: the CA has refused OrderRequest.Replaces, and the order was made without.
	ReplacesRefused bool

	// Warnings tell what else of the OrderRequest the CA does not offer or has refused. Like ReplacesRefused, they come from NewOrder only.
	Warnings []string
}

// States of orders, authorizations and challenges (RFC 8555 §7.1.6).
const (
	StatusPending     = "pending"
	StatusProcessing  = "processing"
	StatusReady       = "ready"
	StatusValid       = "valid"
	StatusInvalid     = "invalid"
	StatusDeactivated = "deactivated"
	StatusExpired     = "expired"
	StatusRevoked     = "revoked"
)

const maxAuthorizations = 1000 // of one order; public CAs take 100 names

// Order looks at an order.
func (s *Session) Order(ctx context.Context, url string) (*Order, error) {
	o, _, err := s.order(ctx, "look at the order", url)
	return o, err
}

func (s *Session) order(ctx context.Context, op, url string) (o *Order, r *reply, err error) {
	err = s.look(ctx, op, url, func(ctx context.Context) error {
		_, err := s.acme.GetOrder(ctx, url)
		return err
	}, func(answer *reply) (err error) {
		r = answer
		o, err = decodeOrder(op, url, r)
		return err
	})
	return o, r, err
}

// WaitReady waits until an order is no longer pending: it returns one that is ready, processing or valid.
// An order that is invalid, or in no state that RFC 8555 knows, is an error. It may wrap ErrWait.
func (s *Session) WaitReady(ctx context.Context, url string) (*Order, error) {
	const op = "wait until the order is ready"
	w := newWaiting(op, url)
	if err := w.until(ctx, s.lookFrom); err != nil {
		return nil, err
	}
	for {
		o, r, err := s.order(ctx, op, url)
		if err != nil {
			return nil, err
		}
		switch o.Status {
		case StatusReady, StatusProcessing, StatusValid:
			return o, nil
		case StatusPending:
		default:
			return nil, o.failure(op)
		}
		if err := w.wait(ctx, r); err != nil {
			return nil, err
		}
	}
}

// failure says why nothing can come of an order in this state.
func (o *Order) failure(op string) *Problem {
	return failure(op, "the order", o.Status, o.URL, o.Problem)
}

func failure(op, what, status, url string, why *Problem) *Problem {
	if why != nil {
		p := *why
		p.Op, p.URL = op, url
		return &p
	}
	return &Problem{Op: op, URL: url, Err: fmt.Errorf("%s is %q, and the CA does not say why", what, status)}
}

type wireIdentifier struct{ Type, Value string }

type wireOrder struct {
	Status         string
	Expires        string
	Identifiers    []wireIdentifier
	Authorizations []string
	Finalize       string
	Certificate    string
	Profile        string
	Error          *wireProblem
}

// decodeOrder reads the order with that URL from a reply.
func decodeOrder(op, url string, r *reply) (*Order, error) {
	var v wireOrder
	if err := r.decode(op, &v); err != nil {
		return nil, err
	}
	if len(v.Authorizations) > maxAuthorizations || len(v.Identifiers) > maxAuthorizations {
		return nil, r.invalidReply(op, fmt.Sprintf("lists more than %d authorizations or names", maxAuthorizations))
	}
	if v.Status == "" {
		return nil, r.garbled(op, "is not an order: it has no status")
	}
	o := &Order{
		URL:            url,
		Status:         clean(v.Status, 32),
		Authorizations: v.Authorizations,
		Finalize:       v.Finalize,
		Certificate:    v.Certificate,
		Expires:        parseTime(v.Expires),
		Profile:        clean(v.Profile, maxShort),
	}
	for _, id := range v.Identifiers {
		o.Names = append(o.Names, canonicalIdentifier(clean(id.Value, maxShort)))
	}
	if v.Error != nil {
		o.Problem = v.Error.problem()
		o.Problem.Op, o.Problem.URL = "fulfil the order", url
	}
	return o, nil
}

// parseTime reads a time of RFC 3339, as RFC 8555 has them. It is zero if it cannot be read: nothing depends on it alone.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
