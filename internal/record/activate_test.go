package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

const name = "a"

// writer is a store between Records and a Memory: another process that
// writes a value once, just before an operation.
type writer struct {
	*store.Memory
	before func(kind, key string) (write bool)
	key    string
	value  []byte // nil: it removes the value
	done   bool
}

func (w *writer) meddle(ctx context.Context, kind, key string) error {
	if w.before == nil || w.done || !w.before(kind, key) {
		return nil
	}
	w.done = true
	if w.value == nil {
		return w.Memory.Delete(ctx, w.key, store.Any)
	}
	_, err := w.Memory.Put(ctx, w.key, w.value, store.Any)
	return err
}

func (w *writer) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	if err := w.meddle(ctx, "put", key); err != nil {
		return store.None, err
	}
	return w.Memory.Put(ctx, key, value, old)
}

func (w *writer) Delete(ctx context.Context, key string, old store.Version) error {
	if err := w.meddle(ctx, "delete", key); err != nil {
		return err
	}
	return w.Memory.Delete(ctx, key, old)
}

// scene is a state of the Store before an activation, and what must come of
// it.
type scene struct {
	name           string
	active, staged []byte // nil: there is none
	check          func(staged, active *Set) error
	other          writer // writes meanwhile

	// What is there when all is done; nil means nothing.
	wantActive, wantStaged []byte
	wantArchive            [][]byte
	wantErr                error // of an undisturbed call; errBroken stands for a *BrokenError
	wantNone               bool  // whether that returns no Set
}

var errBroken, errRefused = errors.New("a *BrokenError"), errors.New("refused")

func scenes(t *testing.T) []scene {
	t.Helper()
	former, staged, third := encoded(t, newSet(t, ecdsaType)), encoded(t, newSet(t, ecdsaType, rsaType)), encoded(t, newSet(t, otherType))
	order := encoded(t, &Set{Credentials: []Credential{newOrder(t, ecdsaType)}})
	half := encoded(t, &Set{Credentials: []Credential{newCredential(t, ecdsaType), newOrder(t, rsaType)}})
	junk := former[:len(former)-10]
	mismatched := newSet(t, ecdsaType)
	mismatched.Credentials[0].Key = newCredential(t, ecdsaType).Key
	refuse := func(_, _ *Set) error { return errRefused }
	supersede := func(_, _ *Set) error { return fmt.Errorf("look: %w", ErrSuperseded) }
	commit := func(kind, key string) bool { return kind == "put" && key == activeKey(name) }
	removal := func(kind, key string) bool { return kind == "delete" }

	return []scene{
		{name: "nothing staged", active: former, check: agree,
			wantActive: former, wantErr: fs.ErrNotExist, wantNone: true},
		{name: "nothing active", staged: staged, check: agree,
			wantActive: staged},
		{name: "a former Set active", active: former, staged: staged, check: agree,
			wantActive: staged, wantArchive: [][]byte{former}},
		{name: "the staged Set active already", active: staged, staged: staged, check: refuse,
			wantActive: staged},
		{name: "a broken active Set", active: junk, staged: staged, check: agree,
			wantActive: staged, wantArchive: [][]byte{junk}},
		{name: "an active Set with the key of another", active: encoded(t, mismatched), staged: staged, check: agree,
			wantActive: staged, wantArchive: [][]byte{encoded(t, mismatched)}},
		{name: "a broken staged Set", active: former, staged: junk, check: agree,
			wantActive: former, wantStaged: junk, wantErr: errBroken, wantNone: true},
		{name: "a staged Set that the check refuses", active: former, staged: staged, check: refuse,
			wantActive: former, wantStaged: staged, wantErr: errRefused, wantNone: true},
		{name: "a staged Set that the check refuses where nothing is active", staged: staged, check: refuse,
			wantStaged: staged, wantErr: errRefused, wantNone: true},
		{name: "an order that the check overlooks", active: former, staged: order, check: agree,
			wantActive: former, wantStaged: order, wantArchive: [][]byte{former}, wantErr: errAny, wantNone: true},
		{name: "a staged Set that is worse", active: former, staged: staged, check: supersede,
			wantActive: former, wantArchive: [][]byte{staged}},
		{name: "a staged order that is worse", active: former, staged: order, check: supersede,
			wantActive: former},
		{name: "a staged certificate and order that are worse", active: former, staged: half, check: supersede,
			wantActive: former, wantArchive: [][]byte{half}},
		{name: "a staged Set that is said to be worse than nothing", staged: staged, check: supersede,
			wantStaged: staged, wantErr: ErrSuperseded, wantNone: true},
		{name: "another Set activated meanwhile", active: former, staged: staged, check: agree,
			other:      writer{before: commit, key: activeKey(name), value: third},
			wantActive: staged, wantArchive: [][]byte{former, third}},
		{name: "another Set activated meanwhile where nothing was", staged: staged, check: agree,
			other:      writer{before: commit, key: activeKey(name), value: third},
			wantActive: staged, wantArchive: [][]byte{third}},
		{name: "a better Set activated meanwhile", active: former, staged: staged, check: func(_, active *Set) error {
			if active.Credential(otherType) != nil {
				return ErrSuperseded
			}
			return nil
		}, other: writer{before: commit, key: activeKey(name), value: third},
			wantActive: third, wantArchive: [][]byte{former, staged}},
		{name: "the same Set activated meanwhile", active: former, staged: staged, check: agree,
			other:      writer{before: commit, key: activeKey(name), value: staged},
			wantActive: staged, wantArchive: [][]byte{former}},
		{name: "an active Set that is gone meanwhile", active: former, staged: staged, check: agree,
			other:      writer{before: commit, key: activeKey(name)},
			wantActive: staged, wantArchive: [][]byte{former}},
		{name: "an order staged behind the commit", active: former, staged: staged, check: func(s, _ *Set) error {
			if !s.Complete() {
				return errRefused
			}
			return nil
		}, other: writer{before: removal, key: stagingKey(name), value: order},
			wantActive: staged, wantStaged: order, wantArchive: [][]byte{former}, wantErr: store.ErrConflict},
		{name: "staging cleared by another behind the commit", active: former, staged: staged, check: agree,
			other:      writer{before: removal, key: stagingKey(name)},
			wantActive: staged, wantArchive: [][]byte{former}},
	}
}

