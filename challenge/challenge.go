// Package challenge proves control of names to a CA.
//
// A [Challenger] makes the answer to a challenge visible where the CA will
// look for it, and takes it away again. [HTTP01] and [TLSALPN01] are built
// in; both keep their answers in a store.Store, so that any process that
// shares the Store can answer, whichever of them the CA happens to reach.
// Both work without a Manager.
//
// Write a Challenger of your own for DNS; challengetest.Run holds its
// promises as tests.
package challenge

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
)

// The challenge types that this package knows by name.
const (
	TypeHTTP01    = "http-01"     // RFC 8555 §8.3
	TypeTLSALPN01 = "tls-alpn-01" // RFC 8737
	TypeDNS01     = "dns-01"      // RFC 8555 §8.4
)

// Challenge is one proof that a CA asks for.
type Challenge struct {
	// Type is the ACME challenge type, such as "dns-01".
	Type string

	// Name is the DNS name to be proved, in ASCII, without "*.", or the IP
	// address.
	Name string

	// Token is the CA's token. It has been checked to be base64url
	// (RFC 8555 §8.1), 1 to 128 characters; it is empty for challenge types
	// that have none.
	Token string

	// KeyAuthorization is the token, a dot, and the account key's thumbprint
	// (RFC 8555 §8.1). After a crash, CleanUp is called with what was
	// recorded: Type, Name, Token and KeyAuthorization.
	KeyAuthorization string
}

// TXTName is the name of the dns-01 TXT record (RFC 8555 §8.4), without a
// trailing dot.
func (c Challenge) TXTName() string { return "_acme-challenge." + c.Name }

// TXTValue is the content of the dns-01 TXT record: base64url of the
// SHA-256 of the key authorization (RFC 8555 §8.4).
func (c Challenge) TXTValue() string {
	sum := sha256.Sum256([]byte(c.KeyAuthorization))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Challenger makes answers to challenges visible. Its methods are called
// concurrently for different names, and may be called for the same name
// with two values at once (a wildcard and its parent). It is best a pointer:
// Challengers are never compared with ==.
type Challenger interface {
	// Types lists the challenge types that Present knows, best first.
	Types() []string

	// Present makes the answer to c visible. When it returns nil, the CA is
	// told to look. It may be called again for the same challenge.
	Present(ctx context.Context, c Challenge) error

	// CleanUp takes the answer to c away, and nothing else: other values for
	// the same name stay. It is also called without Present, and from
	// another process than Present was; what is not there is no error.
	CleanUp(ctx context.Context, c Challenge) error
}

// Waiter is an optional interface of a Challenger whose answers take time to
// be visible everywhere, as DNS records do.
type Waiter interface {
	// Wait returns nil when the answer to c can be seen, or an error when
	// that is hopeless or ctx ends. It is called after Present and before
	// the CA is told to look.
	Wait(ctx context.Context, c Challenge) error
}
