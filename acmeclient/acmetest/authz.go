package acmetest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The challenge types of RFC 8555 §8 and RFC 8737 that the CA validates.
const (
	typeHTTP01    = "http-01"
	typeTLSALPN01 = "tls-alpn-01"
	typeDNS01     = "dns-01"
)

// authorization is one authorization (RFC 8555 §7.1.4). Its fields are
// guarded by the CA's mutex.
type authorization struct {
	path       string
	account    *account
	name       string // without "*."
	wildcard   bool
	expires    time.Time
	status     string
	challenges []*challenge
	hidden     int // how many looks still see it pending
}

// challenge is one challenge (RFC 8555 §7.1.5). Its fields are guarded by
// the CA's mutex.
type challenge struct {
	path      string
	authz     *authorization
	typ       string
	token     string // empty for types that have none
	status    string
	validated time.Time
	err       *problem
	done      chan struct{} // closed when validation ends; nil before it begins
}

// identifier is the name as it stands in orders.
func (a *authorization) identifier() string {
	if a.wildcard {
		return "*." + a.name
	}
	return a.name
}

// state is the authorization's status. The state is locked.
func (a *authorization) state(now time.Time) string {
	if (a.status == pending || a.status == valid) && now.After(a.expires) {
		return expired
	}
	return a.status
}

// challengeTypes are those by which the CA can validate a name.
func (ca *CA) challengeTypes(name string) []string {
	all := []string{typeHTTP01, typeTLSALPN01, typeDNS01}
	switch {
	case strings.HasPrefix(name, "*."):
		all = all[2:] // RFC 8555 §8.3, RFC 8737 §3: not for wildcards
	case isAddress(name):
		all = all[:2] // RFC 8738 §7
	}
	var offered []string
	for _, typ := range all {
		if ca.offers(typ) {
			offered = append(offered, typ)
		}
	}
	return offered
}

// authorize finds or makes an authorization for a name of an order. The state
// is locked.
func (ca *CA) authorize(s *state, o *order, identifier string) *authorization {
	now := time.Now()
	key := o.account.path + " " + identifier
	op := Op{Kind: kindAuthz, Object: identifier, Nth: s.count("authorization", identifier)}
	if old := s.validAuthz[key]; old != nil && old.state(now) == valid && ca.chance(ca.AuthzReuse, "reuse", op) {
		return old
	}
	a := &authorization{account: o.account, status: pending, expires: now.Add(orDuration(ca.AuthzLifetime, week))}
	a.name, a.wildcard = strings.CutPrefix(identifier, "*.")
	a.path = ca.add(s, &resource{kind: kindAuthz, authz: a}, identifier)
	for _, typ := range ca.challengeTypes(identifier) {
		token := ca.token(identifier, typ, op.Nth)
		ca.addChallenge(s, &challenge{authz: a, typ: typ, token: token})
	}
	if ca.chance(ca.Faults.OddChallenges, "odd challenges", op) {
		ca.addChallenge(s, &challenge{authz: a, typ: "dns-persist-01"})
		ca.addChallenge(s, &challenge{authz: a, typ: "x-moon-phase-01", token: ca.token(identifier, "moon", op.Nth)})
	}
	return a
}

func (ca *CA) addChallenge(s *state, c *challenge) {
	c.status = pending
	c.path = ca.add(s, &resource{kind: kindChallenge, chall: c}, c.authz.identifier())
	c.authz.challenges = append(c.authz.challenges, c)
}

// token is base64url with more than 128 bits, as RFC 8555 §8.1 asks; with
// equal seeds it is the same in each run.
func (ca *CA) token(parts ...any) string {
	return digest64(append([]any{ca.Seed, "token"}, parts...)...)
}

// serveAuthz shows an authorization, or deactivates it (RFC 8555 §7.5.2).
func (ca *CA) serveAuthz(rq *request) (*reply, *problem) {
	a := rq.to.authz
	if rq.account != a.account {
		return nil, refuse(unauthorized, "this is the authorization of another account")
	}
	var want struct{ Status string }
	if !rq.jws.empty {
		if p := rq.into(&want); p != nil {
			return nil, p
		}
		if want.Status != deactivated {
			return nil, refuse(malformed, "an authorization cannot be made %q", want.Status)
		}
	}
	ca.settle(rq, a)
	s := ca.lock()
	defer ca.mu.Unlock()
	if want.Status == deactivated {
		if state := a.state(time.Now()); state != pending && state != valid {
			return nil, refuse(malformed, "the authorization is %s", state)
		}
		a.status = deactivated
	}
	r := ca.authzReply(s, a, rq.op)
	a.hidden = max(0, a.hidden-1)
	return r, nil
}

