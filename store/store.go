// Package store keeps named values, with compare-and-swap, and nothing else.
//
// A [Store] is where a Manager remembers everything that must outlive the
// process: accounts, certificates with their keys, jobs, challenge answers.
// Its four methods are few enough to be written for any database that can
// compare and swap one value; storetest.Run holds every promise as a test.
//
//   - [Dir] keeps values as files of one directory, which several processes
//     on one machine may share.
//   - [Memory] keeps them in the process, for tests and for those who accept
//     that a restart orders everything anew.
//   - [Encrypted] seals the values of another Store, so that whoever reads
//     that, or a backup of it, learns no private key.
//
// A [Leaser] makes leases from the four methods, so that of several processes
// that share a Store one works on a thing at a time.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// MaxValue is the length in bytes of the longest value that a Store takes.
const MaxValue = 1 << 20

// MaxKey is the length in bytes of the longest key that a Store takes.
const MaxKey = 1024

// Version names one content of one key. Equal Versions of one key mean equal
// content; what else a Version holds is the Store's own business.
type Version string

const (
	// None is the Version of a key that has no value.
	None Version = ""
	// Any stands for whatever Version is there, or none.
	Any Version = "*"
)

var (
	// ErrConflict reports that a key's Version is not the one expected.
	// Nothing was changed. Read again and decide again.
	ErrConflict = errors.New("store: the value has changed meanwhile")

	// ErrKey reports a key that no Store takes; see [CheckKey].
	ErrKey = errors.New("store: not a usable key")

	// ErrTooLarge reports a value longer than MaxValue.
	ErrTooLarge = errors.New("store: value is longer than 1 MiB")
)

// Store keeps named values. All methods may be called concurrently, and obey
// their context: an error after the context ended may wrap its cause.
//
// Keys are paths as [CheckKey] describes. Keys are case-sensitive. No key is
// a prefix of another at a slash: where "a/b" has a value, "a/b/c" has none;
// a Store need not support both.
type Store interface {
	// Get returns the value of key and its Version, or an error that is
	// fs.ErrNotExist. The caller owns the returned bytes.
	Get(ctx context.Context, key string) ([]byte, Version, error)

	// Put writes the value of key if its Version is old, and returns the
	// Version written. With old None, the key must have no value; with Any
	// it may have any or none. Otherwise the error is ErrConflict, and
	// nothing is changed.
	//
	// The value is durable when Put returns nil. After an error other than
	// ErrConflict, ErrKey and ErrTooLarge it may or may not have been
	// written, but as a whole or not at all. The Store does not keep value.
	Put(ctx context.Context, key string, value []byte, old Version) (Version, error)

	// Delete removes key if its Version is old, or whatever it is with Any.
	// A missing key is no error. If the key has another Version, the error
	// is ErrConflict.
	Delete(ctx context.Context, key string, old Version) error

	// List yields the keys below prefix and their Versions, ascending in
	// byte order. The prefix is empty or ends in a slash. A key that is
	// there throughout is seen once; one that comes or goes meanwhile may be
	// seen or not. An error ends the sequence.
	List(ctx context.Context, prefix string) iter.Seq2[Item, error]
}

// Item is what List yields.
type Item struct {
	Key     string
	Version Version
}

// Entry is what a Scanner yields.
type Entry struct {
	Key     string
	Version Version
	Value   []byte
}

// Watcher is an optional interface of a Store that can tell of changes as
// they happen. Without it, changes by other processes are seen by List.
type Watcher interface {
	// Watch yields keys below prefix that may have changed since the call.
	// It may yield a key more than once and without reason, but never misses
	// a change. It ends with its context, or with an error.
	Watch(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// Scanner is an optional interface of a Store that reads many values in one
// go faster than one Get each.
type Scanner interface {
	// Scan yields what List would yield, with the values.
	Scan(ctx context.Context, prefix string) iter.Seq2[Entry, error]
}

// Locator is an optional interface of a Store whose values an operator can
// look at: errors about a value then name its place.
type Locator interface {
	// Locate says where key is kept: a file's path, or words to that effect.
	Locate(key string) string
}

// CheckKey returns nil for a key that every Store must take, else an error
// that wraps ErrKey and says what is wrong with it.
//
// A key is 1 to MaxKey bytes of valid UTF-8 without control characters: one
// or more components separated by single slashes, each 1 to 255 bytes long.
// Any other character may stand in a component, and any component may stand
// in a key: "*.example.com", "..", "con" and tokens that differ only in case
// are names like any other.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: %.40q… has %d bytes, more than %d", ErrKey, key, len(key), MaxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: %q is not valid UTF-8", ErrKey, key)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" {
			return fmt.Errorf("%w: %q has an empty component", ErrKey, key)
		}
		if len(part) > 255 {
			return fmt.Errorf("%w: a component of %.40q… has %d bytes, more than 255", ErrKey, key, len(part))
		}
	}
	for _, r := range key {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("%w: %q has a control character", ErrKey, key)
		}
	}
	return nil
}

// CheckPrefix returns nil for a prefix that List takes: "" or a key and a
// slash. Otherwise the error wraps ErrKey.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	key, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("%w: prefix %q does not end in a slash", ErrKey, prefix)
	}
	return CheckKey(key)
}

// Locate says where s keeps key, for error messages: what its Locator says,
// else the key itself.
func Locate(s Store, key string) string {
	if l, ok := s.(Locator); ok {
		return l.Locate(key)
	}
	return key
}
