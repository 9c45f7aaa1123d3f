package status

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean makes s safe to print. What a CA writes ends up on terminals and in
// log viewers, where control characters and marks that turn the direction of
// writing could make it look like something else.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r):
			return utf8.RuneError // Cf: bidi marks, joiners, tags
		}
		return r // what is not UTF-8 comes as RuneError
	}, s)
}

// cleanDomain returns a copy of d that is safe to print, with its log or
// without.
func cleanDomain(d Domain, withLog bool) Domain {
	d.Name = clean(d.Name)
	d.Names = cleanAll(d.Names)
	d.State = State(clean(string(d.State)))
	d.Reason = clean(d.Reason)
	d.CA = clean(d.CA)
	d.Certificates = cleanCertificates(d.Certificates)
	d.Staged = cleanCertificates(d.Staged)
	d.ExplanationURL = clean(d.ExplanationURL)
	d.RenewAt = utc(d.RenewAt)
	if d.Renewal != nil {
		r := cleanRenewal(*d.Renewal, withLog)
		d.Renewal = &r
	}
	return d
}

func cleanCertificates(certs []Certificate) []Certificate {
	certs = slices.Clone(certs)
	for i := range certs {
		certs[i] = cleanCertificate(certs[i])
	}
	return certs
}

func cleanCertificate(c Certificate) Certificate {
	c.KeyType = clean(c.KeyType)
	c.Names = cleanAll(c.Names)
	c.NotBefore, c.NotAfter = utc(c.NotBefore), utc(c.NotAfter)
	c.Serial = clean(c.Serial)
	c.Issuer = clean(c.Issuer)
	c.SHA256Fingerprint = clean(c.SHA256Fingerprint)
	c.CA = clean(c.CA)
	c.URL = clean(c.URL)
	return c
}

func cleanRenewal(r Renewal, withLog bool) Renewal {
	r.Activity = clean(r.Activity)
	r.LastError = clean(r.LastError)
	r.LastProblem = clean(r.LastProblem)
	r.LastAttempt, r.NextAttempt = utc(r.LastAttempt), utc(r.NextAttempt)
	if !withLog {
		r.Log = nil
		return r
	}
	r.Log = slices.Clone(r.Log)
	for i, e := range r.Log {
		r.Log[i].Time = utc(e.Time)
		r.Log[i].What = clean(e.What)
		r.Log[i].Detail = clean(e.Detail)
	}
	return r
}

// utc returns t as everybody reads it, or no time for one that RFC 3339, and
// so JSON, cannot write.
func utc(t time.Time) time.Time {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// cleanAll never returns nil, so that JSON has a list in any case.
func cleanAll(list []string) []string {
	cleaned := make([]string, len(list))
	for i, s := range list {
		cleaned[i] = clean(s)
	}
	return cleaned
}
