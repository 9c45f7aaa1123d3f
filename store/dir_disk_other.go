//go:build !windows

package store

import (
	"errors"
	"os"
	"syscall"
)

// passes reports an error that goes away when one tries again: on NFS, a
// file that another machine has replaced between its lookup and its use.
func passes(err error) bool { return errors.Is(err, syscall.ESTALE) }

// syncDir brings the names in a directory to the disk.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.Sync()
	// fsync(2): EINVAL is a file system that does not do that for
	// directories. It promises nothing, and there is nothing to wait for.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
