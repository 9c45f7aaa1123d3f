package acmetest

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxNames bounds the identifiers of one order.
const maxNames = 100

// week is how long orders and authorizations last unless told otherwise.
const week = 7 * 24 * time.Hour

// order is one order (RFC 8555 §7.1.3). Its fields are guarded by the CA's
// mutex.
type order struct {
	path, finalizePath  string
	account             *account
	names               []string // ascending
	nth                 int      // counts the orders for these names, from 1
	created, expires    time.Time
	notBefore, notAfter time.Time // as the client asked, or zero
	replaces, profile   string
	authzs              []*authorization

	// What finalize decided. Until then the authorizations say whether the
	// order is pending, ready or invalid: nothing is stored twice.
	status    string
	err       *problem
	finalized time.Time
	cert      *certificate

	// For as many looks as hidden says, the order seems to be in the state
	// guise.
	hidden int
	guise  string
}

// object names a set of names.
func (o *order) object() string { return strings.Join(o.names, ",") }

// objectOf names a set of names that is neither sorted nor without doubles.
func objectOf(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// state is the order's status (RFC 8555 §7.1.6). The state is locked.
func (o *order) state(now time.Time) string {
	if o.status != "" {
		return o.status
	}
	if now.After(o.expires) {
		return invalid
	}
	state := ready
	for _, a := range o.authzs {
		switch a.state(now) {
		case valid:
		case pending:
			state = pending
		default:
			return invalid
		}
	}
	return state
}

// newOrder makes an order (RFC 8555 §7.4).
func (ca *CA) newOrder(rq *request) (*reply, *problem) {
	var want struct {
		Identifiers []identifier
		NotBefore   time.Time
		NotAfter    time.Time
		Replaces    string
		Profile     string
	}
	if p := rq.into(&want); p != nil {
		return nil, p
	}
	if p := ca.checkTerms(ca.agreed(rq.account)); p != nil {
		return nil, p
	}
	names, misfits, p := ca.wantedNames(want.Identifiers)
	if p != nil {
		return nil, p
	}
	profile, p := ca.profile(want.Profile)
	if p == nil {
		p = cmp.Or(ca.checkNames(names, misfits), profile.check(names), ca.checkDates(want.NotBefore, want.NotAfter))
	}
	if p != nil {
		return nil, p
	}

	s := ca.lock()
	defer ca.mu.Unlock()
	if p := s.checkReplaces(rq.account, names, want.Replaces); p != nil {
		return nil, p
	}
	if p := ca.checkLimits(s, rq.account, names); p != nil {
		return nil, p
	}
	now := time.Now()
	o := &order{
		account: rq.account, names: names, created: now, expires: now.Add(orDuration(ca.OrderLifetime, week)),
		notBefore: want.NotBefore, notAfter: want.NotAfter, replaces: want.Replaces, profile: profile.Name,
	}
	if same := ca.reusableOrder(s, o, now); same != nil {
		return ca.orderReply(s, same, rq.op, http.StatusCreated), nil
	}
	o.nth = s.count("order", o.object())
	for _, name := range names {
		o.authzs = append(o.authzs, ca.authorize(s, o, name))
	}
	o.path = ca.add(s, &resource{kind: kindOrder, order: o}, o.object())
	o.finalizePath = ca.add(s, &resource{kind: kindFinalize, order: o}, o.object())
	s.orders = append(s.orders, o)
	s.openOrders[o.key()] = o
	rq.account.orders = append(rq.account.orders, o)
	if cert := s.byID[want.Replaces]; cert != nil {
		cert.replacedBy = o
	}
	return ca.orderReply(s, o, rq.op, http.StatusCreated), nil
}

// key is the same for orders that ask for the same.
func (o *order) key() string {
	return strings.Join([]string{
		o.account.path, o.object(), o.notBefore.Format(time.RFC3339), o.notAfter.Format(time.RFC3339), o.profile,
	}, " ")
}

// count counts what is made for an object, from 1. The state is locked.
func (s *state) count(what, object string) int {
	key := [2]string{what + "s made", object}
	s.nth[key]++
	return s.nth[key]
}

func (ca *CA) agreed(a *account) bool {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return a.terms
}

// checkDates refuses dates that nobody could want, or any at all.
func (ca *CA) checkDates(notBefore, notAfter time.Time) *problem {
	switch {
	case notBefore.IsZero() && notAfter.IsZero():
		return nil
	case ca.RefuseDates: // in Boulder's words
		return refuse(malformed, "NotBefore and NotAfter are not supported")
	case !notAfter.IsZero() && (!notAfter.After(time.Now()) || !notAfter.After(notBefore)):
		return refuse(malformed, "notAfter is not after notBefore and now")
	}
	return nil
}

// checkNames refuses what the CA cannot or will not certify, each name with
// its reason (RFC 8555 §6.7.1), behind what is refused already.
func (ca *CA) checkNames(names []string, refused []*problem) *problem {
	if len(names)+len(refused) == 0 {
		return refuse(malformed, "the order has no identifiers")
	}
	if len(names) > maxNames {
		return refuse(rejectedIdentifier, "the order has %d names, more than %d", len(names), maxNames)
	}
	for _, name := range names {
		if p := ca.checkName(name); p != nil {
			refused = append(refused, p.about(name))
		}
	}
	if refused == nil {
		return nil
	}
	all := refuse(refused[0].typ, "cannot issue for %q: %s", refused[0].identifier, refused[0].detail)
	all.subproblems = refused
	return all
}

func (ca *CA) checkName(name string) *problem {
	base, wildcard := strings.CutPrefix(name, "*.")
	if !isDNSName(base) && !isAddress(name) {
		return refuse(rejectedIdentifier, "this is not a DNS name in its ASCII form")
	}
	if ca.Policy != nil {
		if err := ca.Policy(name); err != nil {
			return refuse(rejectedIdentifier, "%v", err)
		}
	}
	if len(ca.challengeTypes(name)) > 0 {
		return nil
	}
	if wildcard {
		return refuse(rejectedIdentifier, "this CA cannot validate wildcards: set CA.LookupTXT")
	}
	return refuse(rejectedIdentifier, "this CA cannot validate names: set some of CA.HTTP, CA.TLS, CA.Dial, CA.HTTPPort, CA.TLSPort and CA.LookupTXT")
}

// isDNSName reports whether a name is made of letters, digits and hyphens,
// within the bounds of RFC 1035 §2.3.4, and is not an IP address.
func isDNSName(name string) bool {
	if name == "" || len(name) > 253 || net.ParseIP(name) != nil {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	return true
}

// serveOrder shows an order.
func (ca *CA) serveOrder(rq *request) (*reply, *problem) {
	if p := rq.postAsGet(); p != nil {
		return nil, p
	}
	o := rq.to.order
	if rq.account != o.account {
		return nil, refuse(unauthorized, "this is the order of another account")
	}
	for _, a := range o.authzs {
		ca.settle(rq, a)
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	r := ca.orderReply(s, o, rq.op, http.StatusOK)
	o.hidden = max(0, o.hidden-1)
	for _, a := range o.authzs {
		a.hidden = max(0, a.hidden-1)
	}
	return r, nil
}

// orderReply shows an order. The state is locked.
func (ca *CA) orderReply(s *state, o *order, op Op, status int) *reply {
	now := time.Now()
	doc := struct {
		Status         string       `json:"status"`
		Expires        time.Time    `json:"expires"`
		Identifiers    []identifier `json:"identifiers"`
		NotBefore      time.Time    `json:"notBefore,omitzero"`
		NotAfter       time.Time    `json:"notAfter,omitzero"`
		Error          *problem     `json:"error,omitempty"`
		Authorizations []string     `json:"authorizations"`
		Finalize       string       `json:"finalize"`
		Certificate    string       `json:"certificate,omitempty"`
		Replaces       string       `json:"replaces,omitempty"`
		Profile        string       `json:"profile,omitempty"`
	}{
		Status: o.state(now), Expires: o.expires.UTC(), NotBefore: o.notBefore, NotAfter: o.notAfter,
		Error: o.problem(now), Finalize: s.base + o.finalizePath, Replaces: o.replaces, Profile: o.profile,
	}
	slow := slices.ContainsFunc(o.authzs, func(a *authorization) bool { return a.hidden > 0 })
	switch {
	case o.hidden > 0:
		doc.Status, doc.Error = o.guise, nil
	case slow && o.status == "":
		doc.Status, doc.Error = pending, nil
	}
	if doc.Status == valid {
		doc.Certificate = s.base + o.cert.paths[0]
	}
	for _, name := range o.names {
		doc.Identifiers = append(doc.Identifiers, identify(name))
	}
	for _, a := range o.authzs {
		doc.Authorizations = append(doc.Authorizations, s.base+a.path)
	}
	shuffle(ca, op, "identifiers", doc.Identifiers)
	shuffle(ca, op, "authorizations", doc.Authorizations)
	r := inJSON(status, doc)
	if op.Kind == kindNewOrder || !ca.chance(ca.Faults.NoLocation, "no location", op) {
		r.header.Set("Location", s.base+o.path)
	}
	if doc.Status == pending || doc.Status == processing || o.hidden > 0 {
		ca.setRetryAfter(s, r, op)
	}
	return r
}

// problem is why the order is invalid, if it is. The state is locked.
func (o *order) problem(now time.Time) *problem {
	if o.err != nil || o.state(now) != invalid {
		return o.err
	}
	for _, a := range o.authzs {
		for _, c := range a.challenges {
			if c.err != nil {
				return c.err
			}
		}
	}
	return nil
}
