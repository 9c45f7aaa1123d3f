package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Encrypted returns a Store that keeps its values in inner, each sealed with
// AES-256-GCM under the newest key of keys, and opens those sealed with any
// key of keys. The keys of the Store, such as "domains/example.com", and what
// Versions there are remain as inner has them. The Store is a [Watcher] and a
// [Scanner] if inner is one, and always a [Locator].
//
//	keys, err := store.NewKeyring(newest)       // ParseSealKey reads one
//	m.Store = store.Encrypted(shared, keys)
//
// # What is protected
//
// Who can read inner, or a backup of it, learns no private key, and nothing
// else of any value: not even whether two are equal. Who can write to it cannot
// make a value of his own, change one, or move one to another key: what he
// leaves there does not open, and is an error.
//
// What is not hidden: the Store's keys, and so the names of Domains and CAs;
// the length of each value, less [SealOverhead]; which key it is sealed with;
// and when and how often it is written. What is not prevented: deleting values,
// and putting back one that stood at the same key before. Who may write to
// inner can so undo a renewal, or make certificates be ordered anew. No sealing
// can tell a former value from the last one without keeping something
// elsewhere.
//
// Other programs cannot use sealed values: what may serve as a PEM file in a
// plain Store does not in this one.
//
// # Values that do not open
//
// A value that cannot be opened is a [*SealError], which names its key and its
// place, and is one of [ErrNoSealKey], [ErrAltered] and [ErrNotSealed]. It is
// never reported as missing, so that a Manager started with the wrong keys
// replaces nothing: it says which key it lacks, and leaves the value as it is.
// Get returns such a value's error for that key alone; a Scan ends with it.
//
// A value that was altered stays an error until somebody deletes it, or puts
// back what was there.
//
// # Changing keys
//
// Where several processes share inner, a key is changed in these steps, each
// done everywhere before the next:
//
//  1. list the key to come as an older one, so that everybody can open what is sealed with it;
//  2. make it the newest, with the former one listed behind it;
//  3. call [Reseal] once, from anywhere;
//  4. list the former key no more.
//
// [Keyring.Replace] does so while the process runs. A single process begins
// with the second step. [SealPlain] seals a Store that holds plain values.
//
// # Cost
//
// Sealing and opening take some microseconds and one copy of the value. The
// longest value is SealOverhead shorter than inner's. Two Puts of the same
// content write different bytes and so have different Versions.
//
// Each of the Store's keys has a sealing key of its own, derived from the one
// given, and each Put a random nonce of 96 bits: NIST SP 800-38D §8.3 allows
// 2³² Puts of each, which is one every second for 136 years.
func Encrypted(inner Store, keys *Keyring) Store {
	e := &encrypted{inner: inner, keys: keys}
	w, watches := inner.(Watcher)
	s, scans := inner.(Scanner)
	switch {
	case watches && scans:
		return struct {
			*encrypted
			Watcher
			Scanner
		}{e, w, encryptedScanner{e, s}}
	case watches:
		return struct {
			*encrypted
			Watcher
		}{e, w}
	case scans:
		return struct {
			*encrypted
			Scanner
		}{e, encryptedScanner{e, s}}
	}
	return e
}

// encrypted is what Encrypted returns, but for the optional interfaces that
// only some inner Stores have.
type encrypted struct {
	inner Store
	keys  *Keyring
}

// Get implements [Store].
func (e *encrypted) Get(ctx context.Context, key string) ([]byte, Version, error) {
	sealed, version, err := e.inner.Get(ctx, key)
	if err != nil {
		return nil, None, err
	}
	value, err := e.open(key, sealed, version)
	if err != nil {
		return nil, None, err
	}
	return value, version, nil
}

// Put implements [Store].
func (e *encrypted) Put(ctx context.Context, key string, value []byte, old Version) (Version, error) {
	if err := checkCall(ctx, key); err != nil {
		return None, err
	}
	sealed, err := e.seal(key, value)
	if err != nil {
		return None, err
	}
	return e.inner.Put(ctx, key, sealed, old)
}

// Delete implements [Store]. A value that cannot be opened can be deleted.
func (e *encrypted) Delete(ctx context.Context, key string, old Version) error {
	return e.inner.Delete(ctx, key, old)
}

