package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// sealKey makes a key that is the same in every run.
func sealKey(tb testing.TB, n byte) store.SealKey {
	tb.Helper()
	k, err := store.SealKeyFrom(bytes.Repeat([]byte{n}, store.SealKeySize))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func keyring(tb testing.TB, newest store.SealKey, older ...store.SealKey) *store.Keyring {
	tb.Helper()
	r, err := store.NewKeyring(newest, older...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// sealed returns an encrypted Store over inner with one key.
func sealed(tb testing.TB, inner store.Store) store.Store {
	tb.Helper()
	return store.Encrypted(inner, keyring(tb, sealKey(tb, 1)))
}

func TestEncryptedKeepsTheStoresPromises(t *testing.T) {
	for name, inner := range map[string]func(t *testing.T) store.Store{
		"over a Memory": func(*testing.T) store.Store { return new(store.Memory) },
		"over a Dir":    func(t *testing.T) store.Store { return store.NewDir(filepath.Join(t.TempDir(), "state")) },
		"over a Faulty": func(*testing.T) store.Store { return &storetest.Faulty{Store: new(store.Memory)} },
		"over another":  func(t *testing.T) store.Store { return store.Encrypted(new(store.Memory), keyring(t, sealKey(t, 2))) },
	} {
		t.Run(name, func(t *testing.T) {
			// The longest value is shorter than another Store's: it has a test
			// of its own.
			values := storetest.Values{Make: func(key string, n int) []byte { return fmt.Appendf(nil, "value %d of %s\n", n, key) }}
			storetest.Run(t, func(t *testing.T) store.Store { return sealed(t, inner(t)) }, values)
		})
	}
}

func TestEncryptedTakesValuesUpToItsOverhead(t *testing.T) {
	inner := new(store.Memory)
	s := sealed(t, inner)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, value := range [][]byte{
		nil, {}, {0}, []byte("md sealed 1 0123456789abcdef\n"), all, make([]byte, 4096), make([]byte, store.MaxValue-store.SealOverhead),
	} {
		version, err := s.Put(t.Context(), "a", value, store.Any)
		if err != nil {
			t.Fatalf("Put of %d bytes: %v", len(value), err)
		}
		got, gotVersion, err := s.Get(t.Context(), "a")
		if err != nil || !bytes.Equal(got, value) || gotVersion != version {
			t.Errorf("Get = %d bytes, Version %q, error %v; want the %d that were put, at %q", len(got), gotVersion, err, len(value), version)
		}
		raw, _, err := inner.Get(t.Context(), "a")
		if err != nil || len(raw) != len(value)+store.SealOverhead {
			t.Errorf("the inner Store has %d bytes (error %v), want %d", len(raw), err, len(value)+store.SealOverhead)
		}
	}
	if _, err := s.Put(t.Context(), "b", make([]byte, store.MaxValue-store.SealOverhead+1), store.Any); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Put of one byte too many = error %v, want ErrTooLarge", err)
	}
}

func TestEncryptedHidesValues(t *testing.T) {
	inner := new(store.Memory)
	s := sealed(t, inner)
	value := []byte("-----BEGIN PRIVATE KEY-----")
	var before []byte
	for range 2 { // the same content, sealed twice
		if _, err := s.Put(t.Context(), "domains/example.com", value, store.Any); err != nil {
			t.Fatal(err)
		}
		raw, _, err := inner.Get(t.Context(), "domains/example.com")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, value[:8]) {
			t.Error("the inner Store has the value as it was put")
		}
		if bytes.Equal(raw, before) {
			t.Error("the same value is sealed to the same bytes twice")
		}
		before = raw
	}
}

// The form of what lies in Stores does not change by accident.
func TestEncryptedOpensWhatFormerVersionsSealed(t *testing.T) {
	inner := new(store.Memory)
	text, err := base64.StdEncoding.DecodeString(sealedByVersion1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Put(t.Context(), "domains/example.com", text, store.None); err != nil {
		t.Fatal(err)
	}
	got, _, err := sealed(t, inner).Get(t.Context(), "domains/example.com")
	if want := "what was put"; err != nil || string(got) != want {
		t.Errorf("Get = %q, error %v; want %q", got, err, want)
	}
}

func TestEncryptedPassesOptionalInterfacesThrough(t *testing.T) {
	type plain struct{ store.Store }
	type watcher struct {
		store.Store
		store.Watcher
	}
	type scanner struct {
		store.Store
		store.Scanner
	}
	m := new(store.Memory)
	for name, test := range map[string]struct {
		inner          store.Store
		watches, scans bool
	}{
		"none":    {plain{m}, false, false},
		"Watcher": {watcher{m, m}, true, false},
		"Scanner": {scanner{m, m}, false, true},
		"both":    {m, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := sealed(t, test.inner)
			if _, got := s.(store.Watcher); got != test.watches {
				t.Errorf("it is a Watcher: %v, want %v", got, test.watches)
			}
			if _, got := s.(store.Scanner); got != test.scans {
				t.Errorf("it is a Scanner: %v, want %v", got, test.scans)
			}
			if got, want := store.Locate(s, "a/b"), "a/b"; got != want {
				t.Errorf("Locate = %q, want %q", got, want)
			}
			if _, err := store.Reseal(t.Context(), s); err != nil {
				t.Errorf("Reseal: %v", err)
			}
			if got := fmt.Sprintf("%v %#v", s, s); strings.Contains(got, "0x") {
				t.Errorf("it prints as %s", got)
			}
		})
	}
	dir := store.NewDir("somewhere")
	if got, want := store.Locate(sealed(t, dir), "a/b"), dir.Locate("a/b"); got != want {
		t.Errorf("Locate over a Dir = %q, want %q", got, want)
	}
}

// wantSealError checks that key cannot be opened, and why; and that nobody
// takes it for missing.
func wantSealError(t *testing.T, s store.Store, key string, want error) *store.SealError {
	t.Helper()
	value, version, err := s.Get(t.Context(), key)
	var e *store.SealError
	if !errors.As(err, &e) {
		t.Fatalf("Get(%q) = %.20q, error %v; want a *SealError", key, value, err)
	}
	for _, sentinel := range []error{store.ErrNoSealKey, store.ErrAltered, store.ErrNotSealed, fs.ErrNotExist, store.ErrConflict, store.ErrKey, store.ErrTooLarge} {
		if got := errors.Is(err, sentinel); got != (sentinel == want) {
			t.Errorf("Get(%q) = error %v; is %q: %v", key, err, sentinel, got)
		}
	}
	if value != nil || version != store.None {
		t.Errorf("Get(%q) returns %.20q at %q with its error, want nothing", key, value, version)
	}
	if e.Key != key || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), e.KeyID) {
		t.Errorf("the error is %q of %q, want one that names %q and the key %q", err, e.Key, key, e.KeyID)
	}
	return e
}

