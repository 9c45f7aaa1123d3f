package acmetest

import (
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// The types of identifiers that the CA knows (RFC 8555 §9.7.7, RFC 8738 §3).
const (
	typeDNS = "dns"
	typeIP  = "ip"
)

// identifier is an identifier as it is sent (RFC 8555 §7.1.4). Inside the CA a
// name alone says what it is: no DNS name that is taken reads as an address.
type identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// identify returns the identifier that stands for a name.
func identify(name string) identifier {
	if isAddress(name) {
		return identifier{typeIP, name}
	}
	return identifier{typeDNS, name}
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// wantedNames are the names of an order, ascending, each once, and what is
// refused of them because it is not of the type that it says.
func (ca *CA) wantedNames(ids []identifier) (names []string, refused []*problem, p *problem) {
	for _, id := range ids {
		name := strings.ToLower(id.Value)
		switch {
		case id.Type == typeDNS && isAddress(name):
			refused = append(refused, refuse(rejectedIdentifier, "this is an address, not a DNS name").about(name))
			continue
		case id.Type == typeDNS:
		case id.Type == typeIP && ca.IPAddresses:
			if p := checkAddress(id.Value); p != nil {
				return nil, nil, p
			}
		default:
			return nil, nil, refuse(unsupportedIdentifier, "identifiers of type %q are not taken here", id.Type)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), refused, nil
}

// checkAddress takes addresses in the one form that RFC 8738 §3 gives each:
// RFC 5952 for IPv6, and no IPv4 in the disguise of IPv6.
func checkAddress(value string) *problem {
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return refuse(malformed, "%q is not an IP address", value)
	}
	if addr.Zone() != "" || addr.Unmap().String() != value {
		return refuse(malformed, "the address %q is not in the form of RFC 5952, which is %q", value, addr.Unmap().WithZone("").String())
	}
	return nil
}

// reverseName is the name by which tls-alpn-01 asks for an address, because
// SNI cannot carry one (RFC 8738 §6).
func reverseName(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	bytes := addr.AsSlice()
	slices.Reverse(bytes)
	if addr.Is4() {
		return netip.AddrFrom4([4]byte(bytes)).String() + ".in-addr.arpa"
	}
	for _, v := range bytes {
		b.Write([]byte{hex[v&15], '.', hex[v>>4], '.'})
	}
	return b.String() + "ip6.arpa"
}

// nameTemplate puts names into a certificate.
func nameTemplate(t *x509.Certificate, names []string) {
	t.DNSNames, t.IPAddresses = nil, nil
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, name)
	}
}
