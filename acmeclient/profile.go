package acmeclient

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// chooseProfile returns the profile to ask for, empty for none, and a warning if it is not r.Profile.
func (r OrderRequest) chooseProfile(op string, doc *directoryDoc) (profile, warning string, err error) {
	listed := slices.Sorted(maps.Keys(doc.Meta.Profiles))
	automatic := r.automaticProfile(listed)
	if r.Profile == "" {
		return automatic, "", nil
	}
	name, ok := findProfile(listed, r.Profile)
	if !ok {
		p := noProfile(op, r.Profile, doc.NewOrder, listed)
		if r.ProfileRequired {
			return "", "", p
		}
		return automatic, fmt.Sprintf("%s; ordering with %s", p.Detail, cmp.Or(automatic, "its default")), nil
	}
	if ip := r.Known.IPProfile; hasAddress(r.Names) && automatic == ip && ip != "" && name != ip && !r.ProfileRequired {
		return ip, fmt.Sprintf("the CA's profile %q does not take IP addresses; ordering with %q", name, ip), nil
	}
	return name, "", nil
}

// findProfile finds a name among those listed, in any case if it is not there as it is. What is listed is what must be sent.
func findProfile(listed []string, name string) (string, bool) {
	if slices.Contains(listed, name) {
		return name, true
	}
	i := slices.IndexFunc(listed, func(l string) bool { return strings.EqualFold(l, name) })
	if i < 0 {
		return "", false
	}
	return listed[i], true
}

// automaticProfile returns the profile that the names or the lifetime call for, or "" if nothing does or nothing is known.
func (r OrderRequest) automaticProfile(listed []string) (best string) {
	if hasAddress(r.Names) {
		if slices.Contains(listed, r.Known.IPProfile) {
			return r.Known.IPProfile
		}
		return ""
	}
	if r.Lifetime <= 0 {
		return ""
	}
	lifetimes := r.Known.Profiles
	for _, name := range listed {
		life, known := lifetimes[name]
		if known && (best == "" || closer(life, lifetimes[best], r.Lifetime)) {
			best = name
		}
	}
	return best
}

// closer reports whether a lifetime of a is more what is wanted than b: the longest that is not longer, else the shortest.
func closer(a, b, want time.Duration) bool {
	if a <= want && b <= want {
		return a > b
	}
	return a < b
}

// noProfile says which profiles there are. Profiles come and go, so it is for people to choose another.
func noProfile(op, profile, url string, listed []string) *Problem {
	offered := "it offers none"
	if len(listed) > 0 {
		offered = "it offers " + strings.Join(listed, ", ")
	}
	return &Problem{
		Op:     op,
		URL:    url,
		Type:   "urn:ietf:params:acme:error:invalidProfile",
		Detail: clean(fmt.Sprintf("the CA does not offer the profile %q; %s", clean(profile, maxShort), offered), maxDetail),
	}
}
