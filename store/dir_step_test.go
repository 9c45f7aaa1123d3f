package store

import (
	"io"
	"io/fs"
)

// stepDisk is the real disk with a hook around each of its steps.
type stepDisk struct {
	osDisk
	// step does what the disk is asked to do, or not. The second function
	// does half of it, where there is such a thing, else it is nil.
	step func(kind, path string, do func() error, half func() error) error
}

func (d stepDisk) stat(path string) (info fs.FileInfo, err error) {
	err = d.step("stat", path, func() error { info, err = d.osDisk.stat(path); return err }, nil)
	return info, err
}

func (d stepDisk) lstat(path string) (info fs.FileInfo, err error) {
	err = d.step("lstat", path, func() error { info, err = d.osDisk.lstat(path); return err }, nil)
	return info, err
}

func (d stepDisk) open(path string) (f io.ReadCloser, err error) {
	err = d.step("open", path, func() error { f, err = d.osDisk.open(path); return err }, nil)
	if err != nil {
		return nil, err
	}
	return stepReader{f, d}, nil
}

func (d stepDisk) readDir(path string) (entries []fs.DirEntry, err error) {
	err = d.step("readdir", path, func() error { entries, err = d.osDisk.readDir(path); return err }, nil)
	return entries, err
}

func (d stepDisk) create(path string) (tempFile, error) {
	var f tempFile
	err := d.step("create", path, func() (err error) { f, err = d.osDisk.create(path); return err }, nil)
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return stepFile{f, d}, nil
}

func (d stepDisk) mkdir(path string) error {
	return d.step("mkdir", path, func() error { return d.osDisk.mkdir(path) }, nil)
}

func (d stepDisk) chmod(path string, mode fs.FileMode) error {
	return d.step("chmod", path, func() error { return d.osDisk.chmod(path, mode) }, nil)
}

func (d stepDisk) rename(from, to string) error {
	return d.step("rename", to, func() error { return d.osDisk.rename(from, to) }, nil)
}

func (d stepDisk) remove(path string) error {
	return d.step("remove", path, func() error { return d.osDisk.remove(path) }, nil)
}

func (d stepDisk) syncDir(path string) error {
	return d.step("syncdir", path, func() error { return d.osDisk.syncDir(path) }, nil)
}

func (d stepDisk) lock(path string) (func(), error) {
	var unlock func()
	err := d.step("lock", path, func() (err error) { unlock, err = d.osDisk.lock(path); return err }, nil)
	if err != nil {
		if unlock != nil {
			unlock()
		}
		return nil, err
	}
	return unlock, nil
}

type stepReader struct {
	io.ReadCloser
	d stepDisk
}

func (r stepReader) Read(b []byte) (n int, err error) {
	err = r.d.step("read", "", func() error { n, err = r.ReadCloser.Read(b); return err }, nil)
	return n, err
}

type stepFile struct {
	tempFile
	d stepDisk
}

func (f stepFile) Write(b []byte) (n int, err error) {
	err = f.d.step("write", "",
		func() error { n, err = f.tempFile.Write(b); return err },
		func() error { n, err = f.tempFile.Write(b[:len(b)/2]); return err })
	return n, err
}

func (f stepFile) Chmod(mode fs.FileMode) error {
	return f.d.step("fchmod", "", func() error { return f.tempFile.Chmod(mode) }, nil)
}

func (f stepFile) Sync() error {
	return f.d.step("fsync", "", f.tempFile.Sync, nil)
}

// Close closes the real file in any case: the test must not leak it.
func (f stepFile) Close() error {
	return f.d.step("close", "", f.tempFile.Close, func() error { return f.tempFile.Close() })
}