// List implements [Store].
func (e *encrypted) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return e.inner.List(ctx, prefix)
}

// Locate implements [Locator].
func (e *encrypted) Locate(key string) string { return Locate(e.inner, key) }

// String says what e is, and never what it holds.
func (e *encrypted) String() string { return fmt.Sprintf("store.Encrypted(%T)", e.inner) }

// GoString does as String does.
func (e *encrypted) GoString() string { return e.String() }

// sealing lets Reseal and SealPlain find the inner Store.
func (e *encrypted) sealing() *encrypted { return e }

// seal seals value for key with the newest key.
func (e *encrypted) seal(key string, value []byte) ([]byte, error) {
	if len(value) > MaxValue-SealOverhead {
		return nil, fmt.Errorf("%w, with the %d bytes that sealing adds: %q", ErrTooLarge, SealOverhead, key)
	}
	newest := e.keys.newest()
	if newest == nil {
		return nil, fmt.Errorf("store: %q is not put, because the Keyring is empty; make it with NewKeyring: %w", key, ErrNoSealKey)
	}
	return newest.seal(key, value)
}

// open opens what the inner Store has at key. The error is a *SealError.
func (e *encrypted) open(key string, sealed []byte, version Version) ([]byte, error) {
	id, err := sealedWith(sealed)
	var value []byte
	if err == nil {
		value, err = e.openWith(id, key, sealed)
	}
	if err != nil {
		return nil, &SealError{Key: key, Place: Locate(e.inner, key), Version: version, KeyID: id, Err: err}
	}
	return value, nil
}

func (e *encrypted) openWith(id, key string, sealed []byte) ([]byte, error) {
	with := e.keys.find(id)
	if with == nil {
		return nil, ErrNoSealKey
	}
	return with.open(key, sealed)
}

// encryptedScanner is the Scanner of an encrypted whose inner Store is one.
type encryptedScanner struct {
	e     *encrypted
	inner Scanner
}

// Scan implements [Scanner].
func (s encryptedScanner) Scan(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for entry, err := range s.inner.Scan(ctx, prefix) {
			if err == nil {
				entry.Value, err = s.e.open(entry.Key, entry.Value, entry.Version)
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

// What may be wrong with a value that [Encrypted] cannot open; errors.Is
// finds them in a [*SealError]. None of them is fs.ErrNotExist.
var (
	// ErrNoSealKey reports a value sealed with a key that is not in the
	// Keyring, or a Keyring without any.
	ErrNoSealKey = errors.New("the key that seals it is not given")

	// ErrAltered reports a value that is not what was sealed for this key of
	// the Store: it was changed, cut short, or moved here from another key.
	ErrAltered = errors.New("it was changed, or moved from another key, since it was sealed")

	// ErrNotSealed reports a value that is not sealed, or in a form that this
	// version does not know.
	ErrNotSealed = errors.New("it is not sealed in a form that is known")
)

// SealError reports a value that cannot be opened.
type SealError struct {
	Key     string  // of the Store
	Place   string  // where the Store keeps it, for people
	Version Version // that was read: Put or Delete at this Version replaces the value
	KeyID   string  // of the SealKey that the value says it is sealed with; empty if it says none
	Err     error   // ErrNoSealKey, ErrAltered or ErrNotSealed
}

// Error implements error. It says what can be done.
func (e *SealError) Error() string {
	text := fmt.Sprintf("store: the value of %q cannot be opened: %v", e.Key, e.Err)
	switch {
	case errors.Is(e.Err, ErrNoSealKey):
		text = fmt.Sprintf("store: the value of %q is sealed with the key %s, which is not given: add that key to the Keyring", e.Key, e.KeyID)
	case errors.Is(e.Err, ErrAltered):
		text += fmt.Sprintf(" with the key %s; put back what was there, or delete it", e.KeyID)
	case errors.Is(e.Err, ErrNotSealed):
		text += "; if the Store was used without Encrypted before, seal it with SealPlain"
	}
	if e.Place != e.Key && e.Place != "" {
		text += " (it is in " + e.Place + ")"
	}
	return text
}

// Unwrap returns Err.
func (e *SealError) Unwrap() error { return e.Err }
