package e2e_test

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// A chain is looked at while it is written: the leaf is there, with the key of
// before, and half of what comes after it.
func TestAChainThatIsBeingWrittenIsNotServed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := newPair(t)
		leaf, key := mint(t, 1, 40*day, "example.test")
		issuer, _ := mint(t, 2, 40*day, "issuer.test")
		p.write(bytes.Join([][]byte{leaf, issuer}, nil), key)
		m := w.manager(md.Domain{Names: []string{"example.test"}, CertFiles: []string{p.cert}, KeyFiles: []string{p.key}})
		n := w.start(m)
		defer n.stopped()
		n.ready(time.Minute)
		for _, cut := range []int{len(issuer) / 2, len(issuer) - 20, 12} {
			p.write(bytes.Join([][]byte{leaf, issuer[:cut]}, nil), nil)
			time.Sleep(2 * time.Minute)
			if got := len(chainOf(t, m, "example.test")); got != 2 {
				t.Errorf("%d bytes of the issuer's: %d certificates are served, want the 2 of before", cut, got)
			}
		}
		p.write(leaf, nil)
		time.Sleep(2 * time.Minute)
		if got := len(chainOf(t, m, "example.test")); got != 1 {
			t.Errorf("%d certificates are served, want 1", got)
		}
	})
}

// chainOf is what m serves for name, as DER.
func chainOf(t *testing.T, m *md.Manager, name string) [][]byte {
	t.Helper()
	cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Certificate
}
