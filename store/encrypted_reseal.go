package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Reseal seals anew, with the newest key, every value of s that is sealed with
// an older one, and returns how many there were. s is a Store that [Encrypted]
// has returned. After an error, it may be called again, and does what is left.
//
// It may run while s is used: a value that changes meanwhile is looked at
// again. Each value that is sealed anew gets another Version, so that whoever
// is about to write it has to read it again, and an attempt whose lease it was
// begins anew: the best moment is one at which nothing is being ordered.
//
// Values that cannot be opened are left as they are, and do not stop it: the
// error tells of them, a [*SealError] for each of the first ten. While there
// is any error, the older keys are still needed.
func Reseal(ctx context.Context, s Store) (int, error) {
	return rewrite(ctx, s, (*encrypted).resealed)
}

// SealPlain seals every value of s that is not sealed, and returns how many
// there were. s is a Store that [Encrypted] has returned around one that held
// plain values. Nothing may use the Store without Encrypted at the time, or
// after.
//
// It takes every plain value for a true one: call it once, when encryption is
// turned on, and not as a remedy for an ErrNotSealed that nobody expected.
// Otherwise it works as [Reseal] does. What the disk, or a database, keeps of
// former plain values is not its to remove: private keys that have lain there
// may have been read.
func SealPlain(ctx context.Context, s Store) (int, error) {
	return rewrite(ctx, s, (*encrypted).plain)
}

// change returns the value that is to be sealed anew, or false if what the
// inner Store has at key may stay.
type change func(e *encrypted, key string, stored []byte, version Version) (value []byte, ok bool, err error)

func (e *encrypted) resealed(key string, stored []byte, version Version) ([]byte, bool, error) {
	id, err := sealedWith(stored)
	if newest := e.keys.newest(); err == nil && newest != nil && id == newest.id {
		return nil, false, nil
	}
	value, err := e.open(key, stored, version)
	return value, err == nil, err
}

func (e *encrypted) plain(_ string, stored []byte, _ Version) ([]byte, bool, error) {
	return stored, !bytes.HasPrefix(stored, []byte(sealForm)), nil
}

// maxRewriteErrors bounds the errors that are told one by one.
const maxRewriteErrors = 10

// rewrite makes a change wherever it is needed.
func rewrite(ctx context.Context, s Store, c change) (int, error) {
	around, ok := s.(interface{ sealing() *encrypted })
	if !ok {
		return 0, fmt.Errorf("store: %T is not a Store that Encrypted has returned", s)
	}
	e := around.sealing()
	done, failed := 0, 0
	var errs []error
	for item, err := range e.inner.List(ctx, "") {
		if err != nil {
			errs = append(errs, fmt.Errorf("store: looking for values to seal: %w", err))
			break
		}
		changed, err := e.rewriteOne(ctx, item.Key, c)
		if changed {
			done++
		}
		if err == nil {
			continue
		}
		if failed++; failed <= maxRewriteErrors {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if failed > maxRewriteErrors {
		errs = append(errs, fmt.Errorf("store: and %d more values", failed-maxRewriteErrors))
	}
	return done, errors.Join(errs...)
}

// rewriteOne makes a change to one value, by compare-and-swap, so that what
// somebody else writes is never lost.
func (e *encrypted) rewriteOne(ctx context.Context, key string, c change) (bool, error) {
	const tries = 10
	for n := 1; ; n++ {
		changed, err := e.tryRewrite(ctx, key, c)
		if n == tries || !errors.Is(err, ErrConflict) {
			return changed, err
		}
	}
}

func (e *encrypted) tryRewrite(ctx context.Context, key string, c change) (bool, error) {
	stored, version, err := e.inner.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	value, ok, err := c(e, key, stored, version)
	if err != nil || !ok {
		return false, err
	}
	sealed, err := e.seal(key, value)
	if err != nil {
		return false, err
	}
	_, err = e.inner.Put(ctx, key, sealed, version)
	return err == nil, err
}