// errAny stands for whatever error.
var errAny = errors.New("any error")

// open makes the scene's Store.
func (s *scene) open(t *testing.T) (*store.Memory, store.Store) {
	t.Helper()
	memory := new(store.Memory)
	if s.active != nil {
		put(t, memory, activeKey(name), s.active)
	}
	if s.staged != nil {
		put(t, memory, stagingKey(name), s.staged)
	}
	other := s.other
	other.Memory = memory
	return memory, &other
}

// TestActivate runs each scene undisturbed, and then with each operation of
// the Store broken, before and after its effect.
func TestActivate(t *testing.T) {
	for _, s := range scenes(t) {
		t.Run("with "+s.name, func(t *testing.T) {
			memory, opened := s.open(t)
			counting := &storetest.Faulty{Store: opened}
			set, v, err := (&Records{Store: counting}).Activate(t.Context(), name, s.check)
			s.checkResult(t, set, err)
			s.checkReturned(t, memory, set, v)
			s.checkStore(t, memory)
			s.checkEnd(t, memory)

			for n := 1; n <= counting.Count(); n++ {
				for _, fault := range []storetest.Fault{storetest.FaultBefore, storetest.FaultAfter} {
					t.Run(fmt.Sprintf("and %v at operation %d", fault, n), func(t *testing.T) { s.breakOne(t, n, fault) })
				}
			}
		})
	}
}

// breakOne runs the scene with one operation broken, and then again without.
func (s *scene) breakOne(t *testing.T, n int, fault storetest.Fault) {
	memory, opened := s.open(t)
	faulty := &storetest.Faulty{Store: opened, Fault: func(op storetest.Op) storetest.Fault {
		if op.N == n {
			return fault
		}
		return storetest.FaultNone
	}}
	set, v, err := (&Records{Store: faulty}).Activate(t.Context(), name, s.check)
	if err == nil && fault == storetest.FaultBefore { // behind a conflict, nothing is broken
		t.Error("an operation failed, and there is no error")
	}
	s.checkReturned(t, memory, set, v)
	s.checkStore(t, memory)

	set, v, _ = (&Records{Store: opened}).Activate(t.Context(), name, s.check)
	s.checkReturned(t, memory, set, v)
	s.checkStore(t, memory)
	s.checkEnd(t, memory)
}

// checkResult checks what an undisturbed call returns.
func (s *scene) checkResult(t *testing.T, set *Set, err error) {
	t.Helper()
	var broken *BrokenError
	switch s.wantErr {
	case errBroken:
		if !errors.As(err, &broken) || broken.Key != stagingKey(name) {
			t.Errorf("error %v, want a *BrokenError of %s", err, stagingKey(name))
		}
	case errAny:
		if err == nil {
			t.Error("no error")
		}
	default:
		if !errors.Is(err, s.wantErr) {
			t.Errorf("error %v, want %v", err, s.wantErr)
		}
	}
	if (set == nil) != s.wantNone {
		t.Errorf("returns %v, want none: %v", set, s.wantNone)
	}
}

// checkReturned checks that a Set that was returned is active.
func (s *scene) checkReturned(t *testing.T, memory *store.Memory, set *Set, v store.Version) {
	t.Helper()
	if set == nil {
		if v != store.None {
			t.Errorf("no Set, but Version %q", v)
		}
		return
	}
	value, version, err := memory.Get(t.Context(), activeKey(name))
	if err != nil || version != v || !bytes.Equal(value, encoded(t, set)) {
		t.Errorf("what was returned (%q) is not active (%q): %v", v, version, err)
	}
}

