package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/store"
)

// program finds a program that others wrote.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is missing: apt-get install %s", name, name)
	default:
		t.Skipf("%s is missing, so it is not tried: apt-get install %s", name, name)
	}
	return path
}

// output runs a command that must succeed and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program(t, name), args...)
	text, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text)
	}
	return string(text)
}

func TestRealClients(t *testing.T) {
	for _, algorithm := range []string{"ecdsa", "rsa"} {
		p := newPlace(t)
		ca := p.startCA(t, localca.Config{KeyAlgorithm: algorithm, ChainLength: 2})
		m := &md.Manager{
			Domains:     []md.Domain{{Names: []string{"example.test", "www.example.test"}}},
			AcceptTerms: true, Store: new(store.Memory), Default: md.Domain{CAs: at(ca)}, Logger: logged(t),
		}
		p.run(t, m)
		ready(t, m)
		roots := filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(roots, ca.RootsPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		httpsPort := port(p.secure)
		t.Run("curl verifies an "+algorithm+" chain", func(t *testing.T) {
			for _, name := range []string{"example.test", "www.example.test"} {
				got := output(t, "curl", "--silent", "--show-error", "--fail", "--max-time", "20",
					"--noproxy", "*", "--cacert", roots, "--resolve", fmt.Sprintf("%s:%d:127.0.0.1", name, httpsPort),
					fmt.Sprintf("https://%s:%d/", name, httpsPort))
				if got != body {
					t.Errorf("curl got %q, want %q", got, body)
				}
			}
		})
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			t.Run("openssl verifies an "+algorithm+" chain with "+version, func(t *testing.T) {
				got := output(t, "openssl", "s_client", version, "-connect", p.address(), "-servername", "example.test",
					"-verify_return_error", "-verify_hostname", "example.test", "-CAfile", roots, "-no-CApath")
				if want := "Verify return code: 0 (ok)"; !strings.Contains(got, want) {
					t.Errorf("openssl does not say %q:\n%s", want, got)
				}
			})
		}
		t.Run("openssl refuses an "+algorithm+" chain for another name", func(t *testing.T) {
			command := exec.CommandContext(t.Context(), program(t, "openssl"), "s_client", "-connect", p.address(),
				"-servername", "example.test", "-verify_return_error", "-verify_hostname", "other.test", "-CAfile", roots)
			if text, err := command.CombinedOutput(); err == nil || !bytes.Contains(text, []byte("mismatch")) {
				t.Errorf("the checks above check nothing: %v\n%s", err, text)
			}
		})
	}
}