func TestEncryptedNamesTheKeyThatIsMissing(t *testing.T) {
	place := filepath.Join(t.TempDir(), "state")
	dir := store.NewDir(place)
	if _, err := sealed(t, dir).Put(t.Context(), "domains/example.com", []byte("x"), store.None); err != nil {
		t.Fatal(err)
	}
	other := store.Encrypted(dir, keyring(t, sealKey(t, 2), sealKey(t, 3)))
	e := wantSealError(t, other, "domains/example.com", store.ErrNoSealKey)
	if want := sealKey(t, 1).ID(); e.KeyID != want {
		t.Errorf("the key missing is %q, want %q", e.KeyID, want)
	}
	if want := dir.Locate("domains/example.com"); e.Place != want || !strings.Contains(e.Error(), want) {
		t.Errorf("the error names the place %q in %q, want %q", e.Place, e, want)
	}
	// What cannot be read can be replaced at the Version in the error, by
	// someone who means it.
	if _, err := other.Put(t.Context(), "domains/example.com", []byte("y"), e.Version); err != nil {
		t.Errorf("Put at the Version of the error: %v", err)
	}
}

func TestEncryptedWithoutKeys(t *testing.T) {
	inner := new(store.Memory)
	if _, err := sealed(t, inner).Put(t.Context(), "a", nil, store.None); err != nil {
		t.Fatal(err)
	}
	for _, keys := range []*store.Keyring{nil, new(store.Keyring)} {
		s := store.Encrypted(inner, keys)
		wantSealError(t, s, "a", store.ErrNoSealKey)
		if _, err := s.Put(t.Context(), "a", nil, store.Any); !errors.Is(err, store.ErrNoSealKey) {
			t.Errorf("Put = error %v, want ErrNoSealKey", err)
		}
		if _, err := store.SealPlain(t.Context(), s); err != nil {
			t.Errorf("SealPlain where all is sealed: %v", err)
		}
		if _, err := store.Reseal(t.Context(), s); !errors.Is(err, store.ErrNoSealKey) {
			t.Errorf("Reseal = error %v, want ErrNoSealKey", err)
		}
		if ids := keys.IDs(); len(ids) != 0 {
			t.Errorf("IDs = %q of a Keyring without keys", ids)
		}
	}
}

