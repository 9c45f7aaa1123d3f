//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestDirRefusesWhatOthersMayWrite(t *testing.T) {
	for _, mode := range []fs.FileMode{0o777, 0o770, 0o702, 0o720, 0o777 | fs.ModeSticky} {
		t.Run(mode.String(), func(t *testing.T) {
			d := NewDir(filepath.Join(t.TempDir(), "root"))
			mustPut(t, d, "a", "was")
			if err := os.Chmod(d.path, mode); err != nil {
				t.Fatal(err)
			}
			_, _, getErr := d.Get(t.Context(), "a")
			_, putErr := d.Put(t.Context(), "a", nil, Any)
			deleteErr := d.Delete(t.Context(), "a", Any)
			var listErr error
			for _, err := range d.List(t.Context(), "") {
				listErr = err
			}
			for what, err := range map[string]error{"Get": getErr, "Put": putErr, "Delete": deleteErr, "List": listErr} {
				if err == nil || !strings.Contains(err.Error(), "chmod go-w '"+d.path+"'") {
					t.Errorf("%s = error %v, want one that names the chmod to run", what, err)
				}
			}
			if err := os.Chmod(d.path, 0o755); err != nil {
				t.Fatal(err)
			}
			if got := read(t, d, "a"); got != "was" {
				t.Errorf("a = %q in a directory that others may only read, want %q", got, "was")
			}
		})
	}
}

func TestDirDoesNotWaitForPipes(t *testing.T) {
	d := NewDir(filepath.Join(t.TempDir(), "r")) // sockets have short names
	mustPut(t, d, "a", "value")
	if err := syscall.Mkfifo(d.Locate("pipe"), 0o600); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("unix", d.Locate("socket"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	for _, key := range []string{"pipe", "socket"} {
		if _, _, err := d.Get(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%q) = error %v, want fs.ErrNotExist", key, err)
		}
	}
	for item, err := range d.List(t.Context(), "") {
		if err != nil || item.Key != "a" {
			t.Errorf("List yields %q, error %v; want a only", item.Key, err)
		}
	}
	mustPut(t, d, "pipe", "over it")
	if got := read(t, d, "pipe"); got != "over it" {
		t.Errorf("pipe = %q, want %q", got, "over it")
	}
}

func init() { children["umask"] = umaskInChild }

// umaskInChild writes and removes under a umask, if it can as a user whom the
// modes of files concern.
func umaskInChild(ctx context.Context, d *Dir, args []string) error {
	mask, err := strconv.ParseInt(args[0], 8, 32)
	if err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := syscall.Setgid(65534); err != nil {
			return err
		}
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	syscall.Umask(int(mask))
	for _, key := range []string{"a/b/c", "a/b/d", "a/b/c", "gone/x"} {
		if _, err := d.Put(ctx, key, []byte("value"), Any); err != nil {
			return err
		}
	}
	if err := d.Delete(ctx, "gone/x", Any); err != nil {
		return err
	}
	value, _, err := d.Get(ctx, "a/b/c")
	if string(value) != "value" {
		return fmt.Errorf("Get = %q, error %v", value, err)
	}
	return nil
}

func TestDirModesUnderAnyUmask(t *testing.T) {
	for _, mask := range []string{"0", "022", "0777"} {
		t.Run("umask "+mask, func(t *testing.T) {
			place := t.TempDir()
			if os.Getuid() == 0 {
				for dir := place; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
					if err := os.Chmod(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chown(place, 65534, 65534); err != nil {
					t.Skip(err)
				}
			}
			root := filepath.Join(place, "deep", "root")
			if err := child(t, "umask", root, mask).Run(); err != nil {
				t.Fatal(err)
			}
			files := 0
			err := filepath.WalkDir(filepath.Join(place, "deep"), func(path string, e fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := e.Info()
				if err != nil {
					return err
				}
				want := fs.FileMode(0o600)
				if e.IsDir() {
					want = 0o700
				} else if strings.HasPrefix(e.Name(), "lock-") {
					return nil // empty
				}
				files++
				if got := info.Mode().Perm(); got != want {
					t.Errorf("%s has mode %04o, want %04o", path, got, want)
				}
				return nil
			})
			if err != nil || files != 7 { // deep, root, .md, a, b, c, d
				t.Errorf("found %d files and directories, error %v, want 7", files, err)
			}
		})
	}
}

// TestDirFinishesDirectories finds a directory that a process made under a
// umask of 0777 and did not live to chmod.
func TestDirFinishesDirectories(t *testing.T) {
	d := NewDir(filepath.Join(t.TempDir(), "root"))
	mustPut(t, d, "kept", "other")
	dir := filepath.Join(d.path, "x")
	if err := os.Mkdir(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.makeDir(filepath.Join(dir, "y")); err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	if err := d.makeDir(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, error %v, want 0700", info.Mode(), err)
	}
}
