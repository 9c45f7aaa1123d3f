//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package store

import (
	"errors"
	"fmt"
	"runtime"
)

// lockPath fails: without a lock that ends with its process, writers could
// not share a directory.
func lockPath(string) (unlock func(), err error) {
	return nil, fmt.Errorf("%w: store.Dir cannot lock files on %s", errors.ErrUnsupported, runtime.GOOS)
}
