package live

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// benchTable is a Table of n Domains with one name each, and beside it the
// least that could do: a map behind a pointer.
type benchTable struct {
	table Table
	floor atomic.Pointer[map[string]*tls.Certificate]
	names []string
}

// newBenchTable gives each Domain a Site and credentials of its own, so that
// memory is as scattered as in a server.
func newBenchTable(b *testing.B, n int, kinds ...string) *benchTable {
	b.Helper()
	var chains Chains
	ca := newTestCA(b, "bench")
	var made []*Credential
	for _, kind := range kinds {
		made = append(made, ca.credential(b, &chains, kind, "*.example.com"))
	}
	bt := &benchTable{}
	floor := make(map[string]*tls.Certificate)
	for i := range n {
		s := &Site{Domain: fmt.Sprintf("host-%06d.example.com", i)}
		for _, c := range made {
			s.Credentials = append(s.Credentials, c.WithStaple(nil))
		}
		bt.names = append(bt.names, s.Domain)
		bt.table.Put([]string{s.Domain, "*." + s.Domain}, s)
		floor[s.Domain] = s.Credentials[0].TLS()
	}
	bt.floor.Store(&floor)
	return bt
}

// hellos returns hellos for some of the names, each as spelt by spell.
func (bt *benchTable) hellos(hello func(string) *tls.ClientHelloInfo, spell func(string) string) []*tls.ClientHelloInfo {
	var all []*tls.ClientHelloInfo
	for i := range 64 {
		all = append(all, hello(spell(bt.names[i*7919%len(bt.names)])))
	}
	return all
}

func asIs(name string) string     { return name }
func wildcard(name string) string { return "www." + name }
func missing(name string) string  { return "no-" + name }

func (bt *benchTable) run(b *testing.B, hellos []*tls.ClientHelloInfo, found bool) {
	b.Helper()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		certificate, _ := bt.table.Certificate(hellos[i%64])
		if (certificate != nil) != found {
			b.Fatalf("got certificate %v, want one: %v", certificate != nil, found)
		}
		i++
	}
}

// BenchmarkGetCertificate finds certificates for 64 names spread over the
// Table, and for comparison (floor) in a bare map.
func BenchmarkGetCertificate(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		b.Run(fmt.Sprintf("names=%d", n), func(b *testing.B) {
			one := newBenchTable(b, n, "P-256")
			two := newBenchTable(b, n, "P-256", "RSA-2048")
			hellos := one.hellos(modernHello, asIs)
			b.Run("floor", func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if (*one.floor.Load())[hellos[i%64].ServerName] == nil {
						b.Fatal("got no certificate")
					}
					i++
				}
			})
			b.Run("exact", func(b *testing.B) { one.run(b, hellos, true) })
			b.Run("mixed case", func(b *testing.B) { one.run(b, one.hellos(modernHello, strings.ToUpper), true) })
			b.Run("wildcard", func(b *testing.B) { one.run(b, one.hellos(modernHello, wildcard), true) })
			b.Run("miss", func(b *testing.B) { one.run(b, one.hellos(modernHello, missing), false) })
			b.Run("two keys, modern hello", func(b *testing.B) { two.run(b, two.hellos(modernHello, asIs), true) })
			b.Run("two keys, RSA-only hello", func(b *testing.B) { two.run(b, two.hellos(rsaHello, asIs), true) })
			b.Run("parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if c, _ := one.table.Certificate(hellos[i%64]); c == nil {
							b.Error("got no certificate")
						}
					}
				})
			})
		})
	}
}

// BenchmarkWithoutName finds certificates for hellos that name no server, at
// 64 addresses that the Table knows and at such that it does not.
func BenchmarkWithoutName(b *testing.B) {
	bt := newBenchTable(b, 1_000, "P-256")
	bt.table.FallbackName = bt.names[500]
	var known, unknown []*tls.ClientHelloInfo
	for i := range 64 {
		addr := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 15: byte(i)})
		bt.table.Put([]string{addr.String()}, bt.table.Lookup(bt.names[i]))
		at := func(addr netip.Addr) *tls.ClientHelloInfo {
			hello := modernHello("")
			hello.Conn = connAt{local: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 443))}
			return hello
		}
		known, unknown = append(known, at(addr)), append(unknown, at(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})))
	}
	b.Run("known address", func(b *testing.B) { bt.run(b, known, true) })
	b.Run("unknown address", func(b *testing.B) { bt.run(b, unknown, true) })
}
