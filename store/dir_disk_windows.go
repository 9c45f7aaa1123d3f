package store

import (
	"errors"
	"syscall"
)

// What Windows says of a file that someone else is using, or that goes away
// when they have finished. ("System Error Codes")
const (
	errAccessDenied     = syscall.ERROR_ACCESS_DENIED
	errSharingViolation = syscall.Errno(32)
	errLockViolation    = syscall.Errno(33)
	errDeletePending    = syscall.Errno(303)
)

// passes reports an error that goes away when the other has finished.
func passes(err error) bool {
	return errors.Is(err, errAccessDenied) || errors.Is(err, errSharingViolation) ||
		errors.Is(err, errLockViolation) || errors.Is(err, errDeletePending)
}

// syncDir does nothing: Windows cannot flush a directory, and NTFS keeps a
// journal of renames.
func syncDir(string) error { return nil }
