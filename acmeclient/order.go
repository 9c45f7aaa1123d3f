package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// An Order is an order as the CA described it last (RFC 8555 §7.1.3).
type Order struct {
	URL            string    // where to look at it
	Status         string    // StatusPending, StatusReady, StatusProcessing, StatusValid or StatusInvalid
	Names          []string  // DNS names, wildcards and IP addresses, as the CA has them
	Authorizations []string  // URLs
	Finalize       string    // URL that takes the CSR
	Certificate    string    // URL of the certificate; empty until the order is valid
	Expires        time.Time // zero: the CA does not say
	Problem        *Problem  // why the order is invalid; nil: the CA does not say

	// ReplacesRefused: the CA has refused OrderRequest.Replaces, and the order was made without.
	ReplacesRefused bool
}

// An OrderRequest says what to order.
type OrderRequest struct {
	// Names are ASCII DNS names, with or without a leading "*.", and IP addresses. At least one.
	Names []string

	// Profile is one of Directory.Profiles. Empty: the CA's default.
	Profile string

	// Replaces is the CertID of the certificate that this order renews (RFC 9773 §5). It must come from the same CA and account.
	// It is sent only if the CA has renewal information. Empty: none.
	Replaces string
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

// NewOrder orders a certificate (RFC 8555 §7.4). A CA may answer with an order that exists already.
//
// If the CA refuses r.Replaces, because it has been replaced already or for a reason of its own, the order is placed once more without.
// A profile that the CA does not offer is a *Problem of kind invalidProfile, found without asking.
func (s *Session) NewOrder(ctx context.Context, r OrderRequest) (*Order, error) {
	const op = "create the order"
	doc, err := s.client.transport.directory(ctx)
	if err != nil {
		return nil, newProblem(op, &call{url: s.client.ca.URL}, err)
	}
	ids, err := identifiers(r.Names)
	if err != nil {
		return nil, &Problem{Op: op, URL: doc.NewOrder, Err: err}
	}
	var options []acme.OrderOption
	if r.Profile != "" {
		if _, ok := doc.Meta.Profiles[r.Profile]; !ok {
			return nil, noProfile(op, r.Profile, doc)
		}
		options = append(options, acme.WithOrderIssuanceProfile(acme.ProfileName(r.Profile)))
	}
	var fields map[string]any
	if r.Replaces != "" && doc.RenewalInfo != "" {
		fields = map[string]any{"replaces": r.Replaces}
	}
	o, err := s.newOrder(ctx, op, doc.NewOrder, ids, options, fields)
	var p *Problem
	if fields != nil && errors.As(err, &p) && p.refusesReplaces() {
		s.client.transport.log.InfoContext(ctx, "the CA refuses that the order replaces a certificate; ordering without", "error", err)
		if o, err = s.newOrder(ctx, op, doc.NewOrder, ids, options, nil); err == nil {
			o.ReplacesRefused = true
		}
	}
	if errors.As(err, &p) && len(r.Names) == 1 {
		p.Name = r.Names[0]
	}
	return o, err
}

func (s *Session) newOrder(ctx context.Context, op, url string, ids []acme.AuthzID, options []acme.OrderOption, fields map[string]any) (*Order, error) {
	if s.account == "" {
		return nil, s.noAccount(op, url)
	}
	k := &call{url: url, fields: fields, orderURL: url, key: s.key}
	r, err := s.client.do(ctx, op, k, func(ctx context.Context) error {
		_, err := s.acme.AuthorizeOrder(ctx, ids, options...)
		return err
	})
	if err != nil {
		return nil, err
	}
	location := r.location()
	if location == "" {
		// Without it the order cannot be looked at, and what it ends in is never known.
		return nil, r.invalidReply(op, "does not say the order's URL (Location, RFC 8555 §7.4)")
	}
	o, err := decodeOrder(op, location, r)
	if err != nil {
		o, _, err = s.order(ctx, op, location) // it was made, but the reply does not tell what it is
	}
	return o, err
}

// refusesReplaces reports whether p may be about the field "replaces". RFC 9773 §5 wants 409 alreadyReplaced, but CAs have answered
// with 400, 403, 404 and 500, in words of their own. One more order tells; so it does not where the CA is only busy, or the account
// or the names are the trouble.
func (p *Problem) refusesReplaces() bool {
	if p.is("alreadyReplaced") || p.Status == http.StatusConflict {
		return true
	}
	for _, k := range []string{"rateLimited", "accountDoesNotExist", "userActionRequired", "externalAccountRequired", "rejectedIdentifier", "unsupportedIdentifier", "caa", "dns"} {
		if p.is(k) {
			return false
		}
	}
	switch p.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusInternalServerError:
		return true
	}
	return false
}

func noProfile(op, profile string, doc *directoryDoc) *Problem {
	offered := "it offers none"
	if names := slices.Sorted(maps.Keys(doc.Meta.Profiles)); len(names) > 0 {
		offered = "it offers " + strings.Join(names, ", ")
	}
	return &Problem{
		Op:     op,
		URL:    doc.NewOrder,
		Type:   "urn:ietf:params:acme:error:invalidProfile",
		Detail: clean(fmt.Sprintf("the CA does not offer the profile %q; %s", clean(profile, maxShort), offered), maxDetail),
	}
}

// identifiers returns names as RFC 8555 §7.1.4 and RFC 8738 §3 want them.
func identifiers(names []string) ([]acme.AuthzID, error) {
	if len(names) == 0 {
		return nil, errors.New("there are no names to order a certificate for")
	}
	ids := make([]acme.AuthzID, len(names))
	for i, name := range names {
		ids[i] = acme.AuthzID{Type: "dns", Value: name}
		if addr, err := netip.ParseAddr(name); err == nil {
			ids[i] = acme.AuthzID{Type: "ip", Value: addr.String()} // RFC 5952
		}
	}
	return ids, nil
}

// Order looks at an order.
func (s *Session) Order(ctx context.Context, url string) (*Order, error) {
	o, _, err := s.order(ctx, "look at the order", url)
	return o, err
}

func (s *Session) order(ctx context.Context, op, url string) (*Order, *reply, error) {
	r, err := s.do(ctx, op, url, func(ctx context.Context) error {
		_, err := s.acme.GetOrder(ctx, url)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	o, err := decodeOrder(op, url, r)
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
		return nil, r.invalidReply(op, "is not an order: it has no status")
	}
	o := &Order{
		URL:            url,
		Status:         clean(v.Status, 32),
		Authorizations: v.Authorizations,
		Finalize:       v.Finalize,
		Certificate:    v.Certificate,
		Expires:        parseTime(v.Expires),
	}
	for _, id := range v.Identifiers {
		o.Names = append(o.Names, clean(id.Value, maxShort))
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
