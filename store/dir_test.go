package store_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// dirValues is for all keys where paths may be long enough.
func dirValues() storetest.Values {
	switch runtime.GOOS {
	case "linux", "windows":
		return storetest.Values{}
	}
	return storetest.Values{MaxKey: 260}
}

func TestDir(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return store.NewDir(filepath.Join(t.TempDir(), "not", "there", "yet"))
	}, dirValues())
}

// inTurn uses several Stores in turn.
type inTurn struct {
	stores []store.Store
	n      atomic.Int64
}

func (s *inTurn) next() store.Store { return s.stores[int(s.n.Add(1))%len(s.stores)] }

func (s *inTurn) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	return s.next().Get(ctx, key)
}

func (s *inTurn) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	return s.next().Put(ctx, key, value, old)
}

func (s *inTurn) Delete(ctx context.Context, key string, old store.Version) error {
	return s.next().Delete(ctx, key, old)
}

func (s *inTurn) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	return s.next().List(ctx, prefix)
}

// TestDirShared holds several Dirs of one directory, which know nothing of
// each other, to the promises of one Store.
func TestDirShared(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		root := filepath.Join(t.TempDir(), "root")
		return &inTurn{stores: []store.Store{store.NewDir(root), store.NewDir(root), store.NewDir(root)}}
	}, dirValues())
}

func TestDirBehindSymlink(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		place := t.TempDir()
		if err := os.Mkdir(filepath.Join(place, "real"), 0o700); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(place, "link")
		if err := os.Symlink("real", link); err != nil {
			t.Skip(err)
		}
		return store.NewDir(link + "/")
	}, dirValues())
}

func TestDirWithRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"a/../b", "c", "."} {
		s := store.NewDir(path)
		if _, err := s.Put(t.Context(), "x/y", []byte("value"), store.None); err != nil {
			t.Errorf("in %q: %v", path, err)
		}
		if err := s.Delete(t.Context(), "x/y", store.Any); err != nil {
			t.Errorf("in %q: %v", path, err)
		}
	}
}

func listed(t *testing.T, s store.Store) []string {
	t.Helper()
	keys := []string{}
	for item, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, item.Key)
	}
	return keys
}

func TestDirMissing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "missing")
	s := store.NewDir(root)
	if _, _, err := s.Get(t.Context(), "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get = error %v, want fs.ErrNotExist", err)
	}
	if err := s.Delete(t.Context(), "a/b", "1"); err != nil {
		t.Errorf("Delete = error %v, want nil", err)
	}
	if got := listed(t, s); len(got) > 0 {
		t.Errorf("List = %q, want nothing", got)
	}
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made the directory (error %v)", err)
	}
}

func TestDirThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "x")
	var zero store.Dir
	for name, s := range map[string]*store.Dir{
		"no path":         store.NewDir(""),
		"the zero Dir":    &zero,
		"a file":          store.NewDir(file),
		"below a file":    store.NewDir(filepath.Join(file, "x")),
		"a NUL in a path": store.NewDir("a\x00b"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Put(t.Context(), "a", nil, store.Any); err == nil || errors.Is(err, store.ErrConflict) {
				t.Errorf("Put = error %v, want one that says what is wrong", err)
			}
		})
	}
}

