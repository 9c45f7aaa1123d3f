package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Scan implements [Scanner].
func (d *Dir) Scan(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Entry{}, err)
			return
		}
		if err := d.checkRoot(); err != nil {
			if !isMissing(err) {
				yield(Entry{}, err)
			}
			return
		}
		dir := d.path
		if key, ok := strings.CutSuffix(prefix, "/"); ok {
			dir = d.file(key)
		}
		d.walk(ctx, dir, prefix, yield)
	}
}

// walk yields what is below dir, whose keys begin with prefix. It returns
// false when nothing more is to be yielded.
func (d *Dir) walk(ctx context.Context, dir, prefix string, yield func(Entry, error) bool) bool {
	parts, err := d.components(dir, dir, "")
	if err != nil {
		yield(Entry{}, fmt.Errorf("store: list %q: %w", prefix, err))
		return false
	}
	for _, p := range parts {
		if ctx.Err() != nil {
			yield(Entry{}, context.Cause(ctx))
			return false
		}
		key := prefix + p.name
		if strings.HasSuffix(key, "/") {
			if CheckPrefix(key) == nil && !d.walk(ctx, p.path, key, yield) {
				return false
			}
			continue
		}
		if CheckKey(key) == nil && !d.visit(ctx, key, p.path, yield) {
			return false
		}
	}
	return true
}

// visit yields one file. One that has gone meanwhile, or that is too large
// to be a value, is passed over.
func (d *Dir) visit(ctx context.Context, key, file string, yield func(Entry, error) bool) bool {
	value, err := d.readValue(ctx, file)
	switch {
	case isMissing(err), errors.Is(err, ErrTooLarge):
		return true
	case err != nil:
		yield(Entry{}, fmt.Errorf("store: list: %q: %w", key, err))
		return false
	}
	return yield(Entry{Key: key, Version: contentVersion(value), Value: value}, nil)
}

// component is a name in a directory, as the key has it.
type component struct {
	name string // with a slash at its end if it is a directory
	path string
}

// components returns the components that begin in the directory base,
// ascending as the keys do: "a-b" comes before "a/b", which comes before
// "ab". It reads dir, which is base, or a directory below it that goes on
// with a long component of which part is the beginning.
func (d *Dir) components(base, dir, part string) ([]component, error) {
	entries, err := d.entries(dir)
	if err != nil {
		return nil, err
	}
	var all []component
	for _, e := range entries {
		piece, goesOn, ok := decodeName(e.Name())
		name, path := part+piece, filepath.Join(dir, e.Name())
		switch {
		case !ok || len(name) > 255:
		case goesOn && e.IsDir():
			rest, err := d.components(base, path, name)
			if err != nil {
				return nil, err
			}
			all = append(all, rest...)
		case path != filepath.Join(base, filepath.FromSlash(encodeComponent(name))):
			// Dir would not have given this name.
		case e.IsDir():
			all = append(all, component{name + "/", path})
		case e.Type().IsRegular():
			all = append(all, component{name, path})
		}
	}
	if base == dir {
		slices.SortFunc(all, func(a, b component) int { return cmp.Compare(a.name, b.name) })
	}
	return all, nil
}

// entries returns what is in a directory. Reading a large one takes several
// system calls, and a file that is renamed over its former self between two
// of them may be seen by neither (readdir(3p) leaves it open, and btrfs does
// it). So a directory that changes is read again, and what was seen once
// counts; whoever opens it finds out whether it is still there.
func (d *Dir) entries(dir string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	for range 3 {
		before, err := d.disk.stat(dir)
		if isMissing(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		entries, err := d.disk.readDir(dir)
		if err != nil && !isMissing(err) {
			return nil, err
		}
		all = append(all, entries...)
		after, err := d.disk.stat(dir)
		if err != nil {
			continue
		}
		// Times of files go in steps, so that a fresh one proves nothing.
		if after.ModTime().Equal(before.ModTime()) && time.Since(after.ModTime()) > time.Second {
			return entries, nil // a directory that rests has each name once
		}
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(all, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }), nil
}
