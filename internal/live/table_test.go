package live

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestLookup(t *testing.T) {
	var table Table
	sites := make(map[string]*Site)
	put := func(domain string, names ...string) {
		sites[domain] = &Site{Domain: domain}
		table.Put(names, sites[domain])
	}
	put("plain", "example.com", "WWW.Example.Com", "trailing.example.com.")
	put("wild", "*.example.org", "exact.example.org")
	put("other", "own.example.org", "*.deep.example.org", "x", "longer-than-eight.example")
	put("address", "192.0.2.1", "2001:DB8:0::1", "::ffff:192.0.2.2")
	longest := strings.Repeat("a.", 126) + "b"
	put("longest", longest, longest+"c")

	for _, test := range []struct{ name, want string }{
		{"example.com", "plain"},
		{"EXAMPLE.com", "plain"},
		{"example.com.", "plain"},
		{"example.com..", ""},
		{"www.example.com", "plain"},
		{"wWw.eXample.coM.", "plain"},
		{"trailing.example.com", "plain"},
		{"TRAILING.example.com.", "plain"},
		{"other.example.com", ""},
		{"com", ""},
		{"", ""},
		{".", ""},
		{"exact.example.org", "wild"},
		{"a.example.org", "wild"},
		{"A.Example.Org", "wild"},
		{"own.example.org", "other"},
		{"OWN.example.org", "other"},
		{"a.own.example.org", ""},
		{"a.b.example.org", ""},
		{"deep.example.org", "wild"},
		{"a.deep.example.org", "other"},
		{"*.example.org", "wild"},
		{"_a.example.org", "wild"},
		{".example.org", ""},
		{".EXAMPLE.org", ""},
		{"example.org", ""},
		{"x", "other"},
		{"X", "other"},
		{"longer-than-Eight.example", "other"},
		{"longer-than-eight.examplE", "other"},
		{"192.0.2.1", "address"},
		{"192.0.2.2", "address"},
		{"2001:db8::1", "address"},
		{"192.0.2.3", ""},
		{longest, "longest"},
		{strings.ToUpper(longest) + ".", "longest"},
		{longest + "c", ""}, // too long to be a name
		{strings.Repeat("A", 10_000), ""},
		{"\x00", ""},
		{"\xff\xfe", ""},
	} {
		if got := table.Lookup(test.name); got != sites[test.want] {
			t.Errorf("Lookup(%.60q) got %+v, want that of %q", test.name, got, test.want)
		}
	}
}

func TestPut(t *testing.T) {
	var table Table
	first, second := &Site{Domain: "one"}, &Site{Domain: "one"}
	table.Put([]string{"a.example", "*.b.example"}, first)
	table.Put([]string{"a.example"}, second)
	if got := table.Lookup("a.example"); got != second {
		t.Errorf("after a second Put got %p, want the second Site %p", got, second)
	}
	if got := table.Lookup("x.b.example"); got != first {
		t.Errorf("a name that the second Put does not have got %p, want the first Site %p", got, first)
	}
}

func TestRemove(t *testing.T) {
	var table Table
	table.Remove([]string{"a.example"}, "one")
	table.Put([]string{"a.example", "*.b.example"}, &Site{Domain: "one"})
	two := &Site{Domain: "two"}
	table.Put([]string{"a.example"}, two)
	table.Remove([]string{"A.example.", "*.B.example", "never.example"}, "one")
	if got := table.Lookup("a.example"); got != two {
		t.Errorf("a name that another Domain has taken over got %+v, want the other's Site", got)
	}
	if got := table.Lookup("x.b.example"); got != nil {
		t.Errorf("a removed name got %+v, want none", got)
	}
}

// connAt is a connection of which only the local address matters.
type connAt struct {
	net.Conn
	local net.Addr
}

func (c connAt) LocalAddr() net.Addr { return c.local }

func TestCertificateWithoutServerName(t *testing.T) {
	var table Table
	var chains Chains
	c := newTestCA(t, "addresses").credential(t, &chains, "P-256", "example.com")
	s := &Site{Domain: "addresses", Credentials: []*Credential{c}}
	table.Put([]string{"192.0.2.1", "2001:db8::1", "fe80::1"}, s)

	tcp := func(text string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)) }
	for _, test := range []struct {
		it    string
		conn  net.Conn
		found bool
	}{
		{"finds an IPv4 address", connAt{local: tcp("192.0.2.1:443")}, true},
		{"finds an IPv4 address in an IPv6 socket", connAt{local: tcp("[::ffff:192.0.2.1]:443")}, true},
		{"finds an IPv6 address", connAt{local: tcp("[2001:db8::1]:443")}, true},
		{"finds an IPv6 address with a zone", connAt{local: tcp("[fe80::1%eth0]:443")}, true},
		{"finds the address of a UDP socket", connAt{local: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}}, true},
		{"does not find an address of nobody", connAt{local: tcp("192.0.2.9:443")}, false},
		{"does not find a missing address", connAt{local: &net.TCPAddr{}}, false},
		{"does not find a nil address", connAt{}, false},
		{"does not find a path", connAt{local: &net.UnixAddr{Name: "192.0.2.1", Net: "unix"}}, false},
		{"does not find anything without a connection", nil, false},
	} {
		t.Run(test.it, func(t *testing.T) {
			hello := modernHello("")
			hello.Conn = test.conn
			certificate, got := table.Certificate(hello)
			if (got == s) != test.found || (certificate == c.TLS()) != test.found {
				t.Errorf("got Site %v, certificate: %v, want found: %v", got, certificate != nil, test.found)
			}
		})
	}
}

