package challenge

import (
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
)

func TestCanonicalName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, want := range map[string]string{
		"example.com":                    "example.com",
		"EXAMPLE.com.":                   "example.com",
		"_x.a-b.example":                 "_x.a-b.example",
		"localhost":                      "localhost",
		"192.0.2.1":                      "192.0.2.1",
		"2001:DB8:0::1":                  "2001:db8::1",
		long + ".example":                long + ".example",
		"":                               "",
		".":                              "",
		"a..example":                     "",
		".example":                       "",
		"example..":                      "",
		long + "a.example":               "",
		"*.example.com":                  "",
		"a/b":                            "",
		"..":                             "",
		"a b":                            "",
		"bücher.example":                 "",
		"fe80::1%eth0":                   "",
		"a\x00b":                         "",
		strings.Repeat("a.", 127) + "ab": "",
	} {
		got, ok := canonicalName(name)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("canonicalName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestHostName(t *testing.T) {
	for host, want := range map[string]string{
		"example.com":         "example.com",
		"Example.COM.:8080":   "example.com",
		"192.0.2.1:80":        "192.0.2.1",
		"[2001:db8::1]":       "2001:db8::1",
		"[2001:DB8::1]:8080":  "2001:db8::1",
		"":                    "",
		":80":                 "",
		"2001:db8::1":         "",
		"[2001:db8::1":        "",
		"[2001:db8::1]x":      "",
		"[example.com]":       "",
		"[192.0.2.1]":         "",
		"[fe80::1%25eth0]:80": "",
		"user@example.com":    "",
		"a:1:2":               "",
	} {
		got, ok := hostName(host)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("hostName(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestReverseIP(t *testing.T) {
	const v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
	for name, want := range map[string]string{
		"1.2.0.192.in-addr.arpa":                  "192.0.2.1",
		v6:                                        "2001:db8::1",
		"2.0.192.in-addr.arpa":                    "",
		"1.1.2.0.192.in-addr.arpa":                "",
		"256.2.0.192.in-addr.arpa":                "",
		"x.2.0.192.in-addr.arpa":                  "",
		"example.com":                             "",
		"in-addr.arpa":                            "",
		"0.0.ip6.arpa":                            "",
		strings.Replace(v6, "1.", "g.", 1):        "",
		strings.Replace(v6, "0.0", "0x0", 1):      "",
		strings.Repeat(":", 63) + ".ip6.arpa":     "",
		strings.Repeat("%.", 31) + "%.ip6.arpa":   "",
		strings.Repeat("0.", 31) + "00.ip6.arpa":  "",
		strings.Repeat("f.", 31) + "f.in-addr.ar": "",
	} {
		ip, ok := reverseIP(name)
		got := ""
		if ok {
			got = ip.String()
		}
		if got != want {
			t.Errorf("reverseIP(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestValidToken(t *testing.T) {
	for token, want := range map[string]bool{
		"a": true,
		"LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0": true,
		"-_":                     true,
		strings.Repeat("a", 128): true,
		strings.Repeat("a", 129): false,
		"":                       false,
		"a=":                     false,
		"a+b":                    false,
		"a/b":                    false,
		"..":                     false,
		"a.b":                    false,
		"é":                      false,
		"a\n":                    false,
	} {
		if got := validToken(token); got != want {
			t.Errorf("validToken(%q) = %v, want %v", token, got, want)
		}
	}
}

// FuzzNames ensures that whatever a client says becomes a usable key or none.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"example.com", "EXAMPLE.com.:80", "[2001:db8::1]:80", "192.0.2.1", "..", "a/b", "fe80::1%e", "1.2.0.192.in-addr.arpa", strings.Repeat("a", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := hostName(s)
		if !ok {
			name, ok = canonicalName(s)
		}
		if ip, ok := reverseIP(s); ok {
			if _, ok := canonicalName(ip.String()); !ok {
				t.Errorf("reverseIP(%q) gives %v, which is no name", s, ip)
			}
		}
		if !ok {
			return
		}
		if again, ok := canonicalName(name); !ok || again != name {
			t.Errorf("canonicalName(%q) = %q, %v; want it unchanged", name, again, ok)
		}
		if err := store.CheckKey(tlsALPN01Prefix + name); err != nil {
			t.Errorf("%q becomes the key of no Store: %v", s, err)
		}
	})
}

// FuzzDecodeAnswer ensures that nothing in a Store makes an answer that could
// not have been presented.
func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(`{"name":"example.com","key-authorization":"token.` + strings.Repeat("t", 43) + `"}`))
	f.Add([]byte(`{"name":"EXAMPLE.com","key-authorization":"a.b"}`))
	f.Add([]byte(`{`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, value []byte) {
		a, err := decodeAnswer(value)
		if err != nil {
			return
		}
		token, _, _ := strings.Cut(a.KeyAuthorization, ".")
		again, err := newAnswer(Challenge{Type: TypeHTTP01, Name: a.Name, Token: token, KeyAuthorization: a.KeyAuthorization}, TypeHTTP01)
		if err != nil || again != a {
			t.Errorf("%q decodes to %+v, which Present would make %+v, %v", value, a, again, err)
		}
	})
}
