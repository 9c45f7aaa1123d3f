package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrNoRenewalInfo: the CA offers no renewal information (RFC 9773), so when to renew is for others to say.
var ErrNoRenewalInfo = errors.New("the CA offers no renewal information (RFC 9773)")

// RenewalInfo is when a CA wants a certificate to be renewed (RFC 9773 §4.2).
type RenewalInfo struct {
	// Start and End are the suggested window; End is after Start. A window in the past means: renew at once.
	// They are what the CA says, however far away that is.
	Start, End time.Time

	// ExplanationURL is a page for the operator that says why, http or https, at most 2048 bytes. Empty: the CA gives none that could be shown.
	ExplanationURL string

	// RetryAfter is how long from now until the CA is to be asked again, neither much earlier nor later (RFC 9773 §4.3.2):
	// a minute to a day, and 6 hours if the CA does not say. It is set with an error, too.
	RetryAfter time.Duration
}

const (
	renewalInfoPause    = 6 * time.Hour  // where the CA does not say (RFC 9773 §4.3.3)
	minRenewalInfoPause = time.Minute    // RFC 9773 §4.3.2 wants limits to what the CA says: less would be a hot loop …
	maxRenewalInfoPause = 24 * time.Hour // … and more would miss a revocation
	maxCertID           = 512            // bytes; Let's Encrypt's have some 55
)

// RenewalInfo asks when the certificate with that CertID should be renewed. The request is not signed: no account is needed.
//
// With an error, which must not keep anybody from renewing, only RetryAfter is set. After a temporary error (a time-out, the server's own fault) it is a
// minute, or more if the CA says so, which the caller doubles with each temporary error in a row, up to 6 hours. After all others, such as
// a window that ends before it starts, it is 6 hours (RFC 9773 §4.3.3). The error wraps ErrNoRenewalInfo if the CA has nothing to ask.
func (c *Client) RenewalInfo(ctx context.Context, certID string) (RenewalInfo, error) {
	info, p := c.renewalInfo(ctx, certID)
	if p != nil {
		return RenewalInfo{RetryAfter: renewalInfoPauseAfter(p, time.Now())}, p
	}
	return info, nil
}

func (c *Client) renewalInfo(ctx context.Context, certID string) (RenewalInfo, *Problem) {
	const op = "read the renewal information"
	doc, err := c.transport.directory(ctx)
	switch {
	case err != nil:
		return RenewalInfo{}, newProblem(op, &call{url: c.ca.URL}, err)
	case doc.RenewalInfo == "":
		return RenewalInfo{}, &Problem{Op: op, URL: c.ca.URL, Err: ErrNoRenewalInfo}
	case !isCertID(certID):
		return RenewalInfo{}, &Problem{Op: op, URL: doc.RenewalInfo, Err: fmt.Errorf("%q is not the ID of a certificate (RFC 9773 §4.1); CertID returns it", clean(certID, maxShort))}
	}
	where := strings.TrimSuffix(doc.RenewalInfo, "/") + "/" + certID
	var info RenewalInfo
	var p *Problem
	if err := c.transport.look(ctx, op, where, func() (bool, error) {
		if info, p = c.askRenewalInfo(ctx, op, where); p != nil {
			return isWorthRepeating(p), p
		}
		return false, nil
	}); err != nil {
		return RenewalInfo{}, newProblem(op, &call{url: where}, err)
	}
	return info, nil
}

func (c *Client) askRenewalInfo(ctx context.Context, op, where string) (RenewalInfo, *Problem) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return RenewalInfo{}, &Problem{Op: op, URL: where, Err: err}
	}
	req.Header.Set("Accept", "application/json")
	r, err := c.transport.send(req, nil)
	if err != nil {
		return RenewalInfo{}, &Problem{Op: op, URL: where, Err: err}
	}
	// The reply's nonce, if any, is left: renewal information may come from a cache.
	if r.status != http.StatusOK {
		p := parseProblem(r)
		p.Op = op
		return RenewalInfo{}, p
	}
	return parseRenewalInfo(op, r)
}

// isCertID reports whether s can be the name of a certificate (RFC 9773 §4.1): it becomes a part of a URL.
func isCertID(s string) bool {
	keyID, serial, _ := strings.Cut(s, ".")
	return len(s) <= maxCertID && keyID != "" && serial != "" && isBase64URL(keyID) && isBase64URL(serial)
}

// parseRenewalInfo reads a reply of the CA.
func parseRenewalInfo(op string, r *reply) (RenewalInfo, *Problem) {
	var v struct {
		SuggestedWindow struct{ Start, End string }
		ExplanationURL  string
	}
	if err := r.decode(op, &v); err != nil {
		return RenewalInfo{}, newProblem(op, &call{url: r.url}, err)
	}
	w := v.SuggestedWindow
	info := RenewalInfo{
		Start:          parseTime(w.Start),
		End:            parseTime(w.End),
		ExplanationURL: explanationURL(v.ExplanationURL),
		RetryAfter:     renewalInfoPause,
	}
	if w.Start == "" && w.End == "" {
		return RenewalInfo{}, r.garbled(op, "has no window")
	}
	if info.Start.IsZero() || info.End.IsZero() {
		return RenewalInfo{}, r.invalidReply(op, fmt.Sprintf("has no window: it says from %q to %q", clean(w.Start, 64), clean(w.End, 64)))
	}
	if !info.End.After(info.Start) {
		// RFC 9773 §4.2: clients MUST treat this as if there was no answer.
		return RenewalInfo{}, r.invalidReply(op, fmt.Sprintf("has a window that does not end after its start: from %q to %q", clean(w.Start, 64), clean(w.End, 64)))
	}
	if d := r.retryAfter(); d > 0 {
		info.RetryAfter = min(max(d, minRenewalInfoPause), maxRenewalInfoPause)
	}
	return info, nil
}

// explanationURL returns s if it can be shown to an operator and opened, else "". It is not cleaned: a URL that had to be changed leads nowhere.
func explanationURL(s string) string {
	if len(s) > maxURL || clean(s, maxURL) != s {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return s
}

// renewalInfoPauseAfter returns how long to wait after an error. RFC 9773 §4.3.3 tells temporary errors from long-term ones:
// time-outs and 5xx are the former; refused connections, names that do not resolve, other statuses and replies without a meaning the latter.
func renewalInfoPauseAfter(p *Problem, now time.Time) time.Duration {
	pause := renewalInfoPause
	if isTemporary(p) {
		pause = minRenewalInfoPause
	}
	if !p.RetryAt.IsZero() {
		pause = min(max(p.RetryAt.Sub(now), minRenewalInfoPause), maxRenewalInfoPause)
	}
	return pause
}

func isTemporary(p *Problem) bool {
	var timeout interface{ Timeout() bool }
	return p.Status >= 500 || p.Status == 0 && (errors.Is(p.Err, context.Canceled) || errors.As(p.Err, &timeout) && timeout.Timeout())
}
