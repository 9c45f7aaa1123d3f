package acmeclient

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const maxLinks = 100 // that are looked at, in one reply

// links returns the targets of the Link headers with that relation (RFC 8288 §3), as they were sent. What cannot be read ends its header.
func links(h http.Header, rel string) (targets []string) {
	seen := 0
	for _, header := range h.Values("Link") {
		for rest := header; rest != "" && seen < maxLinks; seen++ {
			var target string
			var rels []string
			var ok bool
			if target, rels, rest, ok = nextLink(rest); !ok {
				break
			}
			if slices.ContainsFunc(rels, func(r string) bool { return strings.EqualFold(r, rel) }) {
				targets = append(targets, target)
			}
		}
	}
	return targets
}

// link returns the first target with that relation, or "".
func link(h http.Header, rel string) string {
	if targets := links(h, rel); len(targets) > 0 {
		return targets[0]
	}
	return ""
}

// nextLink reads one link from a header, which may have several, with commas between: the target and its relations, and what follows.
func nextLink(s string) (target string, rels []string, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t,")
	if s, ok = strings.CutPrefix(s, "<"); !ok {
		return "", nil, "", false
	}
	if target, s, ok = strings.Cut(s, ">"); !ok {
		return "", nil, "", false
	}
	for {
		s = strings.TrimLeft(s, " \t;")
		if s == "" || s[0] == ',' {
			return target, rels, s, true
		}
		var name, value string
		name, value, s = nextParameter(s)
		// RFC 8288 §3.3: a second rel is ignored, and one may have several relations.
		if strings.EqualFold(name, "rel") && rels == nil {
			rels = strings.Fields(value)
		}
	}
}

// nextParameter reads a parameter of a link, which is not empty: name=value, name="value" or name.
func nextParameter(s string) (name, value, rest string) {
	end := strings.IndexAny(s, "=;,")
	if end < 0 {
		return strings.TrimSpace(s), "", ""
	}
	name = strings.TrimSpace(s[:end])
	if s[end] != '=' {
		return name, "", s[end:]
	}
	s = strings.TrimLeft(s[end+1:], " \t")
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		value, rest, _ = strings.Cut(quoted, `"`) // no relation has a quote in it, escaped or not
		return name, value, rest
	}
	end = strings.IndexAny(s, ";,")
	if end < 0 {
		return name, strings.TrimSpace(s), ""
	}
	return name, strings.TrimSpace(s[:end]), s[end:]
}

// alternates returns the URLs of the alternate chains that a reply with a chain links to (RFC 8555 §7.4.2), without what is no URL.
func (r *reply) alternates() (urls []string) {
	base, err := url.Parse(r.url)
	if err != nil {
		return nil
	}
	for _, target := range links(r.header, "alternate") {
		u, err := url.Parse(target)
		if err != nil || len(target) > maxURL {
			continue
		}
		if !u.IsAbs() {
			target = base.ResolveReference(u).String()
		}
		if !slices.Contains(urls, target) && target != r.url {
			urls = append(urls, target)
		}
	}
	return urls
}
