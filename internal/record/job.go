package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/manageddomains/md/store"
)

// Job is what is remembered of the work on a Domain. The zero Job is that of
// a Domain on which no work has been done.
type Job struct {
	// For tells with which configuration the last attempt was made.
	For string `json:"for,omitempty"`
	// Errors counts the failures in a row.
	Errors int `json:"errors,omitempty"`
	// StoreErrors counts those of them in a row that were the Store's.
	StoreErrors int `json:"store-errors,omitempty"`
	// Waits counts how often in a row the CA has asked for more time, and
	// Blocks how often its limits, as far as they are known, forbade to ask.
	Waits  int `json:"waits,omitempty"`
	Blocks int `json:"blocks,omitempty"`
	// LastRun is when the last attempt ended; NextRun when the next one may
	// be made, zero for at any time.
	LastRun time.Time `json:"last-run,omitzero"`
	NextRun time.Time `json:"next-run,omitzero"`
	// LastError is what the last attempt failed with, LastProblem the CA's
	// problem type if it gave one; Permanent that trying again soon is no use.
	LastError   string `json:"last-error,omitempty"`
	LastProblem string `json:"last-problem,omitempty"`
	Permanent   bool   `json:"permanent,omitempty"`
	// Rehearsed tells with which configuration a rehearsal has gone well.
	Rehearsed string `json:"rehearsed,omitempty"`
	// Failed are the URLs of the last authorizations whose failure has been
	// counted.
	Failed []string `json:"failed,omitempty"`
	// FailedChallenge is the challenge type that the CA refused last.
	FailedChallenge string `json:"failed-challenge,omitempty"`
	// SetUps are the challenges that were, or were about to be, presented
	// and are not known to have been cleaned up. Cleaning up has failed
	// CleanUpErrors times in a row, and is tried again at CleanUpAt.
	SetUps        []SetUp   `json:"set-ups,omitempty"`
	CleanUpErrors int       `json:"clean-up-errors,omitempty"`
	CleanUpAt     time.Time `json:"clean-up-at,omitzero"`
	// Announced is the Hash of the Set that the Renewed event told of last.
	// While the one obtained last, active or waiting, is another, the event is still to be
	// accepted: it was refused AnnounceErrors times in a row, and is repeated
	// at AnnounceAt.
	Announced      string    `json:"announced,omitempty"`
	AnnounceErrors int       `json:"announce-errors,omitempty"`
	AnnounceAt     time.Time `json:"announce-at,omitzero"`
	// Part is the Hash of an active Set that is only a part of what is being
	// obtained. No Renewed event tells of it.
	Part string `json:"part,omitempty"`
	// CA is the directory URL of the CA in use since this renewal began,
	// Trials how it went at each, and Left what was left of the life of the
	// certificates then.
	CA     string           `json:"ca,omitempty"`
	Trials map[string]Trial `json:"trials,omitempty"`
	Left   time.Duration    `json:"left,omitempty"` // in nanoseconds
	// Issued holds a bucket of certificates for each CA and set of names:
	// when it will be full again.
	Issued map[string]time.Time `json:"issued,omitempty"`
	// Counted is the URL of the order that was last counted there: before it
	// was finalized, so that a crash does not lose the count.
	Counted string `json:"counted,omitempty"`
	// Revocations are certificates that are to be revoked once they are not
	// active any more. That has failed RevokeErrors times in a row, and is
	// tried again at RevokeAt.
	Revocations  []Revocation `json:"revocations,omitempty"`
	RevokeErrors int          `json:"revoke-errors,omitempty"`
	RevokeAt     time.Time    `json:"revoke-at,omitzero"`
	// ARI is what CAs say about the certificates in use, by certificate ID
	// (RFC 9773 §4.1).
	ARI map[string]RenewalInfo `json:"ari,omitempty"`
	// Told is when events were last raised that are not to come too often.
	Told map[string]time.Time `json:"told,omitempty"`
	// Panics counts the panics of attempts.
	Panics int `json:"panics,omitempty"`
	// Log tells the last events, oldest first.
	Log []LogEntry `json:"log,omitempty"`

	unknown map[string]json.RawMessage
}

// Trial is how it went at one CA since the renewal began.
type Trial struct {
	Failures int       `json:"failures,omitempty"` // in a row, and about more than a name
	Since    time.Time `json:"since,omitzero"`
	// Failing is since when it has failed in such ways, and in no other.
	Failing time.Time `json:"failing,omitzero"`
	// Turns counts how often it was turned to. Blocked is when it wants to be
	// asked again, and Slow that it needs more time for an order. Next is when
	// it would be asked again if it were the only one.
	Turns   int       `json:"turns,omitempty"`
	Blocked time.Time `json:"blocked,omitzero"`
	Slow    bool      `json:"slow,omitempty"`
	Next    time.Time `json:"next,omitzero"`
}

// RenewalInfo is what a CA says about when to renew a certificate, and the
// moment drawn from it.
type RenewalInfo struct {
	Start       time.Time `json:"start,omitzero"`
	End         time.Time `json:"end,omitzero"`
	At          time.Time `json:"at,omitzero"`
	Explanation string    `json:"explanation,omitempty"`
	// Ask is when to ask again. Errors counts the temporary failures.
	Ask    time.Time `json:"ask,omitzero"`
	Errors int       `json:"errors,omitempty"`
	// Refused: the CA does not let an order replace the certificate.
	Refused bool `json:"refused,omitempty"`
}

// Revocation is a certificate that is to be revoked.
type Revocation struct {
	CA          string `json:"ca"`                    // directory URL
	Account     string `json:"account,omitempty"`     // account URL
	Certificate string `json:"certificate,omitempty"` // certificate URL
	Reason      int    `json:"reason"`                // RFC 5280 §5.3.1
	Leaf        []byte `json:"leaf"`                  // DER
	KeyType     string `json:"key-type"`
	// Archived is the ID in the archive of the Set with its private key.
	Archived string `json:"archived"`
}

