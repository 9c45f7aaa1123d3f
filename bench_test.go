package md_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store"
)

// BenchmarkGetCertificate is what the Manager adds to a handshake: beside it,
// internal/live measures the lookup alone.
func BenchmarkGetCertificate(b *testing.B) {
	ca := new(acmetest.CA)
	defer ca.Close()
	m := &md.Manager{
		Domains:    []md.Domain{named("example.com")},
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
		Logger:     slog.New(slog.DiscardHandler),
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	if err := m.Renew(context.Background(), "example.com"); err != nil {
		b.Fatal(err)
	}
	h := hello("example.com")
	b.ReportAllocs()
	for b.Loop() {
		if cert, err := m.GetCertificate(h); cert == nil || err != nil {
			b.Fatal(cert, err)
		}
	}
}
