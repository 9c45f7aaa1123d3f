package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A breakage is how a step goes wrong.
type breakage int

const (
	whole  breakage = iota // it does not
	before                 // it fails without effect
	after                  // it takes effect and fails
	half                   // it takes effect in part and fails
	short                  // it takes effect in part and says nothing
)

var breakages = []breakage{before, after, half, short}

func (b breakage) String() string {
	return [...]string{"whole", "before its effect", "after its effect", "halfway", "halfway in silence"}[b]
}

// breaker breaks one step, and remembers what it was.
type breaker struct {
	at      int
	how     breakage
	err     error
	count   int
	kind    string // of the step broken
	skipped bool   // the step cannot be broken in that way
}

func (b *breaker) step(kind, _ string, do, doHalf func() error) error {
	b.count++
	if b.count != b.at {
		return do()
	}
	b.kind = kind
	switch {
	case b.how == before && kind == "close":
		doHalf() // see stepFile.Close
		return b.err
	case b.how == before:
		return b.err
	case b.how == after:
		if err := do(); err != nil {
			b.skipped = true // it has failed without us
			return err
		}
		return b.err
	case doHalf == nil || kind == "close":
		b.skipped = true
		return do()
	case b.how == half:
		doHalf()
		return b.err
	}
	return doHalf()
}

// faultScenarios are what is done while one step breaks. Each begins with
// "kept" holding "other", and those that replace with "x/y" holding "old".
var faultScenarios = map[string]struct {
	old string // the value of x/y before, if any
	do  func(ctx context.Context, d *Dir) error
	new string // the value after, if any
}{
	"a first Put": {"", func(ctx context.Context, d *Dir) error {
		_, err := d.Put(ctx, "x/y", []byte("new, and longer"), None)
		return err
	}, "new, and longer"},
	"a Put over a Version": {"old", func(ctx context.Context, d *Dir) error {
		_, err := d.Put(ctx, "x/y", []byte("new, and longer"), contentVersion([]byte("old")))
		return err
	}, "new, and longer"},
	"a Put over Any": {"old", func(ctx context.Context, d *Dir) error {
		_, err := d.Put(ctx, "x/y", []byte("new, and longer"), Any)
		return err
	}, "new, and longer"},
	"a Delete": {"old", func(ctx context.Context, d *Dir) error {
		return d.Delete(ctx, "x/y", contentVersion([]byte("old")))
	}, ""},
}

func TestDirSurvivesEachFault(t *testing.T) {
	for name, scenario := range faultScenarios {
		for _, freshRoot := range []bool{false, true} {
			if freshRoot && scenario.old != "" {
				continue
			}
			run := func(t *testing.T, b *breaker) {
				root := filepath.Join(t.TempDir(), "a", "root")
				d := NewDir(root)
				if !freshRoot {
					mustPut(t, d, "kept", "other")
				}
				if scenario.old != "" {
					mustPut(t, d, "x/y", scenario.old)
				}
				d.disk = stepDisk{step: b.step}
				err := scenario.do(t.Context(), d)
				if b.skipped {
					return
				}
				checkAfterFault(t, d, b, err, scenario.old, scenario.new)
			}
			count := &breaker{}
			run(t, count)
			if count.count < 5 {
				t.Fatalf("%s has %d steps, want more", name, count.count)
			}
			for n := 1; n <= count.count; n++ {
				for _, how := range breakages {
					errno := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EROFS}[n%3]
					b := &breaker{at: n, how: how, err: &fs.PathError{Op: "step", Path: "somewhere", Err: errno}}
					run(t, b)
					if t.Failed() {
						t.Fatalf("that was %s (fresh root: %v) with step %d (%s) broken %v by %v", name, freshRoot, n, b.kind, how, errno)
					}
				}
			}
		}
	}
}

// checkAfterFault wants the old value or the new one, whole, and a
// directory that works.
func checkAfterFault(t *testing.T, d *Dir, b *breaker, err error, old, new string) {
	t.Helper()
	d.disk = osDisk{}
	got := read(t, d, "x/y")
	switch {
	case err == nil && got != new:
		t.Errorf("x/y = %q after success, want %q", got, new)
	case got != old && got != new:
		t.Errorf("x/y = %q after error %v, want %q or %q", got, err, old, new)
	}
	// What may fail without harm, when a key is deleted: a first look, before
	// the lock, and tidying up.
	harmless := new == "" && (b.kind == "lstat" || b.kind == "remove")
	if b.how != whole && err == nil && !harmless {
		t.Errorf("no error after a fault in %s", b.kind)
	}
	if err != nil && (errors.Is(err, ErrConflict) || errors.Is(err, fs.ErrNotExist)) {
		t.Errorf("error = %v, want one that is not taken for an answer", err)
	}
	if got := read(t, d, "kept"); got != "" && got != "other" {
		t.Errorf("another key = %q, want %q", got, "other")
	}
	mustPut(t, d, "x/y", "after")
	if got := read(t, d, "x/y"); got != "after" {
		t.Errorf("x/y = %q, want what was put after the fault", got)
	}
	if temps := tempsIn(t, d); len(temps) > 0 {
		t.Errorf("temporary files are left after the next Put: %q", temps)
	}
}