func TestFallbackName(t *testing.T) {
	table := Table{FallbackName: "Fallback.example"}
	var chains Chains
	c := newTestCA(t, "fallback name").credential(t, &chains, "P-256", "fallback.example")
	fallback := &Site{Domain: "fallback", Credentials: []*Credential{c}}
	named := &Site{Domain: "named"} // without credentials
	addressed := &Site{Domain: "addressed", Credentials: []*Credential{c}}
	table.Put([]string{"named.example"}, named)
	table.Put([]string{"192.0.2.1"}, addressed)

	at := func(address string) net.Conn {
		return connAt{local: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 443))}
	}
	hellos := []struct {
		it   string
		name string
		conn net.Conn
		want *Site
	}{
		{"serves an unknown name", "unknown.example", at("192.0.2.9"), fallback},
		{"serves an unknown name at a known address", "unknown.example", at("192.0.2.1"), fallback},
		{"serves a name that is none", "..", nil, fallback},
		{"serves a hello without name at an unknown address", "", at("192.0.2.9"), fallback},
		{"serves a hello without name or connection", "", nil, fallback},
		{"serves its own name", "fallback.example", nil, fallback},
		{"leaves alone a hello without name at a known address", "", at("192.0.2.1"), addressed},
		{"leaves alone a name that has no certificate yet", "named.example", nil, named},
	}
	check := func(while string) {
		for _, test := range hellos {
			t.Run("the fallback "+test.it+" "+while, func(t *testing.T) {
				want := test.want
				if want == fallback {
					want = table.Lookup(table.FallbackName)
				}
				hello := modernHello(test.name)
				hello.Conn = test.conn
				certificate, got := table.Certificate(hello)
				if got != want || (certificate != nil) != (want != nil && len(want.Credentials) > 0) {
					t.Errorf("got certificate: %v, of Site %v, want %v", certificate != nil, got, want)
				}
			})
		}
	}
	check("unless no Site serves the fallback")
	table.Put([]string{"fallback.example"}, fallback)
	check("while a Site serves the fallback")
	if got := table.Lookup("unknown.example"); got != nil {
		t.Errorf("Lookup of an unknown name got %v, want nil whatever the fallback is", got)
	}
	table.Remove([]string{"fallback.example"}, "fallback")
	check("unless its Site was removed")
}

func TestUnknownNames(t *testing.T) {
	for _, fallback := range []string{"", "known.example"} {
		t.Run("with FallbackName "+fallback, func(t *testing.T) {
			table := Table{FallbackName: fallback}
			table.Put([]string{"known.example", "*.known.example"}, &Site{})
			for i, test := range []struct {
				name string
				want uint64 // all together
			}{
				{"unknown.example", 1},
				{"known.example", 1},
				{"www.known.example", 1},
				{"", 1}, // names nothing
				{strings.Repeat("a", 1000), 2},
				{"unknown.example", 3},
			} {
				table.Certificate(modernHello(test.name))
				if got := table.UnknownNames(); got != test.want {
					t.Errorf("after hello %d, for %.20q, got %d unknown names, want %d", i+1, test.name, got, test.want)
				}
			}
			table.Lookup("unknown.example")
			if got, want := table.UnknownNames(), uint64(3); got != want {
				t.Errorf("after a Lookup got %d unknown names, want %d: only hellos count", got, want)
			}
		})
	}
}

