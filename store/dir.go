package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"runtime"
	"syscall"
)

// Dir keeps each value in a file of its own below one directory. Several
// processes of one machine may share the directory, and an operator finds
// the value of "domains/example.com" in the file domains/example.com.
// Make one with [NewDir]. It is also a [Scanner] and a [Locator].
//
// # Files
//
// A file is replaced as a whole: the content is written beside it, brought
// to the disk, and renamed over it, and the directories are brought to the
// disk before Put returns. Whatever breaks, and when, a key has its former
// value or the one put. Files have mode 0600 and directories 0700 under any
// umask. Names in lower case with digits, '-', '_' and '.' are kept as they
// are; other bytes become '%' and two hex digits: "*.example.com" is in
// %2a.example.com. A Version is a hash of the content, so that files may be
// edited or restored by hand, best with the tool's own write-and-rename.
//
// Where paths are limited to 1024 bytes (macOS, the BSDs), a key whose path is
// longer is refused by the system; none that a Manager uses is.
//
// What Dir cannot have written (names it would not give, files over 1 MiB,
// directories, links, sockets) is passed over by List. Dir may be given a
// symbolic link to its directory, but looks for none inside.
//
// # Sharing
//
// Readers take no lock. Writers of one key take one of 64 locks, in the
// hidden directory .md, by flock(2) or, on Windows, by opening a file for
// themselves; such a lock ends with its process, so that none is ever stale.
// Where neither is to be had (AIX, Solaris, js, wasip1), writing
// fails with [errors.ErrUnsupported].
//
// A network file system keeps these promises as far as its flock(2) and its
// caches do. Linux's NFS and SMB clients pass flock on to the server unless
// mounted with nolock, local_lock or nobrl; then writers on several machines
// may overwrite each other unseen, though no value is ever torn. A reader on
// another machine may see a former value for as long as its client caches
// names (NFS: acdirmax, 60 s). For several machines, a database is the better
// Store.
//
// # Cost
//
// A Get opens one file. A Put waits for the disk three times or more. List
// reads every file below its prefix, since a Version comes from the content,
// and holds the names, not the values, of one directory at a time.
type Dir struct {
	path   string
	disk   disk
	shards [shardCount]chan struct{} // each holds a token while its lock is held or waited for
}

// NewDir returns a Store in the directory of that path. NewDir does not touch
// the disk: a directory that is missing reads as empty, and is made, with its
// parents, by the first Put. A relative path is relative to the working
// directory of the moment.
//
// On Unix, a directory that its group or others may write to is refused by
// every method: who can replace its files can replace keys.
func NewDir(path string) *Dir {
	d := &Dir{disk: osDisk{}}
	if path != "" {
		d.path = filepath.Clean(path)
	}
	for i := range d.shards {
		d.shards[i] = make(chan struct{}, 1)
	}
	return d
}

// Locate implements [Locator]: it returns the path of key's file.
func (d *Dir) Locate(key string) string {
	if CheckKey(key) != nil {
		return key
	}
	return d.file(key)
}

func (d *Dir) file(key string) string {
	return filepath.Join(d.path, filepath.FromSlash(encodeKey(key)))
}

// Get implements [Store].
func (d *Dir) Get(ctx context.Context, key string) ([]byte, Version, error) {
	if err := checkCall(ctx, key); err != nil {
		return nil, None, err
	}
	if err := d.checkRoot(); err != nil && !isMissing(err) {
		return nil, None, err
	}
	value, err := d.readValue(ctx, d.file(key))
	switch {
	case isMissing(err):
		return nil, None, notExist(key)
	case err != nil:
		return nil, None, fmt.Errorf("store: get %q: %w", key, err)
	}
	return value, contentVersion(value), nil
}

// Put implements [Store].
func (d *Dir) Put(ctx context.Context, key string, value []byte, old Version) (Version, error) {
	if err := checkCall(ctx, key); err != nil {
		return None, err
	}
	if len(value) > MaxValue {
		return None, tooLarge(key)
	}
	if err := d.checkRoot(); err != nil && !isMissing(err) {
		return None, err
	}
	err := d.locked(ctx, key, func(shard int) error {
		if err := d.compare(ctx, key, old); err != nil {
			return err
		}
		return d.write(ctx, shard, d.file(key), value)
	})
	switch {
	case errors.Is(err, ErrConflict):
		return None, err
	case err != nil:
		return None, fmt.Errorf("store: put %q: %w", key, err)
	}
	return contentVersion(value), nil
}

// Delete implements [Store].
func (d *Dir) Delete(ctx context.Context, key string, old Version) error {
	if err := checkCall(ctx, key); err != nil {
		return err
	}
	err := d.checkRoot()
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	file := d.file(key)
	if _, err := d.regular(file); isMissing(err) {
		return nil
	}
	err = d.locked(ctx, key, func(int) error {
		if _, err := d.regular(file); isMissing(err) {
			return nil
		}
		if err := d.compare(ctx, key, old); err != nil {
			return err
		}
		return d.remove(ctx, file)
	})
	switch {
	case err == nil, errors.Is(err, ErrConflict):
		return err
	}
	return fmt.Errorf("store: delete %q: %w", key, err)
}

// List implements [Store].
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return items(d.Scan(ctx, prefix))
}

// checkRoot returns nil if the directory may be used, and an error that is
// fs.ErrNotExist if it is missing.
func (d *Dir) checkRoot() error {
	if d.path == "" {
		return errors.New("store: Dir has no path; make it with NewDir")
	}
	info, err := d.disk.stat(d.path)
	switch {
	case err != nil:
		return fmt.Errorf("store: %w", err)
	case !info.IsDir():
		return fmt.Errorf("store: %s is not a directory", d.path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("store: others may write to %s (mode %04o), and so replace the keys in it: "+
			"run chmod go-w '%s', or name a directory below it", d.path, info.Mode().Perm(), d.path)
	}
	return nil
}

// compare returns ErrConflict if key's Version is not old.
func (d *Dir) compare(ctx context.Context, key string, old Version) error {
	if old == Any {
		return nil
	}
	is := None
	value, err := d.readValue(ctx, d.file(key))
	switch {
	case isMissing(err):
	case err != nil:
		return err
	default:
		is = contentVersion(value)
	}
	if is != old {
		return conflict(key)
	}
	return nil
}

// isMissing reports that a file, or a directory on the way to it, is not
// there. ENOTDIR is what one gets for "a/b" where "a" is a file.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
