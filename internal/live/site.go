package live

import "sync/atomic"

// Site is what serves one Domain. Sites of a Domain follow one another in a
// Table as its certificates are renewed, and each is immutable once it is
// there: a handshake sees all of one or all of the next.
type Site struct {
	// Domain is the Domain's name.
	Domain string

	// Asked is set when a handshake finds the Site. Nil: nobody wants to know.
	Asked *atomic.Bool

	// Credentials are the certificates in use, one for each key type, the
	// preferred one first. None may be nil. Who builds the Site puts expired
	// ones last. Empty: there is none yet.
	Credentials []*Credential

	// Former are certificates that were in use before and are still valid.
	// They serve the clients that can use none of Credentials: those which
	// need a key type that is no longer, or not yet again, there.
	Former []*Credential
}
