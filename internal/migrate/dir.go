package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Bounds on a foreign directory. A chain of certificates has some kilobytes;
// what is larger than maxFile is no file of such a tool. maxReads bounds the
// files and directories that are opened in all, and maxBytes what is read of
// them: with some five files and nine kilobytes for each certificate, a
// directory with a hundred thousand of them is read.
const (
	maxFile    = 256 << 10
	maxEntries = 200_000
	maxReads   = 1_000_000
	maxBytes   = 1 << 30
)

var (
	errTooMuch = errors.New("there is more in it than can be imported at once")
	errNotFile = errors.New("it is not a regular file")
	errTooLong = fmt.Errorf("it is longer than %d KiB", maxFile>>10)
)

// dir reads below one directory, and nowhere else: an os.Root follows no
// link out of it.
type dir struct {
	ctx  context.Context // of the Read that it belongs to
	root *os.Root

	left  int   // how much may yet be opened
	bytes int64 // how much may yet be read
}

// openDir opens place. If place is one file, or one of certbot's lineages,
// the directory is the one that it belongs to, and only its name in there.
func openDir(ctx context.Context, place string) (d *dir, only string, err error) {
	info, err := os.Stat(place)
	if err != nil {
		return nil, "", err
	}
	base := place
	switch {
	case info.Mode().IsRegular():
		base, only = filepath.Split(place)
		base = filepath.Clean(base)
	case info.IsDir():
		if base, only, err = certbotBase(place); err != nil {
			return nil, "", err
		}
	default:
		return nil, "", errors.New("it is neither a directory nor a file")
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, "", err
	}
	return &dir{ctx: ctx, root: root, left: maxReads, bytes: maxBytes}, only, nil
}

// certbotBase returns certbot's configuration directory for the directory
// "live" in it and for that of one certificate there, and place for all others.
// The links in there lead up and over to "archive".
func certbotBase(place string) (base, only string, err error) {
	whole, err := filepath.Abs(place)
	if err != nil {
		return "", "", err
	}
	up := filepath.Dir(whole)
	if filepath.Base(up) == "live" && isDir(filepath.Join(filepath.Dir(up), "archive")) {
		return filepath.Dir(up), filepath.Base(whole), nil
	}
	if filepath.Base(whole) == "live" && isDir(filepath.Join(up, "archive")) {
		return up, "", nil
	}
	return place, "", nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func (d *dir) close() { _ = d.root.Close() }

// spend counts one thing that is opened.
func (d *dir) spend() error {
	if err := context.Cause(d.ctx); err != nil {
		return err
	}
	if d.left--; d.left < 0 {
		return errTooMuch
	}
	return nil
}

// read returns the content of a regular file. Links are not followed: one
// that may be is resolved before.
func (d *dir) read(name string) ([]byte, error) {
	if err := d.spend(); err != nil {
		return nil, err
	}
	info, err := d.root.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errNotFile // opening a named pipe might wait for ever
	case info.Size() > maxFile:
		return nil, errTooLong
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The file may be another than a moment ago, so that its size is no bound.
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLong
	}
	if d.bytes -= int64(len(data)); d.bytes < 0 {
		err = errTooMuch
	}
	return data, err
}

// readIfThere is read, but a file that is missing is empty.
func (d *dir) readIfThere(name string) ([]byte, error) {
	data, err := d.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// entries are the names in one directory, in order.
type entries struct {
	dirs, files []string
	links       []string // that lead to whatever
}

// list returns what is in a directory. Whatever is neither file, directory nor
// link is left out.
func (d *dir) list(name string) (entries, error) {
	var e entries
	if err := d.spend(); err != nil {
		return e, err
	}
	info, err := d.root.Lstat(name)
	if err != nil {
		return e, err
	}
	if !info.IsDir() {
		return e, errors.New("it is not a directory")
	}
	f, err := d.root.Open(name)
	if err != nil {
		return e, err
	}
	defer f.Close()
	all, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return e, err
	}
	if len(all) > maxEntries {
		return e, errTooMuch
	}
	for _, entry := range all {
		switch {
		case entry.IsDir():
			e.dirs = append(e.dirs, entry.Name())
		case entry.Type().IsRegular():
			e.files = append(e.files, entry.Name())
		case entry.Type()&fs.ModeSymlink != 0:
			e.links = append(e.links, entry.Name())
		}
	}
	slices.Sort(e.dirs)
	slices.Sort(e.files)
	slices.Sort(e.links)
	return e, nil
}

// eachDir calls do for each directory in name, with its path. If name cannot
// be listed, that is reported, unless it is missing.
func (r *reader) eachDir(name string, do func(path string) error) error {
	e, err := r.dir.list(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.refuse(aDirectory, name, "", err)
	}
	for _, sub := range e.dirs {
		if err := do(path.Join(name, sub)); err != nil {
			return err
		}
	}
	return nil
}

// fatal reports whether an error ends all reading.
func fatal(err error) bool {
	return errors.Is(err, errTooMuch) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// explain says why something was not taken, for people.
func explain(err error) string {
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "there is no permission to read it: import as the user that it belongs to, or as root"
	case errors.Is(err, fs.ErrNotExist):
		if errors.As(err, &p) {
			return fmt.Sprintf("%.200q is missing", p.Path)
		}
		return "it is missing"
	case errors.As(err, &p):
		return p.Err.Error()
	}
	return err.Error()
}
