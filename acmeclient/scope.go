package acmeclient

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Scope says whom a limit is about.
type Scope struct {
	Kind  ScopeKind
	Names []string // of ScopeName: at least one of those that Problem.Scope was given, as it was given. Otherwise nil
}

// A ScopeKind is the kind of a Scope.
type ScopeKind int

const (
	ScopeNone    ScopeKind = iota // the Problem is not about a limit
	ScopeAccount                  // nothing can be ordered with this account, or at this CA, whatever the names
	ScopeName                     // only Scope.Names cannot be ordered
)

// String returns "none", "account" or "name".
func (k ScopeKind) String() string {
	switch k {
	case ScopeNone:
		return "none"
	case ScopeAccount:
		return "account"
	case ScopeName:
		return "name"
	}
	return "unknown"
}

// Scope says whom the limit that p tells of is about; names are those of the order, or nil for a request that has none.
// Until when: see RetryTime and Paused.
//
// Limits have no fields for it (RFC 8555 §6.6), so it is taken from subproblems, and from the words that Let's Encrypt and those who use its
// software have. A limit in other words is about the names that it mentions, or else about the account: that is the larger, and safer.
func (p *Problem) Scope(names []string) Scope {
	if p.Err != nil {
		return Scope{}
	}
	if limited := p.limitedSubproblems(names); len(limited) > 0 {
		return Scope{ScopeName, limited}
	}
	switch {
	case p.is("rateLimited") || p.Status == http.StatusTooManyRequests:
		return p.limitScope(names)
	case p.Status >= 500 && (p.Status == http.StatusServiceUnavailable || !p.RetryAt.IsZero()):
		return Scope{Kind: ScopeAccount} // Let's Encrypt's load balancers limit addresses with 503 (RFC 9110 §15.6.4)
	}
	return Scope{}
}

// limitedSubproblems returns those of names that have a subproblem that is a limit (RFC 8555 §6.7.1).
func (p *Problem) limitedSubproblems(names []string) []string {
	return choose(names, func(name string) bool {
		return slices.ContainsFunc(p.Subproblems, func(s Subproblem) bool {
			return strings.EqualFold(s.Kind(), "rateLimited") && isAbout(name, s.Name)
		})
	})
}

// limitScope reads the words of a limit.
func (p *Problem) limitScope(names []string) Scope {
	detail := strings.ToLower(p.Detail)
	said := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(detail, w) })
	}
	if len(names) == 0 || said("new orders", "from this account", "registrations", "from this ip") {
		return Scope{Kind: ScopeAccount}
	}
	if said("exact set of") {
		return Scope{ScopeName, slices.Clone(names)}
	}
	things := mentioned(p.Detail)
	exact := choose(names, func(name string) bool {
		return slices.ContainsFunc(things, func(thing string) bool { return isAbout(name, thing) })
	})
	// "too many certificates already issued for" is about a registered domain and all below it, or a network. So may be what
	// mentions none of the names themselves.
	if len(exact) > 0 && !said("too many certificates") {
		return Scope{ScopeName, exact}
	}
	below := choose(names, func(name string) bool {
		return slices.ContainsFunc(things, func(thing string) bool { return isAbout(name, thing) || isBelow(name, thing) })
	})
	switch {
	case len(below) > 0:
		return Scope{ScopeName, below}
	case said("failed authorizations", "temporarily prevented from requesting certificates for"):
		return Scope{ScopeName, slices.Clone(names)} // it is about one of them, and does not say which
	}
	return Scope{Kind: ScopeAccount}
}

func choose(names []string, want func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !want(name) })
}

var (
	anyURL  = regexp.MustCompile(`(?i)\bhttps?://\S*`)
	anyWord = regexp.MustCompile(`[\pL\pN*_.:/-]+`)
	quoted  = regexp.MustCompile(`"[^"]*"`)
)

// mentioned returns what in detail might be a name or network: quoted words, and others that have a dot or colon. URLs are left out:
// one that explains the limit is not about the names of its host.
func mentioned(detail string) []string {
	text := anyURL.ReplaceAllString(detail, " ")
	var things []string
	for _, q := range quoted.FindAllString(text, -1) {
		things = append(things, strings.Trim(q, `"`))
	}
	for _, word := range anyWord.FindAllString(text, -1) {
		if word = strings.TrimRight(word, ".:/"); strings.ContainsAny(word, ".:") {
			things = append(things, word)
		}
	}
	return things
}

// isAbout reports whether thing, from a CA's words, is name. Authorizations for wildcards are about the name without "*." (RFC 8555 §7.1.4).
func isAbout(name, thing string) bool {
	if strings.EqualFold(name, thing) || strings.EqualFold(strings.TrimPrefix(name, "*."), thing) {
		return true
	}
	a, err := netip.ParseAddr(name)
	b, err2 := netip.ParseAddr(thing)
	return err == nil && err2 == nil && a == b
}

// isBelow reports whether name is in the domain or network thing.
func isBelow(name, thing string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		network, err := netip.ParsePrefix(thing)
		return err == nil && network.Contains(addr)
	}
	return thing != "" && strings.HasSuffix(strings.ToLower(name), "."+strings.ToLower(thing))
}

// AboutName reports whether p is about a name rather than the CA: the name does not resolve, its server cannot be reached or answers wrongly, it cannot
// be certified. Another CA is likely to meet the same. It is false for CAA records, which may allow another CA, and for limits: see Scope.
func (p *Problem) AboutName() bool {
	if p.Err != nil {
		return false
	}
	if slices.ContainsFunc(p.Subproblems, func(s Subproblem) bool { return isNameKind(s.Kind()) }) {
		return true
	}
	// What a validation ended with has no HTTP status of its own. With one, unauthorized is about the account or the request.
	if p.is("unauthorized") {
		return p.Status == 0
	}
	return isNameKind(p.Kind())
}

func isNameKind(k string) bool {
	switch strings.ToLower(k) {
	case "dns", "connection", "tls", "unauthorized", "incorrectresponse", "rejectedidentifier":
		return true
	}
	return false
}

const maxSaidRetry = 7 * 24 * time.Hour // the longest period of Let's Encrypt's limits

var saidRetry = regexp.MustCompile(`(?i)\bretry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d) ?(?:UTC|Z)`)

// RetryTime returns when the CA allows another attempt: RetryAt, or else the latest time after "retry after" in Detail, where CAs write it that
// send no header, at most a week after now. It is zero if there is none, or it is not after now.
func (p *Problem) RetryTime(now time.Time) time.Time {
	retry := p.RetryAt
	if retry.IsZero() {
		for _, m := range saidRetry.FindAllStringSubmatch(p.Detail, -1) {
			if t, err := time.Parse(time.DateTime, m[1]+" "+m[2]); err == nil && t.After(retry) {
				retry = t
			}
		}
	}
	if !retry.After(now) {
		return time.Time{}
	}
	if latest := now.Add(maxSaidRetry); retry.After(latest) {
		return latest
	}
	return retry
}

// UnpauseURL returns the https URL of the page where somebody can unpause the names, from Detail. Empty: p is not Paused, or the URL is not usable.
func (p *Problem) UnpauseURL() string {
	if !p.Paused() {
		return ""
	}
	page := strings.TrimRight(anyURL.FindString(p.Detail), `.,;)>"'`)
	cutOff := strings.HasSuffix(p.Detail, page) && len(p.Detail) >= maxDetail-4 // a page of a text that was too long
	if cutOff || !strings.HasPrefix(strings.ToLower(page), "https://") || explanationURL(page) == "" {
		return ""
	}
	return page
}
