package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// NewOrder orders a certificate (RFC 8555 §7.4). A CA may answer with an order that exists already.
//
// What the CA refuses of r though it could do without is left out, and the order is placed once more: r.Replaces, because it has been
// replaced already or for a reason of the CA's own; a profile that is not required; the end that r.Lifetime leads to.
// A required profile that the CA does not list is a *Problem of kind invalidProfile, found without asking.
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
	if r.Known.Name == "" {
		r.Known, _ = s.client.ca.Known()
	}
	w, err := r.wishes(op, doc)
	if err != nil {
		return nil, err
	}
	for {
		o, err := s.newOrder(ctx, op, doc.NewOrder, ids, w)
		if err == nil {
			w.tell(o)
			return o, nil
		}
		var p *Problem
		if !errors.As(err, &p) {
			return nil, err
		}
		s.distrustProfiles(ctx, p)
		if !w.drop(p) {
			if len(r.Names) == 1 {
				p.Name = r.Names[0]
			}
			return nil, err
		}
		s.client.transport.log.InfoContext(ctx, "the CA refuses a part of the order; ordering without", "error", err)
	}
}

// distrustProfiles has the directory read anew if p says that a profile which it listed is gone.
func (s *Session) distrustProfiles(ctx context.Context, p *Problem) {
	if !p.is("invalidProfile") {
		return
	}
	if doc, err := s.client.transport.directory(ctx); err == nil {
		s.client.transport.dir.distrust(doc.NewOrder)
	}
}

func (s *Session) newOrder(ctx context.Context, op, url string, ids []acme.AuthzID, w *wishes) (*Order, error) {
	if s.account == "" {
		return nil, s.noAccount(op, url)
	}
	k := &call{url: url, fields: w.fields(), fieldsURL: url, key: s.key}
	r, err := s.client.do(ctx, op, k, func(ctx context.Context) error {
		_, err := s.acme.AuthorizeOrder(ctx, ids)
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

// wishes are what an order asks for beyond its names, and a CA may refuse. What is empty is not asked for.
type wishes struct {
	profile  string
	required bool // there is no order without the profile
	notAfter time.Time
	replaces string

	asked    OrderRequest
	warnings []string
}

// wishes returns what r asks for, as far as the CA offers it.
func (r OrderRequest) wishes(op string, doc *directoryDoc) (*wishes, error) {
	profile, warning, err := r.chooseProfile(op, doc)
	if err != nil {
		return nil, err
	}
	w := &wishes{profile: profile, required: r.ProfileRequired && r.Profile != "", asked: r}
	if warning != "" {
		w.warnings = append(w.warnings, warning)
	}
	if doc.RenewalInfo == "" {
		w.asked.Replaces = ""
	}
	w.replaces = w.asked.Replaces
	_, decided := r.Known.Profiles[profile]
	switch {
	case r.Lifetime <= 0 || decided:
	case r.Known.Name != "" && !r.Known.NotAfter:
		w.warnings = append(w.warnings, fmt.Sprintf("the CA does not let orders say how long certificates last; ordering without the %v that were asked for", r.Lifetime))
	default:
		w.notAfter = time.Now().Add(r.Lifetime).UTC().Truncate(time.Second)
	}
	return w, nil
}

// fields returns what is added to newOrder: x/crypto knows only some of it, and has its own view of the directory. Nil: nothing.
func (w *wishes) fields() map[string]any {
	fields := map[string]any{}
	if w.profile != "" {
		fields["profile"] = w.profile
	}
	if !w.notAfter.IsZero() {
		fields["notAfter"] = w.notAfter.Format(time.RFC3339)
	}
	if w.replaces != "" {
		fields["replaces"] = w.replaces
	}
	if len(fields) == 0 {
		return nil
	}
	return fields
}

// drop takes back the wish that p may be about, and reports whether there was one: one more order tells.
func (w *wishes) drop(p *Problem) bool {
	switch {
	case p.is("invalidProfile"):
		if w.profile == "" || w.required {
			return false
		}
		w.warn("the CA refuses the profile %q for this order", w.profile, p)
		w.profile = ""
	case !w.notAfter.IsZero() && p.mentionsDates():
		w.dropDate(p)
	case w.replaces != "" && p.refusesReplaces():
		w.replaces = ""
	case !w.notAfter.IsZero() && p.mayRefuseAnything() && p.Status < 500:
		w.dropDate(p)
		w.replaces = w.asked.Replaces // it was not the trouble
	default:
		return false
	}
	return true
}

func (w *wishes) dropDate(p *Problem) {
	w.warn("the CA does not take an order for a certificate that lasts %v", w.asked.Lifetime, p)
	w.notAfter = time.Time{}
}

func (w *wishes) warn(format string, what any, p *Problem) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, what)+" ("+joinSaid(clean(p.Kind(), maxShort), clean(p.Detail, maxShort))+"); ordered without")
}

// tell writes what became of the wishes into the order that was made in the end.
func (w *wishes) tell(o *Order) {
	o.ReplacesRefused = w.replaces != w.asked.Replaces
	if o.Profile != "" && w.profile != "" && o.Profile != w.profile {
		w.warnings = append(w.warnings, fmt.Sprintf("the CA has made an order for the profile %q, not %q", o.Profile, w.profile))
	}
	o.Warnings = w.warnings
}

// mentionsDates reports whether p is about notBefore or notAfter: there is no type for it. Let's Encrypt says malformed.
func (p *Problem) mentionsDates() bool {
	if !p.mayRefuseAnything() {
		return false
	}
	detail := strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(p.Detail))
	return strings.Contains(detail, "notafter") || strings.Contains(detail, "notbefore")
}

// refusesReplaces reports whether p may be about the field "replaces". RFC 9773 §5 wants 409 alreadyReplaced, but CAs have answered
// with 400, 403, 404 and 500, in words of their own.
func (p *Problem) refusesReplaces() bool {
	return p.is("alreadyReplaced") || p.Status == http.StatusConflict || p.mayRefuseAnything()
}

// mayRefuseAnything reports whether p may be about any field of an order. It is not where the CA is only busy, or the account
// or the names are the trouble.
func (p *Problem) mayRefuseAnything() bool {
	if p.accountClosed() {
		return false
	}
	for _, k := range []string{"rateLimited", "accountDoesNotExist", "userActionRequired", "externalAccountRequired", "rejectedIdentifier", "unsupportedIdentifier", "caa", "dns", "alreadyReplaced", "invalidProfile"} {
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
