package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
)

// hidden is the directory below the root that holds locks and temporary
// files. encodeName never gives a name that begins with a dot.
const hidden = ".md"

// tempPrefix is what the names of a shard's temporary files begin with. They
// are written under the shard's lock, so that whoever holds it knows that
// those it finds belong to a process that died.
func tempPrefix(shard int) string { return fmt.Sprintf("temp-%02x-", shard) }

// write replaces the content of file. It is called with the shard's lock
// held. The rename is the commit: before it nothing has changed, and after
// it the value is there, even if the disk then fails to promise that it stays.
func (d *Dir) write(ctx context.Context, shard int, file string, value []byte) error {
	if err := d.removeTemps(shard); err != nil {
		return err
	}
	// The random part keeps values whole even where locks do not work: two
	// writers never share a temporary file.
	temp := filepath.Join(d.path, hidden, fmt.Sprintf("%s%016x", tempPrefix(shard), rand.Uint64()))
	err := d.writeTemp(temp, value)
	if err == nil {
		err = d.install(ctx, temp, file)
	}
	if err != nil {
		// If this fails too, the next writer of the shard sees to it.
		_ = d.disk.remove(temp)
		return err
	}
	return d.syncUp(filepath.Dir(file))
}

func (d *Dir) removeTemps(shard int) error {
	entries, err := d.disk.readDir(filepath.Join(d.path, hidden))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix(shard)) {
			continue
		}
		err := d.disk.remove(filepath.Join(d.path, hidden, e.Name()))
		if err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

// writeTemp makes a file with that content and brings it to the disk. After
// a failed fsync(2) the kernel may have dropped what could not be written,
// and a second fsync would say that all is well: the file is given up.
func (d *Dir) writeTemp(temp string, value []byte) error {
	f, err := d.disk.create(temp)
	if err != nil {
		return err
	}
	err = d.fill(f, value)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (d *Dir) fill(f tempFile, value []byte) error {
	if err := f.Chmod(0o600); err != nil { // the umask may have taken bits away
		return err
	}
	n, err := f.Write(value)
	if err != nil {
		return err
	}
	if n < len(value) {
		return io.ErrShortWrite
	}
	return f.Sync()
}

// install renames temp to file. A directory on the way may be missing, and
// may go away again while a Delete finds it empty; and where file is to be,
// an empty directory may stand that a crash has left behind.
func (d *Dir) install(ctx context.Context, temp, file string) error {
	var err error
	for range 16 {
		err = retry(ctx, func() error { return d.disk.rename(temp, file) })
		if err == nil {
			return nil
		}
		if clearErr := d.clearWay(file, err); clearErr != nil {
			return clearErr
		}
	}
	return err
}

// clearWay undoes the cause of a rename to file that failed with err, or
// returns an error if it cannot.
func (d *Dir) clearWay(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = d.makeDir(filepath.Dir(file))
	} else if d.isDir(file) {
		err = d.disk.remove(file)
		if err != nil && d.isDir(file) {
			return fmt.Errorf("%s is a directory: where other keys are below a key, it can have no value (%w)", file, err)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	return err
}

func (d *Dir) isDir(path string) bool {
	info, err := d.disk.lstat(path)
	return err == nil && info.IsDir()
}

// makeDir makes a directory and its missing parents, each on the disk
// before it returns.
func (d *Dir) makeDir(path string) error {
	err := d.disk.mkdir(path)
	parent := filepath.Dir(path)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := d.makeDir(parent); err != nil {
			return err
		}
		err = d.disk.mkdir(path)
	}
	if errors.Is(err, fs.ErrExist) {
		return d.finishDir(path)
	}
	if err != nil {
		return err
	}
	if err := d.disk.chmod(path, 0o700); err != nil { // as in fill
		return err
	}
	return d.disk.syncDir(parent)
}

// finishDir takes a directory that exists. One with no permissions at all
// was made under a umask of 0777, by a process that died before its chmod,
// or has not come to it yet.
func (d *Dir) finishDir(path string) error {
	info, err := d.disk.stat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is in the way: it is not a directory", path)
	case info.Mode().Perm() == 0:
		return d.disk.chmod(path, 0o700)
	}
	return nil
}

// remove removes a value's file, and the directories that this leaves empty.
func (d *Dir) remove(ctx context.Context, file string) error {
	err := retry(ctx, func() error { return d.disk.remove(file) })
	if err != nil && !isMissing(err) {
		return err
	}
	if err := d.syncUp(filepath.Dir(file)); err != nil {
		return err
	}
	for dir := filepath.Dir(file); dir != d.path; dir = filepath.Dir(dir) {
		if d.disk.remove(dir) != nil {
			break // it is not empty, or will be found empty another time
		}
	}
	return nil
}

// syncUp brings dir and all directories above it, up to the root, to the
// disk. All, because another process may have made one of them a moment ago,
// and not have come to its own fsync. One that is missing has been removed
// as empty; what was in it is gone when its parent says so.
func (d *Dir) syncUp(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		if err := d.disk.syncDir(dir); err != nil && !isMissing(err) {
			return err
		}
		if dir == d.path {
			return nil
		}
	}
}
