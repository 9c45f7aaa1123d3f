package acmetest

import (
	"slices"
	"strings"
	"time"
)

// Profile is one of the profiles of certificates that a CA offers
// (draft-ietf-acme-profiles).
type Profile struct {
	// Name is what orders ask for, and Description what the directory says
	// of it.
	Name, Description string

	// Lifetime is how long certificates last. Zero is CA.Lifetime. It yields
	// to the notAfter of an order.
	Lifetime time.Duration

	// MaxNames bounds the identifiers of an order. Zero is 100.
	MaxNames int

	// DNSOnly refuses IP addresses, also where CA.IPAddresses takes them.
	DNSOnly bool
}

// RetireProfile takes a profile out of the directory, as CAs do. Orders that
// ask for it, and those that asked for it and are to be finalized, get
// invalidProfile.
func (ca *CA) RetireProfile(name string) {
	s := ca.lock()
	defer ca.mu.Unlock()
	s.retired[name] = true
}

// offered are the profiles that are not retired. The state is locked.
func (ca *CA) offered(s *state) []Profile {
	return slices.DeleteFunc(slices.Clone(ca.Profiles), func(p Profile) bool { return s.retired[p.Name] })
}

// profile finds the profile of an order; without a name, the first. A CA
// without profiles does not know the field, and does as it always does.
func (ca *CA) profile(name string) (Profile, *problem) {
	if len(ca.Profiles) == 0 {
		return Profile{}, nil
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	offered := ca.offered(s)
	if len(offered) == 0 && name == "" {
		return Profile{}, nil
	}
	var names []string
	for _, p := range offered {
		if p.Name == name || name == "" {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, refuse(invalidProfile, "the profile %q is not offered here, only %q", name, strings.Join(names, ", "))
}

// check refuses names that have no place in certificates of the profile.
func (p Profile) check(names []string) *problem {
	if most := p.MaxNames; most > 0 && len(names) > most {
		return refuse(rejectedIdentifier, "the profile %q takes %d names, not %d", p.Name, most, len(names))
	}
	if i := slices.IndexFunc(names, isAddress); i >= 0 && p.DNSOnly {
		return refuse(rejectedIdentifier, "the profile %q does not take IP addresses", p.Name).about(names[i])
	}
	return nil
}
