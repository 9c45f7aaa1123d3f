//go:build unix

package migrate

import (
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a named pipe would wait for ever.
func TestReadOpensNoPipes(t *testing.T) {
	place := tree(t, map[string]string{"certificates/example.com.crt": chain(t, ecKey(t), "example.com")})
	if err := syscall.Mkfifo(filepath.Join(place, "certificates", "example.com.key"), 0o600); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	result := read(t, place, Lego, Options{})
	wantReport(t, result, "certificate certificates/example.com.crt (): it is not a regular file")
}