// SetUp is a challenge whose answer may be visible somewhere.
type SetUp struct {
	Type             string `json:"type"`
	Name             string `json:"name"`
	Token            string `json:"token,omitempty"`
	KeyAuthorization string `json:"key-authorization,omitempty"`
}

// LogEntry is one line of the event log.
type LogEntry struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"`
	Detail string    `json:"detail,omitempty"`
}

// maxLog bounds the event log of a Domain, maxDetail each line of it.
const (
	maxLog    = 64
	maxDetail = 1024
)

// maxCount bounds what a Job that is read has counted.
const maxCount = 1 << 30

// Tell appends a line to the event log, and drops the oldest ones over the
// bound. What of detail is not UTF-8 is replaced.
func (j *Job) Tell(now time.Time, what, detail string) {
	detail = strings.ToValidUTF8(detail, "\ufffd")
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") // the cut may go through a character
	}
	j.Log = append(j.Log, LogEntry{Time: now.UTC().Truncate(time.Second), What: what, Detail: detail})
	j.trimLog()
}

// trimLog drops the oldest lines over the bound, and lets go of their memory.
func (j *Job) trimLog() {
	if len(j.Log) > maxLog {
		j.Log = append([]LogEntry(nil), j.Log[len(j.Log)-maxLog:]...)
	}
}

// Clone returns a copy that shares nothing with j.
func (j *Job) Clone() *Job {
	c := *j
	c.SetUps = append([]SetUp(nil), j.SetUps...)
	c.Log = append([]LogEntry(nil), j.Log...)
	c.Revocations = append([]Revocation(nil), j.Revocations...)
	c.Trials, c.Issued, c.ARI, c.Told = maps.Clone(j.Trials), maps.Clone(j.Issued), maps.Clone(j.ARI), maps.Clone(j.Told)
	return &c
}

// encode returns the Job as JSON. Fields that this version does not know are
// kept, so that versions can share a Store. What is encoded can be decoded:
// moments that JSON has no form for are refused by encoding/json.
func (j *Job) encode() ([]byte, error) {
	if err := j.check(); err != nil {
		return nil, err
	}
	if len(j.unknown) == 0 {
		return json.MarshalIndent(j, "", "  ")
	}
	fields, err := objectFields(j)
	if err != nil {
		return nil, err
	}
	maps.Copy(fields, j.unknown)
	return json.MarshalIndent(fields, "", "  ")
}

func (j *Job) check() error {
	if min(j.Errors, j.StoreErrors, j.Waits, j.Blocks, j.AnnounceErrors, j.CleanUpErrors, j.RevokeErrors) < 0 {
		return errors.New("it counts less than no errors")
	}
	return nil
}

func decodeJob(data []byte) (*Job, error) {
	j, err := decodeFields(data)
	if err != nil {
		return nil, err
	}
	if err := j.check(); err != nil {
		return nil, err
	}
	// A count that cannot be counted on would keep the Job from being written.
	for _, count := range []*int{&j.Errors, &j.StoreErrors, &j.Waits, &j.Blocks, &j.AnnounceErrors, &j.CleanUpErrors, &j.RevokeErrors, &j.Panics} {
		*count = min(*count, maxCount)
	}
	j.trimLog()
	// JSON can be written shorter than encode does, by a factor: a Job that
	// could never be written again would be stuck as it is.
	if len(data) > store.MaxValue/16 {
		again, err := j.encode()
		if err != nil {
			return nil, err
		}
		if len(again) > store.MaxValue {
			return nil, store.ErrTooLarge
		}
	}
	return j, nil
}

// decodeFields decodes a Job, and keeps the fields that it has no place for.
// There are rarely any, and to find that out is cheaper.
func decodeFields(data []byte) (*Job, error) {
	j := new(Job)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(j) == nil && len(bytes.TrimSpace(data[d.InputOffset():])) == 0 {
		return j, nil
	}
	j = new(Job)
	if err := json.Unmarshal(data, j); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &j.unknown); err != nil {
		return nil, err
	}
	maps.DeleteFunc(j.unknown, func(name string, _ json.RawMessage) bool { return isJobField(name) })
	if len(j.unknown) == 0 {
		j.unknown = nil
	}
	return j, nil
}

// jobFields are the fields that a Job has a place for, in lower case:
// encoding/json does not tell upper from lower case. It is not changed.
var jobFields = lowerFields(reflect.TypeFor[Job]())

func lowerFields(t reflect.Type) map[string]bool {
	fields := make(map[string]bool, t.NumField())
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" {
			fields[strings.ToLower(name)] = true
		}
	}
	return fields
}

// isJobField also knows the two letters outside ASCII that encoding/json
// takes for ones in it.
func isJobField(name string) bool {
	name = strings.NewReplacer("\u017f", "s", "\u212a", "k").Replace(name)
	return jobFields[strings.ToLower(name)]
}

// Job reads the Job of a Domain. The error is fs.ErrNotExist if there is
// none, or a *BrokenError.
func (r *Records) Job(ctx context.Context, name string) (*Job, store.Version, error) {
	return read(ctx, r, jobKey(name), decodeJob)
}

// PutJob writes the Job of a Domain at the Version read.
func (r *Records) PutJob(ctx context.Context, name string, j *Job, old store.Version) (store.Version, error) {
	data, err := j.encode()
	if err != nil {
		return store.None, fmt.Errorf("encoding %s: %w", jobKey(name), err)
	}
	return putValue(ctx, r, jobKey(name), data, old)
}
