package challenge

import (
	"net/netip"
	"strings"
)

// maxToken bounds a token, which becomes part of a Store key.
const maxToken = 128

// validToken reports whether token is base64url without padding, as
// RFC 8555 §8.1 demands. Everything that comes from a request or from a CA
// is checked by it before it becomes part of a key.
func validToken(token string) bool {
	return len(token) <= maxToken && isBase64URL(token)
}

// validKeyAuthorization reports whether s is a token, a dot and the
// base64url of a SHA-256 thumbprint (RFC 8555 §8.1).
func validKeyAuthorization(s string) bool {
	token, thumbprint, ok := strings.Cut(s, ".")
	return ok && validToken(token) && len(thumbprint) == 43 && isBase64URL(thumbprint)
}

func isBase64URL(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetterOrDigit(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// canonicalName gives the one form in which a name is recorded and compared:
// a DNS name in lower case without a final dot, or an IP address as RFC 5952
// writes it. It reports false for all that is neither.
func canonicalName(name string) (string, bool) {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.String(), ip.Zone() == ""
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return "", false
		}
	}
	return name, true
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 {
		return false
	}
	for i := range len(label) {
		if c := label[i]; !isLetterOrDigit(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// hostName gives the canonical name in a Host header, whose port says nothing
// about what is to be proved. It reports false for hosts that cannot be asked
// for by a CA.
func hostName(host string) (string, bool) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		literal, port, ok := strings.Cut(inner, "]")
		if !ok || port != "" && port[0] != ':' || !strings.Contains(literal, ":") {
			return "", false
		}
		return canonicalName(literal)
	}
	name, port, _ := strings.Cut(host, ":")
	if strings.Contains(port, ":") {
		return "", false
	}
	return canonicalName(name)
}

// reverseIP gives the IP address whose reverse name is name. A validator that
// proves an address by tls-alpn-01 names it so, because server_name cannot
// carry addresses (RFC 8738 §6).
func reverseIP(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(labels, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		ip, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return ip, err == nil
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(labels) != 63 {
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := 31; i >= 0; i-- {
		if i < 31 && labels[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		text.WriteByte(labels[2*i])
		if i > 0 && i%4 == 0 {
			text.WriteByte(':')
		}
	}
	ip, err := netip.ParseAddr(text.String())
	return ip, err == nil && ip.Is6() && ip.Zone() == ""
}