// checkStore checks what must hold at any time: the active value is one of
// those that were given, as a whole, and each of them with a certificate is
// somewhere.
func (s *scene) checkStore(t *testing.T, memory *store.Memory) {
	t.Helper()
	all := contents(t, memory)
	given := [][]byte{s.active, s.staged}
	if value, ok := all[stagingKey(name)]; ok && s.other.key == stagingKey(name) {
		given = append(given, value)
	}
	if s.other.key == activeKey(name) {
		given = append(given, s.other.value)
	}
	if value, ok := all[activeKey(name)]; ok {
		if !slices.ContainsFunc(given, func(g []byte) bool { return g != nil && bytes.Equal(g, value) }) {
			t.Errorf("active is what nobody gave:\n%s", value)
		}
	} else if s.active != nil && s.other.value != nil {
		t.Error("nothing is active any more")
	}
	values := slices.Collect(maps.Values(all))
	for i, value := range [][]byte{s.active, s.staged} {
		if !bytes.Contains(value, []byte("BEGIN "+certificateType)) {
			continue
		}
		if !slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, value) }) {
			t.Errorf("what was %s is lost", []string{"active", "staged"}[i])
		}
	}
	for key, value := range all {
		if !strings.HasPrefix(key, archivePrefix(name)) {
			continue
		}
		_, err := decodeComplete(value)
		if strings.Contains(key, "/broken-") == (err == nil) && !bytes.Equal(value, s.staged) { // which may be an order
			t.Errorf("%s is complete or not: %v", key, err)
		}
	}
}

// checkEnd checks what must be there when all is done.
func (s *scene) checkEnd(t *testing.T, memory *store.Memory) {
	t.Helper()
	all := contents(t, memory)
	if got := all[activeKey(name)]; !bytes.Equal(got, s.wantActive) {
		t.Errorf("active is\n%s\nwant\n%s", got, s.wantActive)
	}
	if got := all[stagingKey(name)]; !bytes.Equal(got, s.wantStaged) {
		t.Errorf("staged is\n%s\nwant\n%s", got, s.wantStaged)
	}
	var archive [][]byte
	for key, value := range all {
		if strings.HasPrefix(key, archivePrefix(name)) {
			archive = append(archive, value)
		}
	}
	want := slices.Clone(s.wantArchive)
	slices.SortFunc(archive, bytes.Compare)
	slices.SortFunc(want, bytes.Compare)
	if !slices.EqualFunc(archive, want, bytes.Equal) {
		t.Errorf("the archive has %d values, want %d:\n%s", len(archive), len(want), bytes.Join(archive, []byte("\n")))
	}
}

func TestActivateGivesUp(t *testing.T) {
	memory := new(store.Memory)
	put(t, memory, stagingKey(name), encoded(t, newSet(t, ecdsaType)))
	checks := 0
	set, v, err := (&Records{Store: memory}).Activate(t.Context(), name, func(_, _ *Set) error {
		checks++
		put(t, memory, activeKey(name), encoded(t, newSet(t, ecdsaType))) // somebody is always faster
		return nil
	})
	if !errors.Is(err, store.ErrConflict) || set != nil || v != store.None {
		t.Errorf("got %v, %q, %v, want ErrConflict", set, v, err)
	}
	if checks < 2 || checks > 10 {
		t.Errorf("it was tried %d times", checks)
	}
	if n := len(contents(t, memory)); n != 1+1+checks-1 {
		t.Errorf("the Store has %d values after %d tries: not all that were replaced are in the archive", n, checks)
	}
}

func TestActivateGivesTheCheckWhatIsThere(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	staged, active := newSet(t, ecdsaType), newSet(t, ecdsaType)
	put(t, memory, stagingKey(name), encoded(t, staged))
	look := func(want *Set) func(s, a *Set) error {
		return func(s, a *Set) error {
			if !bytes.Equal(encoded(t, s), encoded(t, staged)) {
				t.Error("the check is given another staged Set")
			}
			if (a == nil) != (want == nil) || a != nil && !bytes.Equal(encoded(t, a), encoded(t, want)) {
				t.Errorf("the check is given %v as active, want %v", a, want)
			}
			return errRefused
		}
	}
	for _, test := range []struct {
		value []byte
		want  *Set
	}{{nil, nil}, {encoded(t, active), active}, {[]byte("broken"), nil}} {
		if test.value != nil {
			put(t, memory, activeKey(name), test.value)
		}
		if _, _, err := r.Activate(t.Context(), name, look(test.want)); !errors.Is(err, errRefused) {
			t.Errorf("error %v, want what the check said", err)
		}
	}
}
