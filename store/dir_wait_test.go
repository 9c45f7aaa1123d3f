package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// busyDisk is a disk whose locks are held by another process until a moment.
type busyDisk struct {
	osDisk
	until time.Time
	tries int
}

func (d *busyDisk) lock(string) (func(), error) {
	d.tries++
	if time.Now().Before(d.until) {
		return nil, errLocked
	}
	return func() {}, nil
}

func TestDirWaitsForLock(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	mustPut(t, NewDir(root), "a", "was")
	synctest.Test(t, func(t *testing.T) {
		disk := &busyDisk{until: time.Now().Add(time.Minute)}
		d := NewDir(root)
		d.disk = disk
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { mustPut(t, d, "a", "is") })
		}
		wg.Wait()
		if waited := time.Since(disk.until); waited < 0 || waited > 10*time.Millisecond {
			t.Errorf("Put came %v after the lock was free, want 0 to 10 ms", waited)
		}
		if disk.tries > 10_000 {
			t.Errorf("eight Puts asked %d times for the lock in a minute, want one of them to ask at a time", disk.tries)
		}
	})
}

func TestDirWaitsAsLongAsItsContext(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	mustPut(t, NewDir(root), "a", "was")
	synctest.Test(t, func(t *testing.T) {
		d := NewDir(root)
		d.disk = &busyDisk{until: time.Now().Add(time.Hour)}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("enough waited"))
		defer cancel()
		errs := make(chan error)
		go func() {
			_, err := d.Put(ctx, "a", []byte("first"), Any)
			errs <- err
		}()
		go func() { errs <- d.Delete(ctx, "a", Any) }() // waits for the Put
		for range 2 {
			if err := <-errs; err == nil || !strings.Contains(err.Error(), "enough waited") {
				t.Errorf("after the context ended, error = %v, want its cause", err)
			}
		}
		if got := read(t, d, "a"); got != "was" {
			t.Errorf("a = %q, want %q", got, "was")
		}
	})
}

func TestDirLockIsHeldBetweenDirs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	mustPut(t, NewDir(root), "a", "was")
	path := filepath.Join(root, hidden, fmt.Sprintf("lock-%02x", shardOf("a")))
	unlock, err := lockPath(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockPath(path); !errors.Is(err, errLocked) {
		t.Errorf("a second lock = error %v, want %v", err, errLocked)
	}
	unlock()
	unlock, err = lockPath(path)
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
}

// movingDisk is one on which each reading of a directory misses another name,
// as happens when files are renamed meanwhile.
type movingDisk struct {
	osDisk
	n int
}

func (d *movingDisk) readDir(path string) ([]fs.DirEntry, error) {
	entries, err := d.osDisk.readDir(path)
	miss := string(rune('a' + d.n%4))
	d.n++
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == miss }), err
}

func TestDirListSeesWhatOneReadingMissed(t *testing.T) {
	d := NewDir(filepath.Join(t.TempDir(), "root"))
	want := []string{"a", "b", "c", "d"}
	for _, key := range want {
		mustPut(t, d, key, "value")
	}
	d.disk = &movingDisk{}
	var got []string
	for item, err := range d.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
}

func TestRetry(t *testing.T) {
	passing := syscall.ESTALE
	if runtime.GOOS == "windows" {
		passing = syscall.Errno(32) // ERROR_SHARING_VIOLATION
	}
	synctest.Test(t, func(t *testing.T) {
		start, calls := time.Now(), 0
		err := retry(t.Context(), func() error { calls++; return &fs.PathError{Err: passing} })
		if !errors.Is(err, passing) || calls < 5 || time.Since(start) > 2*time.Second {
			t.Errorf("retry gave up after %d calls and %v with %v, want some calls in a second or so", calls, time.Since(start), err)
		}
		calls = 0
		err = retry(t.Context(), func() error {
			if calls++; calls < 3 {
				return passing
			}
			return nil
		})
		if err != nil || calls != 3 {
			t.Errorf("retry = %v after %d calls, want success with the third", err, calls)
		}
		calls = 0
		retry(t.Context(), func() error { calls++; return fs.ErrNotExist })
		if calls != 1 {
			t.Errorf("retry called %d times for an error that stays, want once", calls)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		calls = 0
		if err := retry(ctx, func() error { calls++; return passing }); !errors.Is(err, passing) || calls != 1 {
			t.Errorf("retry with an ended context = %v after %d calls, want the error of one", err, calls)
		}
	})
}