func TestCertificateDoesNotAllocate(t *testing.T) {
	var table Table
	var chains Chains
	ca := newTestCA(t, "allocations")
	ecdsa := ca.credential(t, &chains, "P-256", "example.com")
	rsa := ca.credential(t, &chains, "RSA-2048", "example.com")
	p384 := ca.credential(t, &chains, "P-384", "example.com")
	table.Put([]string{"one.example.com", "*.one.example.com", "192.0.2.1", "2001:db8:1111:2222:3333:4444:5555:6666"}, &Site{Credentials: []*Credential{ecdsa}})
	table.Put([]string{"two.example.com"}, &Site{Credentials: []*Credential{ecdsa, rsa}})
	table.Put([]string{"former.example.com"}, &Site{Credentials: []*Credential{p384, ecdsa}, Former: []*Credential{rsa}})
	table.Put([]string{"none.example.com"}, &Site{})

	byAddress := modernHello("")
	byAddress.Conn = connAt{local: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}}
	byLongAddress := modernHello("")
	byLongAddress.Conn = connAt{local: &net.TCPAddr{IP: net.ParseIP("2001:db8:1111:2222:3333:4444:5555:6666"), Port: 443}}
	for _, test := range []struct {
		what  string
		hello *tls.ClientHelloInfo
		want  *Credential
	}{
		{"an exact name", modernHello("one.example.com"), ecdsa},
		{"a name in mixed case", modernHello("One.Example.COM"), ecdsa},
		{"a name under a wildcard", modernHello("www.one.example.com"), ecdsa},
		{"a name in mixed case under a wildcard", modernHello("wWW.One.Example.Com"), ecdsa},
		{"an address", byAddress, ecdsa},
		{"an address with a long text", byLongAddress, ecdsa},
		{"two keys and a modern hello", modernHello("two.example.com"), ecdsa},
		{"two keys and an RSA-only hello", rsaHello("two.example.com"), rsa},
		{"a former certificate", rsaHello("former.example.com"), rsa},
		{"no certificate", modernHello("none.example.com"), nil},
		{"an unknown name", modernHello("unknown.example.com"), nil},
		{"a long unknown name in mixed case", modernHello(strings.Repeat("Ab.", 80)), nil},
	} {
		t.Run("for "+test.what, func(t *testing.T) {
			var got *tls.Certificate
			allocs := testing.AllocsPerRun(100, func() { got, _ = table.Certificate(test.hello) })
			if test.want == nil && got != nil || test.want != nil && got != test.want.TLS() {
				t.Errorf("got another certificate than wanted")
			}
			if allocs != 0 {
				t.Errorf("got %v allocations, want none", allocs)
			}
		})
	}
}

// TestTableUnderChurn has readers look up while names come, go, and move
// between Domains, and checks what each reader sees.
func TestTableUnderChurn(t *testing.T) {
	const generations, rounds = 16, 300
	var table Table
	var chains Chains
	ca := newTestCA(t, "churn")
	ecdsa := ca.credential(t, &chains, "P-256", "example.com")
	rsa := ca.credential(t, &chains, "RSA-2048", "example.com")
	site := func(domain string, generation int) *Site {
		mark := []byte(fmt.Sprintf("%s %d", domain, generation))
		return &Site{Domain: domain, Credentials: []*Credential{ecdsa.WithStaple(mark), rsa.WithStaple(mark)}}
	}
	stays, moves := []string{"stays.example", "*.stays.example"}, []string{"moves.example"}
	table.Put(append(stays, moves...), site("left", 0))

	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				for _, name := range []string{"stays.example", "WWW.stays.example", "moves.example"} {
					checkWhole(t, &table, name)
				}
			}
		})
	}
	writers.Go(func() { // certificates are renewed and a name moves between two Domains
		for i := range rounds {
			table.Put(stays, site("left", i%generations))
			table.Put(moves, site("right", i%generations))
			table.Remove(moves, "left") // it is the other's: stays
			table.Put(moves, site("left", i%generations))
			table.Remove(moves, "right")
		}
	})
	writers.Go(func() { // the Table grows and shrinks
		for range rounds / 100 {
			var names []string
			for i := range 500 {
				names = append(names, fmt.Sprintf("n%d.example", i))
				table.Put(names[i:], site("crowd", i%generations))
			}
			table.Remove(names, "crowd")
		}
	})
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if got, want := table.exact.len, 2; got != want {
		t.Errorf("in the end got %d exact names, want %d", got, want)
	}
}

// checkWhole checks that name is served, and all of it by one generation.
func checkWhole(t *testing.T, table *Table, name string) {
	t.Helper()
	s := table.Lookup(name)
	if s == nil {
		t.Errorf("%s is unknown for a moment, want one Site or another", name)
		return
	}
	if s.Domain == "crowd" {
		t.Errorf("%s got a Site of another Domain", name)
	}
	mark := s.Credentials[0].TLS().OCSPStaple
	for _, c := range s.Credentials {
		if got := c.TLS().OCSPStaple; string(got) != string(mark) || !strings.HasPrefix(string(got), s.Domain) {
			t.Errorf("%s got a Site of %s with credentials of %q and %q, want one generation", name, s.Domain, mark, got)
		}
	}
}

// FuzzLookup checks that names of any kind break nothing, and that a name is
// found under all its spellings once it has been put.
func FuzzLookup(f *testing.F) {
	for _, name := range []string{"", ".", "*.", "*", "example.com", "*.Example.com", "a..b", "192.0.2.1", "::1", "fe80::1%x", "\xff", "ÄÖ.example"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		var table Table
		table.Certificate(&tls.ClientHelloInfo{ServerName: name})
		s := &Site{Domain: "d"}
		table.Put([]string{name}, s)
		_, key := table.place(name)
		if _, err := netip.ParseAddr(key); err == nil || len(name) > maxName || !isASCII(name) || key == "" || key[0] == '.' {
			table.Lookup(name)
			return
		}
		for _, spelt := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if got := table.Lookup(spelt); got != s {
				t.Errorf("after Put(%q), Lookup(%q) got %v, want the Site", name, spelt, got)
			}
		}
		table.Remove([]string{strings.ToUpper(name)}, "d")
		if got := table.Lookup(name); got != nil {
			t.Errorf("after Remove, Lookup(%q) got %v, want nil", name, got)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7f }) < 0
}