// move puts what inner has at one key to another.
func move(t *testing.T, inner store.Store, from, to string) {
	t.Helper()
	raw, _, err := inner.Get(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Put(t.Context(), to, raw, store.Any); err != nil {
		t.Fatal(err)
	}
}

func TestEncryptedTellsWhatWasMoved(t *testing.T) {
	inner := new(store.Memory)
	s := sealed(t, inner)
	for _, key := range []string{"domains/a", "domains/b", "domains/ab"} {
		if _, err := s.Put(t.Context(), key, []byte("value of "+key), store.None); err != nil {
			t.Fatal(err)
		}
	}
	move(t, inner, "domains/a", "domains/b")
	move(t, inner, "domains/a", "domains/ab")
	move(t, inner, "domains/a", "domains/A")
	for _, key := range []string{"domains/b", "domains/ab", "domains/A"} {
		wantSealError(t, s, key, store.ErrAltered)
	}
	if _, _, err := s.Get(t.Context(), "domains/a"); err != nil {
		t.Errorf("the value that was copied does not open where it was put: %v", err)
	}
	if err := s.Delete(t.Context(), "domains/b", store.Any); err != nil {
		t.Errorf("what cannot be opened cannot be deleted: %v", err)
	}
}

// Every bit counts, and every length.
func TestEncryptedTellsWhatWasChanged(t *testing.T) {
	inner := new(store.Memory)
	s := sealed(t, inner)
	if _, err := s.Put(t.Context(), "a", []byte("private"), store.None); err != nil {
		t.Fatal(err)
	}
	good, _, err := inner.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	var bad [][]byte
	for i := range good {
		for bit := range 8 {
			changed := slices.Clone(good)
			changed[i] ^= 1 << bit
			bad = append(bad, changed)
		}
		bad = append(bad, good[:i])
	}
	bad = append(bad, append(slices.Clone(good), 0), append(slices.Clone(good), '\n'), append([]byte{' '}, good...))
	for _, raw := range bad {
		if _, err := inner.Put(t.Context(), "a", raw, store.Any); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Get(t.Context(), "a")
		var e *store.SealError
		if !errors.As(err, &e) || errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Get of %q = error %v, want a *SealError", raw, err)
		}
	}
}

func TestEncryptedBoundsWhatItOpens(t *testing.T) {
	k := sealKey(t, 1)
	value := append([]byte("md sealed 1 "+k.ID()+"\n"), make([]byte, store.MaxValue)...)
	s := store.Encrypted(fixed{new(store.Memory), value}, keyring(t, k))
	wantSealError(t, s, "a", store.ErrAltered)
}

// fixed is a Store that has one value for every key.
type fixed struct {
	*store.Memory
	value []byte
}

func (f fixed) Get(context.Context, string) ([]byte, store.Version, error) { return f.value, "1", nil }

func TestEncryptedScanEndsWithWhatDoesNotOpen(t *testing.T) {
	inner := new(store.Memory)
	s := sealed(t, inner)
	for _, key := range []string{"a", "c"} {
		if _, err := s.Put(t.Context(), key, []byte(key), store.None); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := inner.Put(t.Context(), "b", []byte("plain"), store.None); err != nil {
		t.Fatal(err)
	}
	var got []string
	var last error
	for e, err := range s.(store.Scanner).Scan(t.Context(), "") {
		got, last = append(got, e.Key+"="+string(e.Value)), err
	}
	if want := []string{"a=a", "="}; !slices.Equal(got, want) || !errors.Is(last, store.ErrNotSealed) {
		t.Errorf("Scan yields %q and error %v, want %q and ErrNotSealed", got, last, want)
	}
	for e := range s.(store.Scanner).Scan(t.Context(), "") {
		if e.Key != "a" {
			t.Errorf("Scan begins with %q, want a", e.Key)
		}
		break // a Scan that yields after this panics
	}
}

func TestSealErrorSaysWhatToDo(t *testing.T) {
	for want, e := range map[string]*store.SealError{
		`store: the value of "a" is sealed with the key 00, which is not given: add that key to the Keyring`: {Key: "a", Place: "a", KeyID: "00", Err: store.ErrNoSealKey},
		`store: the value of "a" cannot be opened: it was changed, or moved from another key, since it was sealed with the key 00; ` +
			`put back what was there, or delete it (it is in /x/a)`: {Key: "a", Place: "/x/a", KeyID: "00", Err: store.ErrAltered},
		`store: the value of "a" cannot be opened: it is not sealed in a form that is known; ` +
			`if the Store was used without Encrypted before, seal it with SealPlain`: {Key: "a", Err: store.ErrNotSealed},
	} {
		if got := e.Error(); got != want {
			t.Errorf("Error() = %s\nwant %s", got, want)
		}
	}
}