func mustPut(t *testing.T, d *Dir, key, value string) {
	t.Helper()
	if _, err := d.Put(t.Context(), key, []byte(value), Any); err != nil {
		t.Fatal(err)
	}
}

// read returns a value, "" if there is none.
func read(t *testing.T, d *Dir, key string) string {
	t.Helper()
	value, _, err := d.Get(t.Context(), key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(value)
}

func tempsIn(t *testing.T, d *Dir) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.path, hidden))
	if err != nil {
		t.Fatal(err)
	}
	var temps []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "temp-") {
			temps = append(temps, e.Name())
		}
	}
	return temps
}

// TestDirReadFaults breaks each step of a Get and a List: they say so, and
// never take a fault for a missing value.
func TestDirReadFaults(t *testing.T) {
	d := NewDir(filepath.Join(t.TempDir(), "root"))
	for i := range 3 {
		mustPut(t, d, fmt.Sprintf("a/%d", i), "value")
	}
	list := func() (n int, err error) {
		for _, err := range d.List(t.Context(), "") {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	get := func() (int, error) {
		value, _, err := d.Get(t.Context(), "a/1")
		if err == nil && !bytes.Equal(value, []byte("value")) {
			t.Errorf("Get = %q, want %q", value, "value")
		}
		return 3, err
	}
	for name, do := range map[string]func() (int, error){"Get": get, "List": list} {
		b := &breaker{}
		d.disk = stepDisk{step: b.step}
		if _, err := do(); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= b.count; n++ {
			broken := &breaker{at: n, how: before, err: syscall.EIO}
			d.disk = stepDisk{step: broken.step}
			got, err := do()
			if err == nil && got == 3 {
				continue // it looked twice
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%s with step %d (%s) broken = %d values, error %v; want %v", name, n, broken.kind, got, err, syscall.EIO)
			}
		}
	}
}

// TestDirOrderOfSteps wants content on the disk before its name, and every
// name on the way to it before Put returns.
func TestDirOrderOfSteps(t *testing.T) {
	place := t.TempDir()
	root := filepath.Join(place, "a", "root")
	var steps []string
	record := stepDisk{step: func(kind, path string, do, _ func() error) error {
		err := do()
		if rel, relErr := filepath.Rel(place, path); path != "" && relErr == nil {
			kind += " " + filepath.ToSlash(rel)
		}
		if err == nil {
			steps = append(steps, kind)
		}
		return err
	}}
	want := func(what string, list ...string) {
		t.Helper()
		rest := steps
		for _, step := range list {
			i := slices.Index(rest, step)
			if i < 0 {
				t.Errorf("%s has the steps\n%q\nwant among them, in order,\n%q\nbut %q is not where it belongs", what, steps, list, step)
				return
			}
			rest = rest[i+1:]
		}
	}
	d := NewDir(root)
	d.disk = record
	mustPut(t, d, "x/y/z", "value")
	for _, dir := range []string{"a", "a/root", "a/root/.md", "a/root/x", "a/root/x/y"} {
		parent := filepath.ToSlash(filepath.Dir(dir))
		want("a first Put", "mkdir "+dir, "chmod "+dir, "syncdir "+parent)
	}
	content := []string{"fchmod", "write", "fsync", "close", "rename a/root/x/y/z", "syncdir a/root/x/y", "syncdir a/root/x", "syncdir a/root"}
	want("a first Put", content...)

	steps = nil
	other := NewDir(root) // another process, which has made none of the directories
	other.disk = record
	mustPut(t, other, "x/y/z", "value")
	want("a second Put", append([]string{"lock a/root/.md/" + fmt.Sprintf("lock-%02x", shardOf("x/y/z"))}, content...)...)

	steps = nil
	if err := other.Delete(t.Context(), "x/y/z", Any); err != nil {
		t.Fatal(err)
	}
	want("a Delete", "remove a/root/x/y/z", "syncdir a/root/x/y", "remove a/root/x/y", "remove a/root/x")
}
