package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// shardCount is how many writers can be at work at once. Keys that share a
// lock wait for each other and nothing worse.
const shardCount = 64

// errLocked is what disk.lock returns for a lock that someone else holds.
var errLocked = errors.New("the lock is held by another process")

func shardOf(key string) int {
	return int(sha256.Sum256([]byte(key))[0]) % shardCount
}

// locked calls do while it holds the lock of key's shard, waiting for it
// until ctx ends. Goroutines of this process queue up in order, so that only
// one of them asks for the file's lock, which has no queue. The lock is held
// over the disk's work: this is what it is for.
func (d *Dir) locked(ctx context.Context, key string, do func(shard int) error) error {
	shard := shardOf(key)
	select {
	case d.shards[shard] <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("waiting for another write in this process: %w", context.Cause(ctx))
	}
	defer func() { <-d.shards[shard] }()

	unlock, err := d.lockFile(ctx, filepath.Join(d.path, hidden, fmt.Sprintf("lock-%02x", shard)))
	if err != nil {
		return err
	}
	defer unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return do(shard)
}

// lockFile locks the file of that path, which it makes if needed.
func (d *Dir) lockFile(ctx context.Context, path string) (unlock func(), err error) {
	const longest = 10 * time.Millisecond // small against a Put, so that busy neighbours leave a chance
	for wait := time.Millisecond; ; wait = min(2*wait, longest) {
		unlock, err := d.disk.lock(path)
		switch {
		case err == nil:
			return unlock, nil
		case errors.Is(err, fs.ErrNotExist):
			if err := d.prepare(); err != nil {
				return nil, err
			}
			wait = 0
		case !errors.Is(err, errLocked):
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock %s: %w", path, context.Cause(ctx))
		}
	}
}

// prepare makes the root, its missing parents, and the hidden directory,
// which comes last: where it is, the root's place in its own parent has been
// brought to the disk, by this process or another.
func (d *Dir) prepare() error {
	if err := d.makeDir(d.path); err != nil {
		return err
	}
	if err := d.checkRoot(); err != nil {
		return err
	}
	// A parent that may not be read is one in which the root was not just made.
	if err := d.disk.syncDir(filepath.Dir(d.path)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return d.makeDir(filepath.Join(d.path, hidden))
}
