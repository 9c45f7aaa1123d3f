package acmeclient

import (
	"crypto/x509"
	"runtime"
	"strings"
	"testing"
)

func TestTheTailscaleDaemonIsACA(t *testing.T) {
	const own = "/run/ts d.sock"
	for _, test := range []struct {
		name                          string
		ca                            CA
		wantName, wantURL, wantSocket string
	}{
		{"in mod_md's style", CA{Protocol: "Tailscale", URL: "file://localhost/run/ts.sock"}, "tailscale", "file:///run/ts.sock", "/run/ts.sock"},
		{"without a host", CA{Protocol: Tailscale, URL: "FILE:///run/../run//ts.sock"}, "tailscale", "file:///run/ts.sock", "/run/ts.sock"},
		{"with a label", CA{Name: "the tailnet", Protocol: Tailscale, URL: "file:///run/ts%20d.sock"}, "the tailnet", "file:///run/ts%20d.sock", own},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.ca.Resolve()
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != test.wantName || got.URL != test.wantURL || got.Socket() != test.wantSocket || got.Protocol != Tailscale {
				t.Errorf("got %v, %q, %q, want %s %s, %q", got, got.Protocol, got.Socket(), test.wantName, test.wantURL, test.wantSocket)
			}
			if again, err := got.Resolve(); err != nil || again != got {
				t.Errorf("resolving again: got %v, %v", again, err)
			}
			_, err = New(got, nil, nil)
			wantText(t, err, "does not speak ACME")
		})
	}
}

func TestTheTailscaleDaemonHasADefaultSocket(t *testing.T) {
	for goos, want := range map[string]string{"linux": "/var/run/tailscale/tailscaled.sock", "freebsd": "/var/run/tailscale/tailscaled.sock", "darwin": "/var/run/tailscaled.socket", "windows": ""} {
		if got := defaultSocket(goos); got != want {
			t.Errorf("%s: got %q, want %q", goos, got, want)
		}
	}
	for _, ca := range []CA{{Protocol: Tailscale}, {Name: "Tailscale"}, {Name: "tailscale", Protocol: "TAILSCALE"}} {
		got, err := ca.Resolve()
		if defaultSocket(runtime.GOOS) == "" {
			wantText(t, err, "say where")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != "tailscale" || got.Socket() != defaultSocket(runtime.GOOS) || got.Protocol != Tailscale {
			t.Errorf("got %v %q", got, got.Socket())
		}
		if again, err := got.Resolve(); err != nil || again != got {
			t.Errorf("resolving again: got %v, %v", again, err)
		}
	}
}

func TestProtocolsThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name string
		ca   CA
		want string
	}{
		{"an unknown one", CA{Protocol: "est"}, "known are ACME and tailscale"},
		{"with https", CA{Protocol: Tailscale, URL: "https://localhost/x"}, "scheme"},
		{"with a path alone", CA{Protocol: Tailscale, URL: "/run/ts.sock"}, "scheme"},
		{"on another host", CA{Protocol: Tailscale, URL: "file://there/run/ts.sock"}, "another host"},
		{"with a relative path", CA{Protocol: Tailscale, URL: "file:ts.sock"}, "absolute path"},
		{"with no path", CA{Protocol: Tailscale, URL: "file:///"}, "absolute path"},
		{"with a query", CA{Protocol: Tailscale, URL: "file:///a?b"}, "absolute path"},
		{"with a zero byte", CA{Protocol: Tailscale, URL: "file:///a%00b"}, "absolute path"},
		{"with what is no URL", CA{Protocol: Tailscale, URL: "file:///%zz"}, "is not a URL"},
		{"with a very long URL", CA{Protocol: Tailscale, URL: "file:///" + strings.Repeat("x", 3000)}, "longer than"},
		{"with another CA's name", CA{Protocol: Tailscale, Name: "letsencrypt"}, "leave one of them out"},
		{"with an EAB", CA{Protocol: Tailscale, EAB: anEAB()}, "no accounts"},
		{"with an account key", CA{Protocol: Tailscale, AccountKey: testKey(t, P256)}, "no accounts"},
		{"with a proxy", CA{Protocol: Tailscale, Proxy: "none"}, "leave Proxy and Roots out"},
		{"with roots", CA{Protocol: Tailscale, Roots: x509.NewCertPool()}, "leave Proxy and Roots out"},
		{"a socket without the protocol", CA{URL: "file:///run/ts.sock"}, "absolute"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.ca.Resolve()
			wantText(t, err, test.want)
			if got != (CA{}) || test.ca.Socket() != "" && test.ca.URL == "" {
				t.Errorf("got %v with the error", got)
			}
		})
	}
	for _, said := range []Protocol{"", "ACME", " acme "} {
		if got, err := (CA{Protocol: said}).Resolve(); err != nil || got.Protocol != ACME {
			t.Errorf("%q: got %q, %v, want ACME", said, got.Protocol, err)
		}
	}
	if got := (CA{}).Socket(); got != "" {
		t.Errorf("the socket of an ACME CA: got %q, want none", got)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("letsencrypt", "", "", "", "", "")
	f.Add("x", "https://ca.example/dir", "acme", "socks5://u:p@h:1", "kid", "QUFBQUFBQUFBQUFBQUFBQQ")
	f.Add("", "file:///a/b", "tailscale", "", "", "")
	f.Add("", "http://[::1%25lo]:1/", "", "none", "\x00", "=")
	f.Fuzz(func(t *testing.T, name, url, protocol, proxy, kid, hmac string) {
		ca := CA{Name: name, URL: url, Protocol: Protocol(protocol), Proxy: proxy, EAB: EAB{KeyID: kid, HMAC: NewSecret(hmac)}, PlainLoopback: true}
		got, err := ca.Resolve()
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("got error %q, which has control characters", err)
			}
			return
		}
		if got.Name == "" || got.URL == "" || got.Protocol == Tailscale && got.Socket() == "" {
			t.Errorf("got %v, %q, which lacks something", got, got.Protocol)
		}
		again, err := got.Resolve()
		if err != nil || again != got {
			t.Errorf("resolving again: got %#v, %v, want %#v", again, err, got)
		}
		if got.Protocol != ACME {
			return
		}
		if _, err := New(got, nil, nil); err != nil {
			t.Errorf("got no Client: %v", err)
		}
	})
}