func TestDirLocate(t *testing.T) {
	s := store.NewDir("root")
	for key, want := range map[string]string{
		"domains/example.com":   "root/domains/example.com",
		"domains/*.example.com": "root/domains/%2a.example.com",
		"a//b":                  "a//b",
	} {
		if got := filepath.ToSlash(s.Locate(key)); got != want {
			t.Errorf("Locate(%q) = %q, want %q", key, got, want)
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDirPassesOverStrays puts into the directory what others leave there.
func TestDirPassesOverStrays(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	s := store.NewDir(root)
	for _, key := range []string{"domains/example.com", "domains/example.org"} {
		if _, err := s.Put(t.Context(), key, []byte("value"), store.None); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"README.TXT", ".hidden", "lost+found", "domains/example.com~", "domains/#example.com#", "domains/.example.com.swp", "domains/.nfs000001",
		"domains/Example.Net", "domains/*.example.com", "domains/a b", "domains/%41%", "domains/%4", "domains/%zz", "domains/%61", "domains/%2A", "domains/a.",
		"domains/+", "domains/a+", "domains/aux", "domains/" + strings.Repeat("a", 200), "domains/\xff", "domains/\n", "%00", "%0a",
		"deep+/er", "Desktop/file", ".md/stray", ".git/config", "a%2fb", "%2f",
	} {
		path := filepath.Join(root, name)
		if runtime.GOOS == "linux" {
			writeFile(t, path, "stray")
		} else if os.MkdirAll(filepath.Dir(path), 0o700) == nil {
			_ = os.WriteFile(path, nil, 0o600) // not every system takes every name
		}
	}
	writeFile(t, filepath.Join(root, "domains", "large"), strings.Repeat("x", store.MaxValue+1))
	for _, dir := range []string{"empty/er", "domains/dir.example", strings.Repeat(strings.Repeat("a", 200)+"/", 6)} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"domains/link.example": "example.com", "domains/dangling.example": "nowhere", "loop": ".", "domains/up": "..", "other": os.TempDir(),
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Skip(err)
		}
	}

	want := []string{"domains/example.com", "domains/example.org"}
	if got := listed(t, s); !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
	for _, key := range []string{"domains/link.example", "domains/dangling.example", "domains/dir.example", "empty", "domains/example.com/x"} {
		if _, _, err := s.Get(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%q) = error %v, want fs.ErrNotExist", key, err)
		}
		if err := s.Delete(t.Context(), key, "1"); err != nil {
			t.Errorf("Delete(%q) = error %v, want nil", key, err)
		}
	}
	// A key may be put where a stray is; a link's target stays as it is.
	for _, key := range []string{"domains/link.example", "domains/dangling.example", "domains/dir.example"} {
		if _, err := s.Put(t.Context(), key, []byte("put"), store.None); err != nil {
			t.Errorf("Put(%q): %v", key, err)
		}
	}
	if got, _, err := s.Get(t.Context(), "domains/example.com"); string(got) != "value" || err != nil {
		t.Errorf("the target of a link that was put over = %q, error %v, want %q", got, err, "value")
	}
}

func TestDirLargeFile(t *testing.T) {
	s := store.NewDir(filepath.Join(t.TempDir(), "root"))
	file := s.Locate("domains/example.com")
	writeFile(t, file, strings.Repeat("x", store.MaxValue+1))
	_, _, err := s.Get(t.Context(), "domains/example.com")
	if !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), "example.com") {
		t.Errorf("Get = error %v, want ErrTooLarge that names the file", err)
	}
	if _, err := s.Put(t.Context(), "domains/example.com", nil, store.None); err == nil {
		t.Error("Put with None over a large file succeeded")
	}
	if _, err := s.Put(t.Context(), "domains/example.com", nil, store.Any); err != nil {
		t.Errorf("Put with Any over a large file: %v", err)
	}
}

func TestDirKeyBelowKey(t *testing.T) {
	s := store.NewDir(filepath.Join(t.TempDir(), "root"))
	for _, keys := range [][2]string{{"a", "a/b"}, {"x/y", "x"}} {
		if _, err := s.Put(t.Context(), keys[0], []byte("value"), store.None); err != nil {
			t.Fatal(err)
		}
		_, err := s.Put(t.Context(), keys[1], []byte("value"), store.None)
		if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Put of %q beside %q = error %v, want one that says why not", keys[1], keys[0], err)
		}
		if got, _, err := s.Get(t.Context(), keys[0]); string(got) != "value" || err != nil {
			t.Errorf("after that, Get(%q) = %q, error %v, want %q", keys[0], got, err, "value")
		}
	}
}

// TestDirLeavesNoEmptyDirectories has many write and remove keys of the same
// directories: one's empty directory is another's way to its file.
func TestDirLeavesNoEmptyDirectories(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	s := store.NewDir(root)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			key := "archive/deep/er/" + string(rune('a'+i))
			for range 25 {
				version, err := s.Put(t.Context(), key, []byte(key), store.None)
				if err != nil {
					t.Error(err)
				}
				if _, _, err := s.Get(t.Context(), key); err != nil {
					t.Error(err)
				}
				if err := s.Delete(t.Context(), key, version); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := os.Lstat(filepath.Join(root, "archive")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory is left (error %v)", err)
	}
}
