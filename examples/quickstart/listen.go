package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// listen opens address. Where the kernel may choose the port, it is that of
// the last start if it is free, so that what was pasted or bookmarked then
// still works: file remembers it.
func listen(address, file string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if port != "0" {
		return net.Listen("tcp", address)
	}
	former, err := os.ReadFile(file)
	if err == nil && sameHost(address, string(former)) {
		if listener, err := net.Listen("tcp", strings.TrimSpace(string(former))); err == nil {
			return listener, nil
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := remember(file, listener.Addr().String()); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

func sameHost(a, b string) bool {
	hostA, _, errA := net.SplitHostPort(strings.TrimSpace(a))
	hostB, _, errB := net.SplitHostPort(strings.TrimSpace(b))
	return errA == nil && errB == nil && hostA == hostB
}

func remember(file, address string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	err := os.WriteFile(file, []byte(address+"\n"), 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return errors.Join(err, errors.New("choose another directory with -dir"))
	}
	return err
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }
