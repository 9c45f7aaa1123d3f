package store

import (
	"context"
	"io"
	"io/fs"
	"os"
	"time"
)

// disk is what Dir asks of the operating system, one method for each system
// call or two, so that a test can break each of them.
type disk interface {
	stat(path string) (fs.FileInfo, error)
	lstat(path string) (fs.FileInfo, error)
	open(path string) (io.ReadCloser, error)
	readDir(path string) ([]fs.DirEntry, error) // in no order
	create(path string) (tempFile, error)       // fails if it exists
	mkdir(path string) error
	chmod(path string, mode fs.FileMode) error
	rename(from, to string) error
	remove(path string) error // a file or an empty directory
	syncDir(path string) error
	lock(path string) (unlock func(), err error) // errLocked: someone else holds it
}

// tempFile is what Dir needs of a file that it writes.
type tempFile interface {
	io.WriteCloser
	Chmod(mode fs.FileMode) error
	Sync() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) stat(path string) (fs.FileInfo, error)     { return os.Stat(path) }
func (osDisk) lstat(path string) (fs.FileInfo, error)    { return os.Lstat(path) }
func (osDisk) open(path string) (io.ReadCloser, error)   { return os.Open(path) }
func (osDisk) mkdir(path string) error                   { return os.Mkdir(path, 0o700) }
func (osDisk) chmod(path string, mode fs.FileMode) error { return os.Chmod(path, mode) }
func (osDisk) rename(from, to string) error              { return os.Rename(from, to) }
func (osDisk) remove(path string) error                  { return os.Remove(path) }
func (osDisk) syncDir(path string) error                 { return syncDir(path) }
func (osDisk) lock(path string) (func(), error)          { return lockPath(path) }

func (osDisk) create(path string) (tempFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (osDisk) readDir(path string) ([]fs.DirEntry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// retry calls do again while it fails in a way that passes by itself, for
// about a second: on Windows a file can be neither renamed nor removed while
// someone reads it, and on NFS it may be replaced while it is opened.
func retry(ctx context.Context, do func() error) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := do()
		if err == nil || !passes(err) || wait > 512*time.Millisecond {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}
