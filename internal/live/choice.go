package live

import (
	"crypto/tls"
	"slices"
)

// choice is one credential of a Site, with what tells whether it is the one
// for a hello, and the next best. It is immutable. The zero choice has no
// credential, which is so only where a Site has none at all.
type choice struct {
	needs      *needs
	credential *Credential
	next       *choice
}

// choicesOf returns the first choice that s has, followed by the others.
func choicesOf(s *Site) (first choice) {
	for _, list := range [...][]*Credential{s.Former, s.Credentials} {
		for _, c := range slices.Backward(list) {
			var next *choice
			if first.credential != nil {
				worse := first
				next = &worse
			}
			first = choice{needs: c.needs, credential: c, next: next}
		}
	}
	return first
}

// choose returns the credential for hello, or nil if there is none at all.
func (first *choice) choose(hello *tls.ClientHelloInfo) *Credential {
	if first.next == nil {
		return first.credential // there is no choice
	}
	client := versionsOf(hello.SupportedVersions)
	for c := first; c != nil; c = c.next {
		if c.needs.metBy(hello, client) {
			return c.credential
		}
	}
	return first.chooseExactly(hello)
}

// chooseExactly asks crypto/tls, which knows the configuration that the hello
// arrived at, what metBy does not: a server may support more than it does by
// default. If nothing suits, it returns the first credential there is.
func (first *choice) chooseExactly(hello *tls.ClientHelloInfo) *Credential {
	// Without a name, crypto/tls does not parse the leaf. Which Site serves
	// a name is settled, even if its certificate does not cover it yet.
	nameless := *hello
	nameless.ServerName = ""
	for c := first; c != nil; c = c.next {
		if nameless.SupportsCertificate(c.credential.TLS()) == nil {
			return c.credential
		}
	}
	return first.credential
}
