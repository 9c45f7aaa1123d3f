// Package record remembers: it is the typed view of a store.Store.
//
// It owns the names of keys and the formats of values, and the steps by which
// a Set of certificates goes from staging into use. It decides nothing and
// contacts nobody.
//
//	accounts/<ca>/<id>              account key, then URL and contacts
//	domains/<name>                  the active Set
//	staging/<name>                  a Set that is complete or being completed
//	archive/<name>/<when>-<hash>    former Sets; broken-<hash>: unreadable values
//	jobs/<name>                     errors, next attempt, set-ups to clean, event log
//	limits/<ca>/<account>/<name>    what the CA wants obeyed; "_": for all names
//	leases/<name>                   who works on the Domain (store.Leaser)
//	account-leases/<ca>/<id>        who changes the account
//
// where <ca> is the directory URL's host, a dash and 8 hex digits of the
// SHA-256 of the URL.
//
// What it reads is not trusted: it is bounded, and what is not in the form that
// it writes is a [BrokenError]. Nothing is written that could not be read again.
package record

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/manageddomains/md/store"
)

// Records is the typed view of a Store. It has no state of its own.
type Records struct {
	Store store.Store
}

func accountKey(ca, id string) string { return "accounts/" + caID(ca) + "/" + id }
func activeKey(name string) string    { return "domains/" + name }
func stagingKey(name string) string   { return "staging/" + name }
func archivePrefix(name string) string {
	return "archive/" + name + "/"
}
func jobKey(name string) string { return "jobs/" + name }

// AccountLeaseKey is the key of the lease under which one process changes an
// account.
func AccountLeaseKey(ca, id string) string { return "account-leases/" + caID(ca) + "/" + id }

// LeaseKey is the key of the lease under which one process works on a Domain.
func LeaseKey(name string) string { return "leases/" + name }

// ActivePrefix is the prefix below which active Sets stand, and ActiveName
// the Domain whose Set stands at a key below it.
const ActivePrefix = "domains/"

// ActiveName returns the name of the Domain whose active Set is at key.
func ActiveName(key string) string { return strings.TrimPrefix(key, ActivePrefix) }

// caID is the name of a CA in keys: readable, and different for directory
// URLs that share a host. A host that cannot stand in a key is left out.
func caID(directory string) string {
	sum := sha256.Sum256([]byte(directory))
	suffix := "-" + hex.EncodeToString(sum[:4])
	if u, err := url.Parse(directory); err == nil && u.Hostname() != "" && store.CheckKey(u.Hostname()+suffix) == nil {
		return u.Hostname() + suffix
	}
	return "ca" + suffix
}

// BrokenError reports a value that cannot be read for what it should be.
// Version is the one that was read: a Put at that Version replaces it.
type BrokenError struct {
	Key     string
	Place   string // where the Store keeps it, for people
	Version store.Version
	Err     error

	value []byte
}

// Error implements error.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s is broken (%v)", e.Place, e.Err)
}

// Format keeps the value, which may hold private keys, out of whatever is
// printed.
func (e *BrokenError) Format(f fmt.State, _ rune) { fmt.Fprint(f, e.Error()) }

// Unwrap returns what is wrong with the value.
func (e *BrokenError) Unwrap() error { return e.Err }

// SetAside copies a broken value into the archive of the Domain name, so that
// it can be replaced without losing what could be learnt, or rescued, from
// it. It may be repeated. Of the broken values there, only some are kept, the
// last one among them.
func (r *Records) SetAside(ctx context.Context, name string, b *BrokenError) error {
	sum := sha256.Sum256(b.value)
	id := brokenPrefix + hex.EncodeToString(sum[:8])
	_, err := r.Store.Put(ctx, archivePrefix(name)+id, b.value, store.None)
	if errors.Is(err, store.ErrConflict) {
		return nil // a former run got this far
	}
	if err != nil {
		return fmt.Errorf("keeping a copy of the broken %s: %w", b.Place, err)
	}
	return r.pruneBroken(ctx, name, id)
}

// read gets a value and decodes it. A value that does not decode is a
// *BrokenError. Of one that is longer than a Store should have, the beginning
// is kept: no Store would take a copy of all of it.
func read[T any](ctx context.Context, r *Records, key string, decode func([]byte) (T, error)) (T, store.Version, error) {
	return readAt(ctx, r, key, store.None, decode, decode)
}

// readAt is read with another way to decode a value of the Version known.
func readAt[T any](ctx context.Context, r *Records, key string, known store.Version, decode, decodeKnown func([]byte) (T, error)) (T, store.Version, error) {
	var zero T
	data, v, err := r.Store.Get(ctx, key)
	if err != nil {
		return zero, store.None, fmt.Errorf("reading %s: %w", store.Locate(r.Store, key), err)
	}
	if v == known {
		decode = decodeKnown
	}
	var got T
	if len(data) > store.MaxValue {
		data, err = data[:store.MaxValue], store.ErrTooLarge
	} else {
		got, err = decode(data)
	}
	if err != nil {
		return zero, v, &BrokenError{Key: key, Place: store.Locate(r.Store, key), Version: v, Err: err, value: data}
	}
	return got, v, nil
}

// write puts a value. One that could not be read again is refused while what
// it is made of is still at hand.
func write[T any](ctx context.Context, r *Records, key string, old store.Version, encode func() ([]byte, error), decode func([]byte) (T, error)) (store.Version, error) {
	data, err := encode()
	if err != nil {
		return store.None, fmt.Errorf("encoding %s: %w", key, err)
	}
	if _, err := decode(data); err != nil {
		return store.None, fmt.Errorf("not writing %s, because it could not be read again: %w", key, err)
	}
	return putValue(ctx, r, key, data, old)
}

func putValue(ctx context.Context, r *Records, key string, data []byte, old store.Version) (store.Version, error) {
	v, err := r.Store.Put(ctx, key, data, old)
	if err != nil {
		return store.None, fmt.Errorf("writing %s: %w", store.Locate(r.Store, key), err)
	}
	return v, nil
}
