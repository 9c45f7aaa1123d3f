package record

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/manageddomains/md/store"
)

// Active reads the active Set of a Domain. The error is fs.ErrNotExist if
// there is none, or a *BrokenError.
func (r *Records) Active(ctx context.Context, name string) (*Set, store.Version, error) {
	return read(ctx, r, activeKey(name), decodeComplete)
}

// ActiveAt is Active for one who has read the active Set before, at the
// Version known. Equal Versions mean equal content: what was checked then, the
// keys above all, which takes long, is not checked again.
func (r *Records) ActiveAt(ctx context.Context, name string, known store.Version) (*Set, store.Version, error) {
	return readAt(ctx, r, activeKey(name), known, decodeComplete, decodeUnchecked)
}

// decodeComplete reads a Set of which every credential has its certificate
// and can be used.
func decodeComplete(data []byte) (*Set, error) {
	set, err := DecodeSet(data)
	if err != nil {
		return nil, err
	}
	for i := range set.Credentials {
		if err := set.Credentials[i].usable(); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// usable checks that a TLS server can serve the credential, whatever the
// certificate says of names and dates, and whether or not a key that is kept
// elsewhere can be reached.
func (c *Credential) usable() error {
	leaf, err := c.Leaf()
	if err != nil {
		return err
	}
	public, err := c.Public()
	if err != nil {
		return err
	}
	known, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !known.Equal(public) {
		return fmt.Errorf("the %.40q certificate is not for the private key that stands with it", c.KeyType)
	}
	return nil
}

// Staged reads the Set of a Domain that is complete or being completed. The
// error is fs.ErrNotExist if there is none, or a *BrokenError.
func (r *Records) Staged(ctx context.Context, name string) (*Set, store.Version, error) {
	return read(ctx, r, stagingKey(name), DecodeSet)
}

// Stage writes a Set into staging at the Version read.
func (r *Records) Stage(ctx context.Context, name string, set *Set, old store.Version) (store.Version, error) {
	return write(ctx, r, stagingKey(name), old, set.Encode, DecodeSet)
}

// Unstage removes the staged Set at the Version read. Set, which is not nil if
// it could be read, goes to the archive if any of its credentials has its
// certificate.
func (r *Records) Unstage(ctx context.Context, name string, set *Set, v store.Version) error {
	if set != nil && slices.ContainsFunc(set.Credentials, func(c Credential) bool { return c.Complete() }) {
		if err := r.archive(ctx, name, set); err != nil {
			return err
		}
	}
	return r.removeStaged(ctx, name, v)
}

func (r *Records) removeStaged(ctx context.Context, name string, v store.Version) error {
	if err := r.Store.Delete(ctx, stagingKey(name), v); err != nil {
		return fmt.Errorf("removing %s: %w", store.Locate(r.Store, stagingKey(name)), err)
	}
	return nil
}

// archive copies a Set into the archive. Its key is made of its content, so
// that it may be repeated.
func (r *Records) archive(ctx context.Context, name string, set *Set) error {
	id, err := ArchiveID(set)
	if err != nil {
		return err
	}
	_, err = write(ctx, r, archivePrefix(name)+id, store.None, set.Encode, DecodeSet)
	if errors.Is(err, store.ErrConflict) {
		return nil // a former run got this far
	}
	return err
}

// ErrSuperseded is what a check of Activate returns when the active Set is
// better than the staged one.
var ErrSuperseded = errors.New("the active certificates are better than the staged ones")

// Activate makes the staged Set of a Domain its active one, and returns what
// is active then. A Set that is returned with an error is active all the
// same; only something behind the commit has failed.
//
// The error is fs.ErrNotExist if nothing is staged; a *BrokenError if what is
// staged cannot be read; what check says if the staged Set may not be used.
// With ErrSuperseded it goes to the archive. The active Set given to check is
// nil if there is none that can be read.
//
// Whatever step breaks, before or after its effect, the active Set is the
// former or the staged one, and one more call finishes the work.
func (r *Records) Activate(ctx context.Context, name string, check func(staged, active *Set) error) (*Set, store.Version, error) {
	const tries = 5
	for n := 1; ; n++ {
		set, v, err := r.activate(ctx, name, check)
		if set != nil || n == tries || !errors.Is(err, store.ErrConflict) {
			return set, v, err
		}
		// Somebody else activated meanwhile, or our own Put happened although
		// its answer was lost: look again. Behind the commit, a conflict says
		// that something else is staged already, which is not ours to touch.
	}
}

func (r *Records) activate(ctx context.Context, name string, check func(staged, active *Set) error) (*Set, store.Version, error) {
	staged, stagedVersion, err := r.Staged(ctx, name)
	if err != nil {
		return nil, store.None, err
	}
	active, activeVersion, err := r.activeOrAside(ctx, name)
	if err != nil {
		return nil, store.None, err
	}
	if active != nil {
		same, err := equal(active, staged)
		if err != nil {
			return nil, store.None, err
		}
		if same { // a former run got past the commit
			return active, activeVersion, r.removeStaged(ctx, name, stagedVersion)
		}
	}
	err = check(staged, active)
	if active != nil && errors.Is(err, ErrSuperseded) {
		return active, activeVersion, r.Unstage(ctx, name, staged, stagedVersion)
	}
	if err != nil {
		return nil, store.None, err
	}
	if active != nil {
		if err := r.archive(ctx, name, active); err != nil {
			return nil, store.None, err
		}
	}
	// This Put is the commit: before it the former Set is in use, after it
	// the staged one.
	v, err := write(ctx, r, activeKey(name), activeVersion, staged.Encode, decodeComplete)
	if err != nil {
		return nil, store.None, err
	}
	return staged, v, r.removeStaged(ctx, name, stagedVersion)
}

// activeOrAside reads the active Set, nil if there is none. A broken one is
// copied to the archive, and may be replaced at the Version returned.
func (r *Records) activeOrAside(ctx context.Context, name string) (*Set, store.Version, error) {
	active, v, err := r.Active(ctx, name)
	var broken *BrokenError
	switch {
	case err == nil:
		return active, v, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, store.None, nil
	case errors.As(err, &broken):
		return nil, broken.Version, r.SetAside(ctx, name, broken)
	}
	return nil, store.None, err
}

func equal(a, b *Set) (bool, error) {
	x, err := a.Encode()
	if err != nil {
		return false, err
	}
	y, err := b.Encode()
	return bytes.Equal(x, y), err
}

// Adopt makes set the active Set of a Domain that has none, or only a broken
// one at the Version old.
func (r *Records) Adopt(ctx context.Context, name string, set *Set, old store.Version) (store.Version, error) {
	return write(ctx, r, activeKey(name), old, set.Encode, decodeComplete)
}
