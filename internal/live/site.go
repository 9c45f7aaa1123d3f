package live

import "crypto/tls"

// Site is what serves one Domain. Sites of a Domain follow one another in a
// Table as its certificates are renewed, and each is immutable once it is
// there: a handshake sees all of one or all of the next.
type Site struct {
	// Domain is the Domain's name.
	Domain string

	// Credentials are the certificates in use, one for each key type, the
	// preferred one first. None may be nil. Who builds the Site puts expired
	// ones last. Empty: there is none yet.
	Credentials []*Credential

	// Former are certificates that were in use before and are still valid.
	// They serve the clients that can use none of Credentials: those which
	// need a key type that is no longer, or not yet again, there.
	Former []*Credential
}

// choose returns the credential for hello, or nil if there is none at all.
func (s *Site) choose(hello *tls.ClientHelloInfo) *Credential {
	if len(s.Credentials) == 1 && len(s.Former) == 0 {
		return s.Credentials[0] // there is no choice
	}
	for _, c := range s.Credentials {
		if c.needs.metBy(hello) {
			return c
		}
	}
	for _, c := range s.Former {
		if c.needs.metBy(hello) {
			return c
		}
	}
	return s.chooseExactly(hello)
}

// chooseExactly asks crypto/tls, which knows the configuration that the hello
// arrived at, what metBy does not: a server may support more than it does by
// default. If nothing suits, it returns the first credential there is.
func (s *Site) chooseExactly(hello *tls.ClientHelloInfo) *Credential {
	// Without a name, crypto/tls does not parse the leaf. Which Site serves
	// a name is settled, even if its certificate does not cover it yet.
	nameless := *hello
	nameless.ServerName = ""
	var first *Credential
	for _, list := range [...][]*Credential{s.Credentials, s.Former} {
		for _, c := range list {
			if first == nil {
				first = c
			}
			if nameless.SupportsCertificate(c.TLS()) == nil {
				return c
			}
		}
	}
	return first
}
