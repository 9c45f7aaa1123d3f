package status

import (
	"iter"
	"time"
)

// Source has a report to give: a Manager is one.
type Source interface {
	// Status yields a report of each Domain, in the order of their Names.
	// What is yielded is the caller's.
	Status() iter.Seq[Domain]
}

// State sums up how a Domain stands.
type State string

const (
	// Pending: there is no certificate yet; the fallback is served.
	Pending State = "pending"
	// Good: certificates for all names and key types are in use and in date.
	Good State = "good"
	// Incomplete: certificates are in use, but not all that is wanted: a
	// name is not covered, or a key type is missing.
	Incomplete State = "incomplete"
	// Expired: a certificate in use has expired.
	Expired State = "expired"
)

// Domain is the report of one Domain. Times that are not known are zero.
type Domain struct {
	Name  string   `json:"name"`
	Names []string `json:"names"` // as declared, Unicode shown
	State State    `json:"state"`
	// Reason says in words why the State is not Good, or why a renewal is due.
	Reason string `json:"reason,omitempty"`
	// CA is the directory URL of the CA that the next attempt uses.
	CA string `json:"ca,omitempty"`
	// Certificates are those in use, one for each key type.
	Certificates []Certificate `json:"certificates,omitempty"`
	// Staged are certificates that have been obtained, and wait until they
	// may be activated.
	Staged []Certificate `json:"staged,omitempty"`
	// ExplanationURL is a page on which the CA explains when it wants
	// certificates to be renewed (RFC 9773 §4.2).
	ExplanationURL string `json:"explanation-url,omitempty"`
	// RenewAt is when the next renewal is due.
	RenewAt time.Time `json:"renew-at,omitzero"`
	// Renewal tells of the attempt under way, or of attempts that failed.
	Renewal *Renewal `json:"renewal,omitempty"`
}

// Archived describes certificates that were in use before. ID names them for
// Manager.Restore.
type Archived struct {
	ID           string        `json:"id"`
	Certificates []Certificate `json:"certificates"`
}

// Certificate describes one certificate. It never holds a key.
type Certificate struct {
	KeyType           string    `json:"key-type"`
	Names             []string  `json:"names"`
	Serial            string    `json:"serial"` // upper-case hex, even number of digits
	Issuer            string    `json:"issuer"` // the issuer's common name, else its whole name
	NotBefore         time.Time `json:"not-before"`
	NotAfter          time.Time `json:"not-after"`
	SHA256Fingerprint string    `json:"sha256-fingerprint"` // lower-case hex, of the DER
	CA                string    `json:"ca,omitempty"`       // directory URL of the CA it came from
	URL               string    `json:"url,omitempty"`      // where the CA keeps it
}

// Renewal tells how the work on a Domain goes.
type Renewal struct {
	// Running: an attempt is under way in this process. Activity says what
	// it is doing.
	Running  bool   `json:"running"`
	Activity string `json:"activity,omitempty"`
	// Attempts counts the failures in a row, Panics the panics ever.
	Attempts int `json:"attempts"`
	Panics   int `json:"panics,omitempty"`
	// LastError is what the last attempt failed with; LastProblem the CA's
	// problem type (RFC 8555 §6.7), if that was the CA's answer.
	LastError   string `json:"last-error,omitempty"`
	LastProblem string `json:"last-problem,omitempty"`
	// LastAttempt is when the last attempt ended, NextAttempt when the next
	// one may be made.
	LastAttempt time.Time `json:"last-attempt,omitzero"`
	NextAttempt time.Time `json:"next-attempt,omitzero"`
	// Log tells the last events, oldest first.
	Log []LogEntry `json:"log,omitempty"`
}

// LogEntry is one line of a Domain's event log.
type LogEntry struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"`
	Detail string    `json:"detail,omitempty"`
}
