// Package storetest holds the promises of store.Store as tests.
//
// Whoever writes a Store calls [Run] from a test; [Faulty] breaks a Store's
// operations one by one, for tests of what uses it.
package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/manageddomains/md/store"
)

// Values says what a Store is tried with. The zero Values is for one that
// takes any key and any value, as a Store should.
type Values struct {
	// Keys are keys that the Store takes, at least four. Nil: the Store
	// takes all that store.CheckKey allows, which is then tested too.
	Keys []string

	// MaxKey is the length in bytes of the longest key to try, for a Store
	// whose medium has no room for more. Zero: store.MaxKey.
	MaxKey int

	// Make returns a value that the Store takes for key: another one for
	// each n, always the same for the same n. Nil: the Store takes any
	// value of up to store.MaxValue bytes, which is then tested too.
	Make func(key string, n int) []byte
}

// Run tests that the Stores which open returns keep every promise. Each
// subtest gets one of its own, which must be empty; open may use t.Cleanup to
// close it.
func Run(t *testing.T, open func(t *testing.T) store.Store, v Values) {
	t.Helper()
	if v.Keys != nil && len(v.Keys) < 4 {
		t.Fatalf("storetest: Values.Keys has %d keys, want 4 or more", len(v.Keys))
	}
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			s := open(t)
			if p.skip != nil {
				if why := p.skip(s, v); why != "" {
					t.Skip(why)
				}
			}
			if err := p.check(t.Context(), s, v); err != nil {
				t.Error(err)
			}
		})
	}
}

// promise is one promise of store.Store. What it finds broken is its error.
type promise struct {
	name  string // goes on from "a Store …"
	skip  func(s store.Store, v Values) string
	check func(ctx context.Context, s store.Store, v Values) error
}

var promises = []promise{
	{"returns what was put", nil, returnsWhatWasPut},
	{"has no value for a key never put", nil, hasNoValue},
	{"puts with None only where nothing is", nil, putsWithNone},
	{"puts with a Version only over it", nil, putsOverVersion},
	{"puts with Any whatever is there", nil, putsWithAny},
	{"gives equal Versions to equal content only", nil, versionsTellContent},
	{"deletes only at the Version", nil, deletesAtVersion},
	{"lets one of many writers win", nil, oneWriterWins},
	{"loses no update of many writers", nil, losesNoUpdate},
	{"keeps keys apart", nil, keepsKeysApart},
	{"does not keep the value it was given", nil, keepsNoReference},
	{"does nothing after its context ended", nil, obeysContext},
	{"lists in ascending order", nil, listsInOrder},
	{"lists what is below a prefix", nil, listsBelowPrefix},
	{"lists while it is changed", nil, listsWhileChanged},
	{"takes any key", onlyAnyKey, takesAnyKey},
	{"refuses what is no key", nil, refusesBadKeys},
	{"takes a key where a longer one was", onlyAnyKey, takesShorterKey},
	{"takes any value", onlyAnyValue, takesAnyValue},
	{"refuses a value that is too large", nil, refusesLargeValues},
	{"scans what it lists", onlyScanner, scansWhatItLists},
	{"tells a watcher of every change", onlyWatcher, watchesChanges},
	{"ends a watch with its context", onlyWatcher, endsWatch},
	{"says where a key is kept", onlyLocator, locatesKeys},
}

func onlyAnyKey(_ store.Store, v Values) string {
	if v.Keys != nil {
		return "the Store takes certain keys only"
	}
	return ""
}

func onlyAnyValue(_ store.Store, v Values) string {
	if v.Make != nil {
		return "the Store takes certain values only"
	}
	return ""
}

func onlyScanner(s store.Store, _ Values) string {
	if _, ok := s.(store.Scanner); !ok {
		return "the Store is no store.Scanner"
	}
	return ""
}

func onlyWatcher(s store.Store, _ Values) string {
	if _, ok := s.(store.Watcher); !ok {
		return "the Store is no store.Watcher"
	}
	return ""
}

func onlyLocator(s store.Store, _ Values) string {
	if _, ok := s.(store.Locator); !ok {
		return "the Store is no store.Locator"
	}
	return ""
}

// keys returns keys that the Store takes.
func (v Values) keys() []string {
	if v.Keys != nil {
		return v.Keys
	}
	return []string{
		"domains/example.com", "domains/example.org", "domains/a.example.com", "domains/a-b.example.com",
		"jobs/example.com", "challenges/http-01/token", "domains/a/b", "top",
	}
}

// value returns the nth value for key.
func (v Values) value(key string, n int) []byte {
	if v.Make != nil {
		return v.Make(key, n)
	}
	return fmt.Appendf(nil, "value %d of %s\n", n, key)
}
