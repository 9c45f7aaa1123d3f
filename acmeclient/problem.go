package acmeclient

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Errors that callers branch on. They are found with errors.Is in the *Problem that a call returned.
var (
	// ErrTerms: the CA has terms of service that were not agreed to. The error's text names their URL.
	ErrTerms = errors.New("the CA's terms of service are not agreed to")

	// ErrNoAccount: the CA knows no account with that key, or with the URL of the session.
	ErrNoAccount = errors.New("the CA knows no account with this key")

	// ErrAccountClosed: the account of that key, or of the session, is deactivated or revoked. It needs another key to register again.
	ErrAccountClosed = errors.New("the account is closed")

	// ErrWait: the CA wants to be asked again at Problem.RetryAt, which is further away than a call should last.
	// Nothing has failed: the order stands, and the same call may be repeated then.
	ErrWait = errors.New("the CA needs more time")

	errACMEv1 = errors.New("it speaks the protocol before RFC 8555 (ACMEv1), which no CA issues certificates over any more")
)

// Limits on what is kept of a problem document (RFC 7807).
const (
	maxDetail      = 4 << 10 // bytes
	maxSubproblems = 100     // as many as Let's Encrypt takes names per certificate
	maxShort       = 256     // bytes of a type or name
	maxURL         = 2048    // bytes
)

// A Problem says what could not be done at the CA, and whether and when to try again.
// Every error that a Client or Session returns is a *Problem, be it from the CA, the network, or the context.
//
// All text that came from the CA is bounded, valid UTF-8, and free of control characters and bidirectional marks.
type Problem struct {
	Op          string       // what could not be done: "create the order"
	Name        string       // the DNS name or IP address it is about; empty: not about a single one
	URL         string       // what was asked
	Status      int          // of the HTTP reply; 0: there was none
	Type        string       // as sent, "urn:ietf:params:acme:error:rateLimited"; empty: the CA sent no problem document; see Kind
	Detail      string       // the CA's words, at most 4 KiB
	Instance    string       // a page for the operator, with userActionRequired: the terms have changed (RFC 8555 §7.3.3)
	Help        string       // a page about the problem, from the reply's Link header
	Subproblems []Subproblem // RFC 8555 §6.7.1, at most 100
	RetryAt     time.Time    // not before then, says the CA; zero: it says nothing. At most two days ahead
	Err         error        // what happened when it was not the CA that complained; see Unwrap

	bound   bool // an external account was given: what is unauthorized may be that
	garbled bool // a good reply was cut off, or is something else altogether: it may come when asked for again
}

// A Subproblem is the part of a Problem that is about one name (RFC 8555 §6.7.1).
type Subproblem struct {
	Name   string // a wildcard name keeps its "*."; empty: the CA did not say
	Type   string // like Problem.Type
	Detail string // at most 4 KiB
}

// Kind returns the type without its prefix, "rateLimited", or "" if the CA sent no problem document.
// CAs differ in the prefix and in case, so compare with strings.EqualFold.
func (p *Problem) Kind() string { return kind(p.Type) }

// Kind is like [Problem.Kind].
func (s Subproblem) Kind() string { return kind(s.Type) }

func kind(typ string) string {
	if typ == "about:blank" { // RFC 7807 §4.2: the same as no type
		return ""
	}
	return typ[strings.LastIndexByte(typ, ':')+1:]
}

func (p *Problem) is(k string) bool { return strings.EqualFold(p.Kind(), k) }

// Unwrap returns the network's, the context's or our own error, such as ErrWait; nil if the CA complained.
// If errors.Is finds context.Canceled or context.DeadlineExceeded, it was the caller's context that ended.
func (p *Problem) Unwrap() error { return p.Err }

// Is lets errors.Is find ErrNoAccount and ErrAccountClosed in what the CA says of the account, whatever was asked for.
func (p *Problem) Is(target error) bool {
	switch target {
	case ErrNoAccount:
		return p.is("accountDoesNotExist")
	case ErrAccountClosed:
		return p.accountClosed()
	}
	return false
}

