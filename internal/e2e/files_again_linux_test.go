package e2e_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// The process may not open the files at the start, which ends without a change
// of them: too many were open, or they could not be read by it.
func TestFilesThatCouldNotBeOpenedAreReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := newPair(t)
		p.write(mint(t, 1, 40*day, "example.test"))
		m := w.manager(md.Domain{Names: []string{"example.test"}, CertFiles: []string{p.cert}, KeyFiles: []string{p.key}})
		err := withoutFiles(t, func() error { return m.Load(t.Context()) })
		if err == nil {
			t.Fatal("the files could be read")
		}
		n := w.start(m)
		defer n.stopped()
		time.Sleep(5 * time.Minute)
		if got := servedSerial(t, m, "example.test"); got != 1 {
			t.Errorf("serial %d is served, want 1", got)
		}
	})
}

// To open a FIFO would wait for somebody who writes into it.
func TestFIFOsAreNotWaitedFor(t *testing.T) {
	p := newPair(t)
	p.write(mint(t, 1, 40*day, "example.test"))
	fifo := filepath.Join(t.TempDir(), "key.pem")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newWorld(t).manager(md.Domain{Names: []string{"example.test"}, CertFiles: []string{p.cert}, KeyFiles: []string{fifo}})
	var config *md.ConfigError
	if err := m.Load(t.Context()); !errors.As(err, &config) || !strings.Contains(err.Error(), "key.pem is not a regular file") {
		t.Errorf("got %v, want a ConfigError that names the file", err)
	}
}

// withoutFiles calls f while the process may open no file. It is for tests that
// run alone in their process.
func withoutFiles(t *testing.T, f func() error) error {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}()
	return f()
}
