package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
)

func TestFallbackName(t *testing.T) {
	for _, test := range []struct {
		name     string
		fallback string
		onDemand bool
		hello    tls.ClientHelloInfo
		want     string // a name of the certificate; empty: ErrNotManaged
	}{
		{"no name", "example.test", false, tls.ClientHelloInfo{}, "example.test"},
		{"an unknown name", "example.test", false, tls.ClientHelloInfo{ServerName: "other.test"}, "example.test"},
		{"an unknown name, and OnDemand does not want it", "example.test", true, tls.ClientHelloInfo{ServerName: "other.test"}, "example.test"},
		{"no name, with OnDemand", "example.test", true, tls.ClientHelloInfo{}, "example.test"},
		{"a name that OnDemand wants", "example.test", true, tls.ClientHelloInfo{ServerName: "shop.test"}, "shop.test"},
		{"no fallback and no name", "", false, tls.ClientHelloInfo{}, ""},
		{"no fallback and an unknown name", "", true, tls.ClientHelloInfo{ServerName: "other.test"}, ""},
		{"a name that is there", "example.test", false, tls.ClientHelloInfo{ServerName: "www.test"}, "www.test"},
		{"an address that nobody knows", "example.test", false,
			tls.ClientHelloInfo{Conn: at{addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 443}}}, "example.test"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				m := w.manager(md.Domain{Names: []string{"example.test"}}, md.Domain{Names: []string{"www.test"}})
				m.FallbackName = test.fallback
				if test.onDemand {
					m.OnDemand = newCustomers("shop.test").allow
				}
				n := w.start(m)
				defer n.stopped()
				n.ready(time.Minute)
				cert, err := m.GetCertificate(&test.hello)
				if test.want == "" {
					if !errors.Is(err, md.ErrNotManaged) {
						t.Errorf("got %v, want ErrNotManaged", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := parsed(t, cert).VerifyHostname(test.want); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestFallbackNameMustBeDeclared(t *testing.T) {
	w := newWorld(t)
	m := w.manager(md.Domain{Names: []string{"example.test"}})
	m.FallbackName = "other.test"
	var config *md.ConfigError
	if err := m.Check(); !errors.As(err, &config) || config.Field != "FallbackName" {
		t.Errorf("got %v, want a ConfigError for FallbackName", err)
	}
	m = w.manager(md.Domain{Names: []string{"example.test"}})
	m.FallbackName = "example.test"
	if err := m.Update(context.Background(), []md.Domain{{Names: []string{"other.test"}}}); !errors.As(err, &config) {
		t.Errorf("an Update without it: got %v, want a ConfigError", err)
	}
}

func TestUnknownNamesAreCounted(t *testing.T) {
	w := newWorld(t)
	m := w.manager(md.Domain{Names: []string{"example.test"}})
	for range 3 {
		_, _ = m.GetCertificate(&tls.ClientHelloInfo{ServerName: "other.test"})
	}
	if got := m.UnknownNames(); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
	if !w.logged("other.test") {
		t.Error("nothing is in the log")
	}
}