// accountClosed reports whether the CA refuses all that the account or its key asks for. RFC 8555 §7.3.6 wants 401 unauthorized;
// Let's Encrypt says 403, like to a request for what belongs to another account, but with these words.
func (p *Problem) accountClosed() bool {
	if !p.is("unauthorized") {
		return false
	}
	said := func(word string) bool { return strings.Contains(strings.ToLower(p.Detail), word) }
	if said("external") || said("binding") { // the external account's key is wrong or used up, and ours is as good as before
		return false
	}
	return p.Status == http.StatusUnauthorized && !p.bound || said("account") && (said("deactivated") || said("revoked"))
}

// Permanent reports whether the same request will fail again until somebody changes something: what was asked for, the terms
// agreed to, the account. All else may pass by itself: outages, limits, and what validations of names complain about.
func (p *Problem) Permanent() bool {
	if p.Err != nil {
		return errors.Is(p.Err, ErrTerms) || errors.Is(p.Err, ErrAccountClosed) || errors.Is(p.Err, errACMEv1)
	}
	switch {
	case p.accountClosed():
		return true
	case p.Status >= 500: // the server's fault, whatever the type says
		return false
	case p.Paused():
		return true
	case p.is("malformed"):
		// Boulder sends malformed also for orders that it has forgotten. A repeated request makes another.
		return p.Status != http.StatusNotFound
	case p.is("compound"):
		return len(p.Subproblems) > 0 && !slices.ContainsFunc(p.Subproblems, func(s Subproblem) bool { return !permanentKind(s.Kind()) })
	}
	return permanentKind(p.Kind())
}

func permanentKind(k string) bool {
	switch strings.ToLower(k) {
	case "agreementrequired", "useractionrequired", "externalaccountrequired", // the account
		"invalidcontact", "unsupportedcontact",
		"badcsr", "badpublickey", "badsignaturealgorithm", "invalidprofile", // the request
		"rejectedidentifier", "unsupportedidentifier", "malformed",
		"alreadyrevoked", "badrevocationreason":
		return true
	}
	return false
}

// Paused reports whether Let's Encrypt has paused the name for this account after too many failed validations.
// It lasts until somebody visits the page that Detail names; the problem comes as rateLimited but without a time.
func (p *Problem) Paused() bool {
	return p.is("rateLimited") && p.RetryAt.IsZero() &&
		strings.Contains(p.Detail, "temporarily prevented from requesting certificates")
}

// Error returns one line that says what could not be done, why, and what the CA said about it.
func (p *Problem) Error() string {
	what := "cannot " + clean(p.Op, maxShort)
	if p.Name != "" {
		what += " for " + clean(p.Name, maxShort)
	}
	var err string
	if p.Err != nil {
		err = clean(p.Err.Error(), maxDetail)
	}
	kind := clean(p.Kind(), maxShort)
	if kind == "" && p.Status >= 400 {
		kind = fmt.Sprintf("HTTP status %d", p.Status)
	}
	return joinSaid(what, err, kind, clean(p.Detail, maxDetail)) + p.more()
}

