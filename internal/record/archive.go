package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md/store"
)

// What is kept in the archive of a Domain: so many of each kind, all Sets of
// the last days, and nothing that has been there for long.
const (
	keepSets   = 10
	keepBroken = 5
	keepFresh  = 7 * 24 * time.Hour
	keepFor    = 400 * 24 * time.Hour
)

const (
	archiveTime  = "20060102T150405Z"
	brokenPrefix = "broken-"
)

// Former is a Set in the archive.
type Former struct {
	ID  string // the last component of its key
	Set *Set
}

// Archived reads the former Sets of a Domain, newest first. Those that cannot
// be read are left out.
func (r *Records) Archived(ctx context.Context, name string) ([]Former, error) {
	ids, err := r.archiveIDs(ctx, name)
	if err != nil {
		return nil, err
	}
	var list []Former
	for _, id := range slices.Backward(ids) {
		set, err := r.FromArchive(ctx, name, id)
		var broken *BrokenError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &broken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, Former{ID: id, Set: set})
	}
	return list, nil
}

// FromArchive reads one former Set of a Domain.
func (r *Records) FromArchive(ctx context.Context, name, id string) (*Set, error) {
	if strings.HasPrefix(id, brokenPrefix) || strings.Contains(id, "/") {
		return nil, fmt.Errorf("%q is not a Set in the archive of %s: %w", id, name, fs.ErrNotExist)
	}
	set, _, err := read(ctx, r, archivePrefix(name)+id, decodeComplete)
	return set, err
}

// Unfinished finds the newest credential in the archive of a Domain that lacks
// its certificate and is wanted; nil if there is none. One whose order is there
// with its certificate, too, lacks nothing.
func (r *Records) Unfinished(ctx context.Context, name string, wanted func(*Credential) bool) (*Credential, error) {
	ids, err := r.archiveIDs(ctx, name)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return strings.HasPrefix(id, brokenPrefix) })
	var all []*Credential
	finished := make(map[string]bool) // by order
	for _, id := range ids[max(len(ids)-keepSets, 0):] {
		set, _, err := read(ctx, r, archivePrefix(name)+id, DecodeSet)
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*BrokenError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, c := range set.Credentials {
			switch {
			case c.Complete():
				finished[c.Order] = true
			case wanted(&c):
				all = append(all, &c)
			}
		}
	}
	for _, c := range slices.Backward(all) {
		if !finished[c.Order] {
			return c, nil
		}
	}
	return nil, nil
}

// ArchiveID is the ID that a Set has, or would have, in the archive.
func ArchiveID(set *Set) (string, error) {
	hash, err := set.Hash()
	return set.When().UTC().Format(archiveTime) + "-" + hash, err
}

// Keep copies a Set into the archive of a Domain.
func (r *Records) Keep(ctx context.Context, name string, set *Set) error {
	return r.archive(ctx, name, set)
}

// archiveIDs lists what is in the archive of a Domain, ascending, so that the
// oldest Sets come first.
func (r *Records) archiveIDs(ctx context.Context, name string) ([]string, error) {
	prefix := archivePrefix(name)
	var ids []string
	for item, err := range r.Store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("looking into the archive of %s: %w", name, err)
		}
		ids = append(ids, item.Key[len(prefix):])
	}
	return ids, nil
}

// pruneBroken removes broken values over the bound from an archive, but not
// the one that has just come: their IDs do not tell which is the oldest.
func (r *Records) pruneBroken(ctx context.Context, name, last string) error {
	ids, err := r.archiveIDs(ctx, name)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, brokenPrefix) || id == last })
	return r.removeArchived(ctx, name, ids[:max(len(ids)-(keepBroken-1), 0)])
}

func (r *Records) removeArchived(ctx context.Context, name string, ids []string) error {
	for _, id := range ids {
		if err := r.Store.Delete(ctx, archivePrefix(name)+id, store.Any); err != nil {
			return fmt.Errorf("pruning the archive of %s: %w", name, err)
		}
	}
	return nil
}

// Prune removes from the archive of a Domain what is too old or too much.
func (r *Records) Prune(ctx context.Context, name string, now time.Time) error {
	ids, err := r.archiveIDs(ctx, name)
	if err != nil {
		return err
	}
	broken := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.HasPrefix(id, brokenPrefix) })
	sets := slices.DeleteFunc(ids, func(id string) bool { return strings.HasPrefix(id, brokenPrefix) })
	remove := broken[:max(len(broken)-keepBroken, 0)]
	for i, id := range sets {
		when, _, _ := strings.Cut(id, "-")
		t, err := time.Parse(archiveTime, when)
		age := now.Sub(t)
		tooMany := i < len(sets)-keepSets && (err != nil || age > keepFresh)
		if tooMany || err == nil && age > keepFor {
			remove = append(remove, id)
		}
	}
	return r.removeArchived(ctx, name, remove)
}
