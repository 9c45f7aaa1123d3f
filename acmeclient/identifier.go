package acmeclient

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"
)

// Identifiers returns what to order a certificate for, so that it covers names: DNS names in lower case and IP addresses in the form
// of RFC 5952, in the order given, each once, without the DNS names that a wildcard among them covers.
// What is neither a DNS name nor an IP address is left as it is, for NewOrder or the CA to refuse.
//
// An order and its CSR are for Identifiers(names); CheckChain may then be asked for names.
func Identifiers(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = canonicalIdentifier(name)
	}
	var ids []string
	for _, name := range all {
		wildcard := wildcardFor(name)
		covered := wildcard != "" && slices.Contains(all, wildcard)
		if !covered && !slices.Contains(ids, name) {
			ids = append(ids, name)
		}
	}
	return ids
}

// canonicalIdentifier returns a name as identifiers have it: RFC 8738 §3 wants the form of RFC 5952, and CAs send DNS names in any case.
func canonicalIdentifier(name string) string {
	if addr, err := netip.ParseAddr(name); err == nil && addr.Zone() == "" {
		return addr.Unmap().String()
	}
	return strings.ToLower(name)
}

// wildcardFor returns the wildcard that stands for name's first label (RFC 9525 §6.3), or "" if there is none.
// A wildcard is covered only by itself.
func wildcardFor(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	label, parent, ok := strings.Cut(name, ".")
	if !ok || label == "" || label == "*" {
		return ""
	}
	return "*." + parent
}

// identifiers returns names as RFC 8555 §7.1.4 and RFC 8738 §3 want them.
func identifiers(names []string) ([]acme.AuthzID, error) {
	if len(names) == 0 {
		return nil, errors.New("there are no names to order a certificate for")
	}
	ids := make([]acme.AuthzID, len(names))
	for i, name := range names {
		addr, isIP, err := parseAddress(name)
		if err != nil {
			return nil, err
		}
		ids[i] = acme.AuthzID{Type: "dns", Value: name}
		if isIP {
			ids[i] = acme.AuthzID{Type: "ip", Value: addr.String()}
		}
	}
	return ids, nil
}

// parseAddress returns the IP address that name is. IPv4 in the shape of IPv6 is IPv4.
func parseAddress(name string) (addr netip.Addr, isIP bool, err error) {
	addr, err = netip.ParseAddr(name)
	if err != nil {
		return netip.Addr{}, false, nil
	}
	if addr.Zone() != "" {
		return netip.Addr{}, true, fmt.Errorf("the address %q has a zone, which means something on one machine only: no certificate can be for it", clean(name, maxShort))
	}
	return addr.Unmap(), true, nil
}

func hasAddress(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, isIP, _ := parseAddress(name)
		return isIP
	})
}
