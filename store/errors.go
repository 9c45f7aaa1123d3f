package store

import (
	"context"
	"fmt"
	"io/fs"
)

// checkCall says why an operation on key cannot begin.
func checkCall(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func notExist(key string) error {
	return fmt.Errorf("store: no value for %q: %w", key, fs.ErrNotExist)
}

func conflict(key string) error { return fmt.Errorf("%w: %q", ErrConflict, key) }

func tooLarge(where string) error { return fmt.Errorf("%w: %q", ErrTooLarge, where) }
