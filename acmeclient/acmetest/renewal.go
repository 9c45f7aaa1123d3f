package acmetest

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// renewalInfoPath is where renewal information begins (RFC 9773 §4.1).
const renewalInfoPath = "/acme/renewal-info"

// RenewalInfo is when the CA wants a certificate to be renewed (RFC 9773
// §4.2).
type RenewalInfo struct {
	Start, End time.Time

	// ExplanationURL says why, if not empty.
	ExplanationURL string

	// RetryAfter is when to ask again. Zero is 6 hours.
	RetryAfter time.Duration
}

// SetRenewalInfo decides what the CA says about one certificate, whatever
// that is: an end before the start, for example. It needs CA.RenewalInfo.
func (ca *CA) SetRenewalInfo(leaf *x509.Certificate, info RenewalInfo) {
	s := ca.lock()
	defer ca.mu.Unlock()
	s.renewalInfo[certID(leaf)] = info
}

// renewalInfoResource is what a path that is in no table stands for. The
// state is locked.
func (ca *CA) renewalInfoResource(s *state, path string) *resource {
	id, ok := strings.CutPrefix(path, renewalInfoPath+"/")
	if !ok || !ca.RenewalInfo {
		return &resource{kind: kindUnknown}
	}
	return &resource{kind: kindRenewalInfo, cert: s.byID[id]}
}

// serveRenewalInfo answers RFC 9773 §4.2.
func (ca *CA) serveRenewalInfo(rq *request) (*reply, *problem) {
	c := rq.to.cert
	if c == nil {
		return nil, refuse(malformed, "there is no such certificate").with(http.StatusNotFound)
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	info, set := s.renewalInfo[certID(c.leaf)]
	if !set {
		info = suggest(c)
	}
	type window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	}
	r := inJSON(http.StatusOK, struct {
		Window      window `json:"suggestedWindow"`
		Explanation string `json:"explanationURL,omitempty"`
	}{window{info.Start.UTC(), info.End.UTC()}, info.ExplanationURL})
	wait := orDuration(info.RetryAfter, 6*time.Hour)
	r.header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
	return r, nil
}

// suggest proposes two thirds of the lifetime, give or take a hundredth, and
// for a revoked certificate the hour before its revocation.
func suggest(c *certificate) RenewalInfo {
	if !c.revoked.IsZero() {
		return RenewalInfo{Start: c.revoked.Add(-time.Hour), End: c.revoked.Add(-time.Second)}
	}
	life := c.leaf.NotAfter.Sub(c.leaf.NotBefore)
	middle := c.leaf.NotBefore.Add(life * 2 / 3)
	return RenewalInfo{Start: middle.Add(-life / 100), End: middle.Add(life / 100)}
}

// checkReplaces checks the replaces of an order (RFC 9773 §5): the same
// account, a name in common, and not replaced before. The state is locked.
func (s *state) checkReplaces(a *account, names []string, id string) *problem {
	if id == "" {
		return nil
	}
	c := s.byID[id]
	now := time.Now()
	switch {
	case c == nil:
		return refuse(malformed, "replaces names no certificate of this CA").with(http.StatusNotFound)
	case c.order.account != a:
		return refuse(unauthorized, "replaces names a certificate of another account")
	case !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(c.order.names, n) }):
		return refuse(malformed, "replaces names a certificate for entirely other names")
	case c.replacedBy != nil && c.replacedBy.state(now) != invalid:
		return refuse(alreadyReplaced, "the certificate was replaced already")
	}
	return nil
}
