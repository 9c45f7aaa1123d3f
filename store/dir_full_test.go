//go:build linux

package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// TestDirOnFullDisk fills a disk of 64 KiB: what was there stays, and can be
// replaced and removed when there is space again.
func TestDirOnFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("cannot mount a small disk, as root could: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	d := NewDir(filepath.Join(mount, "root"))
	value := func(i, size int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, size) }
	sizes := make(map[string]int)
	check := func() {
		t.Helper()
		for i := range 40 {
			key := fmt.Sprintf("k/%02d", i)
			got := read(t, d, key)
			if want := string(value(i, sizes[key])); got != want {
				t.Fatalf("%s has %d bytes, %.10q…; want %d bytes, %.10q…", key, len(got), got, len(want), want)
			}
		}
		if temps := tempsIn(t, d); len(temps) > 0 {
			t.Fatalf("temporary files are left: %q", temps)
		}
	}
	full := 0
	for round := range 2 { // the second replaces small values by larger ones
		for i := range 40 {
			key, size := fmt.Sprintf("k/%02d", i), 3000+round*2000
			_, err := d.Put(t.Context(), key, value(i, size), Any)
			switch {
			case err == nil:
				sizes[key] = size
			case errors.Is(err, syscall.ENOSPC):
				full++
			default:
				t.Fatal(err)
			}
			check()
		}
	}
	if full == 0 || len(sizes) == 0 {
		t.Fatalf("%d Puts found the disk full and %d keys were put, want some of both", full, len(sizes))
	}
	for i := range 40 {
		key := fmt.Sprintf("k/%02d", i)
		if err := d.Delete(t.Context(), key, Any); err != nil {
			t.Fatalf("Delete on a full disk: %v", err)
		}
		delete(sizes, key)
		if i == 5 {
			mustPut(t, d, "k/00", string(value(0, 3000)))
			sizes["k/00"] = 3000
		}
		check()
	}
}
