package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
)

// regular returns what the disk says of a value's file. What is there but is
// no regular file is not there: Dir has not put it, and opening it might
// wait for ever, as a named pipe does.
func (d *Dir) regular(file string) (fs.FileInfo, error) {
	info, err := d.disk.lstat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: file, Err: fs.ErrNotExist}
	}
	return info, nil
}

// readValue reads a value's file. It needs no lock: a writer renames whole
// files into place.
func (d *Dir) readValue(ctx context.Context, file string) (value []byte, err error) {
	err = retry(ctx, func() error {
		value, err = d.readOnce(file)
		return err
	})
	return value, err
}

func (d *Dir) readOnce(file string) ([]byte, error) {
	info, err := d.regular(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxValue {
		return nil, tooLarge(file)
	}
	f, err := d.disk.open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	b.Grow(int(info.Size()) + bytes.MinRead) // enough to meet the end without growing
	// The file may be another than a moment ago, so that its size is no bound.
	if _, err := b.ReadFrom(io.LimitReader(f, MaxValue+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if b.Len() > MaxValue {
		return nil, tooLarge(file)
	}
	return b.Bytes(), nil
}