// authzReply shows an authorization. The state is locked.
func (ca *CA) authzReply(s *state, a *authorization, op Op) *reply {
	doc := struct {
		Identifier identifier       `json:"identifier"`
		Status     string           `json:"status"`
		Expires    time.Time        `json:"expires"`
		Challenges []map[string]any `json:"challenges"`
		Wildcard   bool             `json:"wildcard,omitempty"`
	}{
		Identifier: identify(a.name), Status: a.state(time.Now()),
		Expires: a.expires.UTC(), Wildcard: a.wildcard,
	}
	if a.hidden > 0 {
		doc.Status = pending
	}
	for _, c := range a.challenges {
		// RFC 8555 §7.1.4: once decided, only the challenge that decided.
		if a.hidden > 0 || a.status == pending || c.status == a.status || a.status == deactivated {
			doc.Challenges = append(doc.Challenges, ca.challengeDoc(s, c))
		}
	}
	shuffle(ca, op, "challenges", doc.Challenges)
	r := inJSON(http.StatusOK, doc)
	if doc.Status == pending {
		ca.setRetryAfter(s, r, op)
	}
	return r
}

// challengeDoc is a challenge as it is shown. The state is locked.
func (ca *CA) challengeDoc(s *state, c *challenge) map[string]any {
	doc := map[string]any{"type": c.typ, "url": s.base + c.path, "status": c.status}
	if c.token != "" {
		doc["token"] = c.token
	}
	if c.typ == "dns-persist-01" {
		doc["issuer-domain-names"] = []string{"acme.test"}
	}
	if c.authz.hidden > 0 && c.status != pending {
		doc["status"] = processing
		return doc
	}
	if c.err != nil {
		doc["error"] = c.err
	}
	if !c.validated.IsZero() {
		doc["validated"] = c.validated.UTC().Format(time.RFC3339)
	}
	return doc
}

// serveChallenge shows a challenge, or begins its validation (RFC 8555
// §7.5.1).
func (ca *CA) serveChallenge(rq *request) (*reply, *problem) {
	c := rq.to.chall
	if rq.account != c.authz.account {
		return nil, refuse(unauthorized, "this is the challenge of another account")
	}
	if !rq.jws.empty {
		var anything map[string]any
		if p := rq.into(&anything); p != nil {
			return nil, p
		}
		if p := ca.respond(c); p != nil {
			return nil, p
		}
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	r := inJSON(http.StatusOK, ca.challengeDoc(s, c))
	r.header.Set("Link", "<"+s.base+c.authz.path+`>;rel="up"`)
	if c.status == pending || c.status == processing {
		ca.setRetryAfter(s, r, rq.op)
	}
	return r, nil
}

// respond begins the validation of a challenge that the client is ready for.
func (ca *CA) respond(c *challenge) *problem {
	if !ca.offers(c.typ) {
		return refuse(malformed, "challenges of type %s are not validated here", strconv.Quote(c.typ))
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	if s.closed {
		return refuse(serverInternal, "the CA is closed")
	}
	switch state := c.authz.state(time.Now()); {
	case state == expired || state == deactivated:
		return refuse(malformed, "the authorization is %s", state)
	case c.status != pending || state != pending:
		return nil // asked before: the answer tells how it stands
	}
	c.status = processing
	c.done = make(chan struct{})
	t := target{
		typ: c.typ, name: c.authz.name, token: c.token,
		// RFC 8555 §8.1: the account key at the time of the response.
		keyAuth: c.token + "." + thumbprint(c.authz.account.key),
	}
	ctx := s.ctx
	ca.tasks.Go(func() { ca.validate(ctx, c, t) })
	return nil
}

// settleTime is how long a look at something that is being validated waits
// for the outcome. It spares clients of a fair CA a round of polling.
const settleTime = 250 * time.Millisecond

// settle waits a moment for running validations of an authorization.
func (ca *CA) settle(rq *request, a *authorization) {
	var running []chan struct{}
	ca.mu.Lock()
	for _, c := range a.challenges {
		if c.status == processing {
			running = append(running, c.done)
		}
	}
	ca.mu.Unlock()
	if len(running) == 0 {
		return
	}
	limit := time.NewTimer(settleTime)
	defer limit.Stop()
	for _, done := range running {
		select {
		case <-done:
		case <-limit.C:
			return
		case <-rq.Context().Done():
			return
		}
	}
}