// joinSaid joins what is not empty.
func joinSaid(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// more returns what follows in an error's text: the names it is about, where it happened, and what to do.
func (p *Problem) more() string {
	var b strings.Builder
	const shown = 5
	for i, s := range p.Subproblems[:min(len(p.Subproblems), shown)] {
		fmt.Fprintf(&b, "; %s", joinSaid(cmp.Or(clean(s.Name, maxShort), "a name"), clean(s.Kind(), maxShort), clean(s.Detail, maxShort)))
		if more := len(p.Subproblems) - shown; i == shown-1 && more > 0 {
			fmt.Fprintf(&b, "; and %d more", more)
		}
	}
	if p.URL != "" {
		fmt.Fprintf(&b, " (at %s)", clean(p.URL, maxURL))
	}
	if !p.RetryAt.IsZero() {
		fmt.Fprintf(&b, "; ask again after %s", p.RetryAt.UTC().Format(time.RFC3339))
	}
	if page := cmp.Or(p.Instance, p.Help); page != "" {
		fmt.Fprintf(&b, "; see %s", clean(page, maxURL))
	}
	return b.String()
}

// wireProblem is a problem document (RFC 7807, RFC 8555 §6.7) as a CA sends it, in a reply or within an order or challenge.
type wireProblem struct {
	Type        string
	Detail      string
	Instance    string
	Subproblems []struct {
		Type       string
		Detail     string
		Identifier wireIdentifier
	}
}

// problem returns w as a Problem with everything bounded and cleaned.
func (w *wireProblem) problem() *Problem {
	p := &Problem{
		Type:     clean(w.Type, maxShort),
		Detail:   clean(w.Detail, maxDetail),
		Instance: clean(w.Instance, maxURL),
	}
	for _, s := range w.Subproblems[:min(len(w.Subproblems), maxSubproblems)] {
		p.Subproblems = append(p.Subproblems, Subproblem{
			Name:   clean(s.Identifier.Value, maxShort),
			Type:   clean(s.Type, maxShort),
			Detail: clean(s.Detail, maxDetail),
		})
	}
	if len(p.Subproblems) == 1 {
		p.Name = p.Subproblems[0].Name
	}
	return p
}

// parseProblem reads the reply of a CA that refused something. Any body gives a Problem: mod_md's users have met
// text, HTML, empty bodies, and documents without a type.
func parseProblem(r *reply) *Problem {
	var w wireProblem
	err := json.Unmarshal(r.body, &w)
	var wrongType *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &wrongType) { // a field of the wrong type leaves the others filled
		w = wireProblem{Detail: string(r.body[:min(len(r.body), maxDetail)])}
	}
	p := w.problem()
	if p.Detail == "" {
		p.Detail = clean(http.StatusText(r.status), maxShort)
	}
	p.Status, p.URL = r.status, r.url
	p.Help = clean(link(r.header, "help"), maxURL)
	if p.Instance == "" && p.is("userActionRequired") {
		p.Instance = clean(link(r.header, "terms-of-service"), maxURL) // RFC 8555 §7.3.3 wants both
	}
	if d := r.retryAfter(); d > 0 {
		p.RetryAt = r.at.Add(d)
	}
	return p
}

// newProblem makes a Problem of what a call ended with: what the CA said if it refused, else err.
func newProblem(op string, k *call, err error) *Problem {
	var shared *Problem
	if errors.As(err, &shared) {
		p := *shared // several callers may have it, if it is about the directory
		return &p
	}
	if k.reply != nil && !k.reply.good() {
		p := parseProblem(k.reply)
		p.Op = op
		return p
	}
	p := &Problem{Op: op, URL: k.url, Err: err}
	var ue *url.Error
	if errors.As(err, &ue) {
		p.URL, p.Err = clean(ue.URL, maxURL), ue.Err // the URL that it was about may be the nonce's
	}
	return p
}

// invalidReply makes a Problem of a good reply that cannot be used; what is the rest of a sentence about the CA's reply.
func (r *reply) invalidReply(op, what string) *Problem {
	return &Problem{Op: op, URL: r.url, Status: r.status, Err: fmt.Errorf("the CA's reply %s", what)}
}

// decode reads the JSON object of a good reply. Fields of an unexpected type stay empty: those that are needed are checked by who needs them.
func (r *reply) decode(op string, v any) error {
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(r.body, v); err != nil && !errors.As(err, &wrongType) {
		return r.garbled(op, "is not JSON: "+clean(err.Error(), maxShort))
	}
	return nil
}
