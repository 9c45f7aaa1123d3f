// Package status is what a Manager tells the world: events as they happen,
// and a report of all Domains at any time, as data, JSON and text.
package status

import (
	"context"
	"errors"
	"time"
)

// Kind says what happened.
type Kind string

const (
	// Renewing comes before each attempt to get certificates for a Domain, but
	// not within an hour after it was accepted. A Notifier may veto it.
	Renewing Kind = "renewing"

	// ChallengeSetup comes when the answer to a challenge is in place and
	// before the CA is told to look. A Notifier may veto it: the challenge
	// is then not used.
	ChallengeSetup Kind = "challenge-setup"

	// Renewed comes when all certificates of a Domain have been obtained and
	// stored. It is repeated, with growing delay, until the Notifier
	// returns nil.
	Renewed Kind = "renewed"

	// Installed comes when a process begins to serve certificates that were
	// obtained, or changed, while it runs: once in each process, all other
	// events once in a cluster.
	Installed Kind = "installed"

	// Expiring comes, at most once a day, while a certificate in use is within
	// its Domain's WarnWindow and has not been renewed; and when a veto has
	// lasted for more than a third of the time in which it should have been.
	Expiring Kind = "expiring"

	// Errored comes after an attempt that failed, at most once an hour.
	Errored Kind = "errored"
)

// Event is something that happened to a Domain. Fields that say nothing
// about a Kind are zero.
type Event struct {
	Kind   Kind
	Domain string    // the Domain's Name
	Names  []string  // the DNS names of the Domain, in ASCII
	Time   time.Time // when it happened

	// CA is the directory URL of the CA in use; of Renewed and Installed, of
	// that which the certificates come from.
	CA string

	// ChallengeType and ChallengeName are those of a ChallengeSetup.
	ChallengeType string
	ChallengeName string

	// Certificates are those obtained (Renewed), now served (Installed), or
	// in use (Expiring).
	Certificates []Certificate

	// ExplanationURL is the page, if any, on which the CA explains when it
	// wants certificates to be renewed (RFC 9773 §4.2).
	ExplanationURL string

	// Err is what went wrong (Errored; Expiring: last), with the CA's own words where it
	// has said any: errors.As finds an *acmeclient.Problem.
	Err error

	// Attempts counts the failures in a row. NextAttempt is when the next
	// attempt is due (Errored, Expiring).
	Attempts    int
	NextAttempt time.Time
}

// Notifier is told of events. It is called from the Manager's own goroutines,
// for several Domains at once, with a context that ends after a minute or
// when the Manager stops. An event of one Domain waits for the one before,
// never for another Domain's.
//
// Only an error that wraps ErrVeto vetoes, and only Renewing and
// ChallengeSetup. Any other error is logged and shown, and never blocks.
type Notifier interface {
	Notify(ctx context.Context, e Event) error
}

// NotifierFunc makes a Notifier of a function.
type NotifierFunc func(ctx context.Context, e Event) error

// Notify calls f.
func (f NotifierFunc) Notify(ctx context.Context, e Event) error { return f(ctx, e) }

// ErrVeto is returned (wrapped, with a reason) by a Notifier that does not
// want to happen what is announced. The attempt is made again at the next
// regular look, and is not counted as a failure.
var ErrVeto = errors.New("vetoed")
