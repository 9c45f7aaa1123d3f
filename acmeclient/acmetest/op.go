package acmetest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The kinds of operations, as Op.Kind has them.
const (
	kindDirectory   = "directory"
	kindNewNonce    = "newNonce"
	kindNewAccount  = "newAccount"
	kindNewOrder    = "newOrder"
	kindAccount     = "account"
	kindOrders      = "orders"
	kindOrder       = "order"
	kindAuthz       = "authz"
	kindChallenge   = "challenge"
	kindFinalize    = "finalize"
	kindCertificate = "certificate"
	kindRevoke      = "revoke"
	kindKeyChange   = "keyChange"
	kindRenewalInfo = "renewalInfo"
	kindUnknown     = "unknown"
)

// Op is one request that reached the CA.
type Op struct {
	// N counts all requests, from 1.
	N int

	// Kind is the operation: "directory", "newNonce", "newAccount",
	// "newOrder", "account", "orders" (the list of an account's orders),
	// "order", "authz", "challenge", "finalize", "certificate", "revoke",
	// "keyChange", "renewalInfo", or "unknown" for a URL that the CA does
	// not have.
	Kind string

	// Object is what the operation is about, by names that do not depend on
	// the order of requests: for newOrder, order, finalize, certificate and
	// renewalInfo the names of the order, ascending, separated by commas; for
	// authz and challenge the one name; for newAccount, account and orders
	// the contacts; else it is empty. It is what a request says of itself,
	// verified or not.
	Object string

	// Nth counts the requests of this Kind for this Object, from 1.
	Nth int
}

func (op Op) String() string {
	if op.Object == "" {
		return fmt.Sprintf("%d %s", op.N, op.Kind)
	}
	return fmt.Sprintf("%d %s %s", op.N, op.Kind, op.Object)
}

// Fault is what goes wrong with one request.
type Fault int

const (
	FaultNone     Fault = iota // nothing
	FaultBefore                // the request is lost before it has an effect
	FaultAfter                 // the request has its effect, the reply is lost
	FaultHang                  // the request is lost, and the connection stays open
	FaultBadNonce              // the nonce is refused (signed requests only)
	Fault500                   // answer 500, no effect; CA.RetryAfter says when to try again
	Fault503                   // answer 503, no effect; CA.RetryAfter says when to try again
	Fault429                   // answer 429 rateLimited, no effect; CA.RetryAfter says when to try again
	FaultGarbage               // the effect happens, the reply's body is garbage
	FaultHuge                  // the effect happens, the reply's body is followed by 64 MiB of white space
)

var faultNames = [...]string{"none", "before", "after", "hang", "badNonce", "500", "503", "429", "garbage", "huge"}

func (f Fault) String() string {
	if f < 0 || int(f) >= len(faultNames) {
		return fmt.Sprintf("Fault(%d)", int(f))
	}
	return faultNames[f]
}

// maxTrace bounds the lines that Trace returns.
const maxTrace = 10_000

// begin numbers a request.
func (ca *CA) begin(rq *request) {
	s := ca.lock()
	defer ca.mu.Unlock()
	rq.to = s.resources[rq.URL.RequestURI()]
	if rq.to == nil {
		rq.to = ca.renewalInfoResource(s, rq.URL.Path)
	}
	s.ops++
	s.requests[rq.to.kind]++
	rq.op = Op{N: s.ops, Kind: rq.to.kind, Object: rq.object()}
	key := [2]string{rq.op.Kind, rq.op.Object}
	s.nth[key]++
	rq.op.Nth = s.nth[key]
}

// end writes what happened to a request into the trace.
func (ca *CA) end(rq *request, fault Fault, rep *reply) {
	line := rq.op.String() + " → "
	switch {
	case rep == nil:
		line += "lost"
	case rq.problem != nil:
		line += statusText(rep.status) + " " + rq.problem.typ
	default:
		line += statusText(rep.status)
	}
	if fault != FaultNone {
		line += " (fault: " + fault.String() + ")"
	}
	s := ca.lock()
	s.trace = append(s.trace, line)
	if len(s.trace) > maxTrace {
		s.trace = append([]string(nil), s.trace[len(s.trace)-maxTrace/2:]...)
	}
	ca.mu.Unlock()
	ca.log().Debug("acmetest request", "n", rq.op.N, "kind", rq.op.Kind, "object", rq.op.Object,
		"fault", fault.String(), "lost", rep == nil)
}

// object names what the request is about.
func (rq *request) object() string {
	switch to := rq.to; {
	case to.order != nil:
		return to.order.object()
	case to.cert != nil:
		return to.cert.order.object()
	case to.chall != nil:
		return to.chall.authz.identifier()
	case to.authz != nil:
		return to.authz.identifier()
	case to.account != nil:
		return strings.Join(to.account.contacts, ",")
	}
	// Nothing is verified yet: a request that does not parse has no object.
	var said struct {
		Contact     []string
		Identifiers []struct{ Value string }
	}
	if rq.jws == nil || json.Unmarshal(rq.jws.payload, &said) != nil {
		return ""
	}
	switch rq.to.kind {
	case kindNewAccount:
		return strings.Join(said.Contact, ",")
	case kindNewOrder:
		names := make([]string, 0, len(said.Identifiers))
		for _, id := range said.Identifiers {
			names = append(names, strings.ToLower(id.Value))
		}
		return objectOf(names)
	}
	return ""
}
