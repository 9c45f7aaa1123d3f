package acmeclient

import (
	"strings"
	"testing"
)

func TestResolveFillsNameAndURL(t *testing.T) {
	const own = "https://ca.example/acme/directory"
	for _, test := range []struct {
		name      string
		ca        CA
		wantName  string
		wantURL   string
		wantPlain bool
	}{
		{name: "nothing is Let's Encrypt", wantName: "letsencrypt", wantURL: letsEncryptURL},
		{name: "a name in any case", ca: CA{Name: "LetsEncrypt"}, wantName: "letsencrypt", wantURL: letsEncryptURL},
		{name: "staging", ca: CA{Name: "letsencrypt-staging"}, wantName: "letsencrypt-staging", wantURL: letsEncryptStagingURL},
		{name: "staging as mod_md calls it", ca: CA{Name: "LetsEncrypt-Test"}, wantName: "letsencrypt-staging", wantURL: letsEncryptStagingURL},
		{name: "a known URL has a name", ca: CA{URL: letsEncryptStagingURL}, wantName: "letsencrypt-staging", wantURL: letsEncryptStagingURL},
		{name: "a name and its URL", ca: CA{Name: "letsencrypt", URL: letsEncryptURL}, wantName: "letsencrypt", wantURL: letsEncryptURL},
		{name: "an unknown URL has its host as name", ca: CA{URL: own}, wantName: "ca.example", wantURL: own},
		{name: "a name of one's own for a URL", ca: CA{Name: "Ours", URL: own}, wantName: "Ours", wantURL: own},
		{name: "a URL with capitals in scheme and host", ca: CA{URL: "HTTPS://CA.Example:8443/Dir?x=Y"}, wantName: "ca.example:8443", wantURL: "https://ca.example:8443/Dir?x=Y"},
		{name: "http on loopback if allowed", ca: CA{URL: "http://127.0.0.1:14000/dir", PlainLoopback: true}, wantName: "127.0.0.1:14000", wantURL: "http://127.0.0.1:14000/dir"},
		{name: "http on IPv6 loopback if allowed", ca: CA{URL: "http://[::1]/dir", PlainLoopback: true}, wantName: "[::1]", wantURL: "http://[::1]/dir"},
		{name: "http on localhost if allowed", ca: CA{URL: "http://LOCALHOST:1/dir", PlainLoopback: true}, wantName: "localhost:1", wantURL: "http://localhost:1/dir"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.ca.Resolve()
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != test.wantName || got.URL != test.wantURL {
				t.Errorf("got %q %q, want %q %q", got.Name, got.URL, test.wantName, test.wantURL)
			}
			again, err := got.Resolve()
			if err != nil || again != got {
				t.Errorf("resolving again: got %v, %v, want %v", again, err, got)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		ca   CA
		want string
	}{
		{"an unknown name", CA{Name: "nobody"}, "known are letsencrypt, letsencrypt-staging, "},
		{"a name for people", CA{Name: "Let's Encrypt"}, "is not known"},
		{"Buypass by name", CA{Name: "Buypass"}, "Buypass has closed"},
		{"Buypass's test CA by name", CA{Name: "buypass-test"}, "2025-10-31"},
		{"Buypass by URL", CA{URL: "https://API.buypass.com/acme/directory"}, "Buypass has closed"},
		{"Buypass's test CA by URL", CA{Name: "mine", URL: "https://api.test4.buypass.no/acme/directory"}, "Buypass has closed"},
		{"Buypass's name for another URL", CA{Name: "buypass", URL: "https://ca.example/"}, "Buypass has closed"},
		{"Let's Encrypt's ACMEv1", CA{URL: "https://acme-v01.api.letsencrypt.org/directory"}, "ACMEv1"},
		{"a known name for another URL", CA{Name: "letsencrypt", URL: "https://ca.example/"}, "leave one of them out"},
		{"http", CA{URL: "http://ca.example/dir"}, "is not https"},
		{"http on loopback", CA{URL: "http://127.0.0.1/dir"}, "PlainLoopback"},
		{"http elsewhere even with PlainLoopback", CA{URL: "http://ca.example/dir", PlainLoopback: true}, "is not https"},
		{"a host that only begins like loopback", CA{URL: "http://127.0.0.1.ca.example/", PlainLoopback: true}, "is not https"},
		{"another scheme", CA{URL: "ftp://ca.example/dir"}, "scheme"},
		{"a password", CA{URL: "https://u:secret@ca.example/dir"}, "user name or password"},
		{"a fragment", CA{URL: "https://ca.example/dir#x"}, "fragment"},
		{"an opaque URL", CA{URL: "https:ca.example"}, "absolute"},
		{"a relative URL", CA{URL: "/directory"}, "absolute"},
		{"a host name alone", CA{URL: "ca.example"}, "absolute"},
		{"no host", CA{URL: "https:///directory"}, "absolute"},
		{"a port without a host", CA{URL: "https://:443/"}, "absolute"},
		{"what is no URL", CA{URL: "https://ca.example/%zz"}, "not a URL"},
		{"control characters", CA{URL: "https://ca.example/\x1b[2J"}, "not a URL"},
		{"a very long URL", CA{URL: "https://ca.example/" + strings.Repeat("x", 3000)}, "longer than 2048 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.ca.Resolve()
			wantText(t, err, test.want)
			if got != (CA{}) {
				t.Errorf("got %v with the error", got)
			}
			if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("the error has a control character: %q", err)
			}
		})
	}
}
