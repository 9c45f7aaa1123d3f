package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// askRenewalInfo asks the CAs when the certificates in use should be renewed,
// where it is time to ask. What they say is drawn from once for each window,
// and kept with the certificate's ID; it dies with the certificate. Nothing
// that goes wrong here keeps a certificate from being renewed.
func (a *attempt) askRenewalInfo(ctx context.Context) {
	now := a.e.now()
	infos := make(map[string]record.RenewalInfo)
	if a.def.ARI {
		for _, c := range a.askedAbout() {
			if c.id == "" {
				continue
			}
			info := a.job.ARI[c.id]
			// RFC 9773 §4.3: not after the certificate has expired.
			// A moment further away than any answer's was written by a wrong clock.
			due := !now.Before(info.Ask) || info.Ask.After(now.Add(policy.MaxRetryDelay))
			if due && now.Before(c.NotAfter) {
				info = a.renewalInfo(ctx, c, info, now)
			}
			infos[c.id] = info
		}
	}
	if len(infos) == 0 {
		infos = nil
	}
	a.job.ARI = infos
}

// askedAbout are the certificates in use, and those that are served in their
// place: where the active ones are worse, or wait for a key. By these it is said
// when to ask again.
func (a *attempt) askedAbout() []certificate {
	certs := slices.Clone(a.served())
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	for _, s := range a.d.certs {
		if !slices.ContainsFunc(certs, func(c certificate) bool { return c.id == s.id }) {
			certs = append(certs, s)
		}
	}
	return certs
}

func (a *attempt) renewalInfo(ctx context.Context, c certificate, old record.RenewalInfo, now time.Time) record.RenewalInfo {
	info := old
	client, err := a.e.clientAt(a.def, c.CA)
	if err != nil {
		info.Ask = now.Add(policy.MaxRetryDelay).UTC()
		return info
	}
	said, err := client.RenewalInfo(ctx, c.id)
	if err != nil {
		return a.noRenewalInfo(info, said, err, now)
	}
	info.Errors, info.Explanation = 0, said.ExplanationURL
	info.Ask = now.Add(said.RetryAfter).UTC()
	if said.Start.Equal(old.Start) && said.End.Equal(old.End) {
		return info
	}
	drawn := policy.Draw(said.Start, said.End, a.e.jitter())
	info.Start, info.End, info.At = said.Start.UTC(), said.End.UTC(), drawn.At.UTC()
	a.log.Info("the CA suggests when to renew", "from", info.Start, "until", info.End, "drawn", info.At, "explanation", info.Explanation)
	return info
}

// noRenewalInfo says when to ask again after an error: what was said before
// stands.
func (a *attempt) noRenewalInfo(info record.RenewalInfo, said acmeclient.RenewalInfo, err error, now time.Time) record.RenewalInfo {
	pause := said.RetryAfter
	switch {
	case errors.Is(err, acmeclient.ErrNoRenewalInfo):
		pause = policy.MaxRetryDelay
	default:
		const longest = 6 * time.Hour
		for range min(info.Errors, 10) {
			pause = max(pause, min(2*pause, longest)) // the CA may have asked for more
		}
		info.Errors++
		a.log.Debug("asking when to renew failed", "error", err)
	}
	info.Ask = now.Add(pause).UTC()
	return info
}

// suggestion is what a CA has said of the certificate with that ID, nil if
// nothing.
func suggestion(job *record.Job, id string) *policy.ARI {
	info, ok := job.ARI[id]
	if !ok || info.At.IsZero() {
		return nil
	}
	return &policy.ARI{Start: info.Start, End: info.End, At: info.At}
}

// explanation is the page that a CA has named for its renewal information, if
// any.
func explanation(job *record.Job) string {
	for _, info := range job.ARI {
		if info.Explanation != "" {
			return info.Explanation
		}
	}
	return ""
}

// nextAsk is when to ask for renewal information about what is in use, zero
// for never. e.mu is held.
func (d *domain) nextAsk(now time.Time) time.Time {
	var at time.Time
	if !d.def.ARI || d.version == unstored {
		return at
	}
	for _, c := range d.certs {
		if c.id == "" || !now.Before(c.NotAfter) {
			continue
		}
		info, asked := d.job.ARI[c.id]
		switch {
		case !asked: // RFC 9773 §4.3: right after it was issued
			return now
		case at.IsZero() || info.Ask.Before(at):
			at = info.Ask
		}
	}
	return at
}

// replaces returns the ID of the certificate that an order for a key type
// renews (RFC 9773 §5), or "": it must come from the same CA and account, and
// the CA must not have refused that before.
func (is *acmeIssuer) replaces(keyType string) string {
	c := is.active.Credential(keyType)
	if !is.def.ARI || c == nil || c.CA != is.ca.URL || c.Account != is.account.url {
		return ""
	}
	leaf, err := c.Leaf()
	if err != nil {
		return ""
	}
	id, err := acmeclient.CertID(leaf)
	if err != nil || is.job.ARI[id].Refused {
		return ""
	}
	return id
}
