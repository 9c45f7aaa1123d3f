// Package live serves: it finds the certificate for a handshake.
//
// A [Table] knows which [Site] serves which name, and a Site holds the
// credentials of one Domain. A handshake that asks for a known name takes no
// lock, allocates nothing, does no I/O and is not slowed by how many names
// there are. Whoever changes what is served builds a Site and puts it in the
// Table; a Site is never changed once it is there.
//
// A [Credential] is one key with its chain. It keeps, worked out beforehand,
// what a client must offer for it to be of use, so that of several
// credentials (an ECDSA and an RSA one, say) each client gets the first that
// it can use.
//
// A [Fallback] makes self-signed certificates for names that have no other
// yet. It is the one path in this package that takes a lock and allocates.
package live

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// maxName is the length in bytes of the longest name that is looked up: a DNS
// name has at most 253 without its trailing dot (RFC 1035 §2.3.4).
const maxName = 253

// Table knows which Site serves which name. The zero value is an empty Table.
// All methods may be called concurrently; Lookup, Certificate and
// UnknownNames never wait for the others.
//
// Names are DNS names in ASCII (A-labels), which may start with "*.", and IP
// addresses. Their case and one trailing dot do not matter.
type Table struct {
	// FallbackName is a name in the Table. The Site that serves it also
	// serves the hellos that no other does: those for unknown names, and those
	// without a name that arrive at an unknown address. If it is empty, or
	// while no Site serves it, nothing serves them. It must not change once
	// the Table is in use.
	FallbackName string

	// mu is held by those who change the indexes. Readers do not take it.
	mu        sync.Mutex
	exact     index // whole names, IP addresses as netip.Addr prints them
	wildcards index // "*.example.com" as "example.com"

	_       [128]byte     // so that strangers, who change what follows, slow down nobody who reads the above
	unknown atomic.Uint64 // hellos for unknown names
}

// Put makes s what serves names, in the place of whatever served them. Each
// name changes at once, one after the other: until Put returns, some may
// still be served by what was there before. Other names of the same Domain
// stay as they are; see [Table.Remove].
//
// Put takes time for the names given, not for those in the Table. It keeps
// s, which must not be nil or changed any more, and the strings of names.
func (t *Table) Put(names []string, s *Site) {
	serves := served{site: s, first: choicesOf(s)}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		ix, key := t.place(name)
		ix.put(key, serves)
	}
}

// Remove makes those of names unknown that are served by a Site whose Domain
// is domain. Names that another Domain has taken over meanwhile stay with it.
func (t *Table) Remove(names []string, domain string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		ix, key := t.place(name)
		if s := ix.find([]byte(key)); s != nil && s.site.Domain == domain {
			ix.remove(key)
		}
	}
}

// place returns the index that name belongs in, and its key there.
func (t *Table) place(name string) (*index, string) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if addr, err := netip.ParseAddr(name); err == nil {
		return &t.exact, addr.Unmap().WithZone("").String()
	}
	if parent, ok := strings.CutPrefix(name, "*."); ok {
		return &t.wildcards, parent
	}
	return &t.exact, name
}

// Lookup returns the Site that serves name: that of the exact name, else that
// of the wildcard which stands for its first label (RFC 9525 §6.3), else nil.
// "*.example.com" itself finds the Site of that wildcard.
func (t *Table) Lookup(name string) *Site {
	if s := t.find([]byte(name)); s != nil {
		return s.site
	}
	return nil
}

// find returns what serves name, or nil. It takes bytes because printed
// addresses are looked up, too: the compiler makes no copy of a string that
// is converted to bytes for functions in Go that only read them.
func (t *Table) find(name []byte) *served {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if len(name) > maxName {
		return nil
	}
	if s := t.exact.find(name); s != nil {
		return s
	}
	// A wildcard does not stand for an empty label.
	if dot := slices.Index(name, '.'); dot > 0 {
		return t.wildcards.find(name[dot+1:])
	}
	return nil
}

// Certificate returns the certificate for a handshake, and the Site it is of:
//
//   - If no Site serves hello, both are nil.
//   - If the Site has no credentials at all, the certificate is nil.
//   - Otherwise it is the first of Credentials that the client can use, else
//     the first of Former that it can use, else the first there is:
//     crypto/tls then fails the handshake with an error of its own that says
//     what the client lacks.
//
// The Site is the one that [Table.Lookup] finds for the server name. A hello
// without one comes from a client that knows the server by address only
// (RFC 6066 §3 allows no addresses there): it is for the Site that serves the
// address to which it connected, if hello.Conn is there to tell. Where that
// finds none, it is the Site of FallbackName.
//
// What a client can use is judged by what crypto/tls supports by default. A
// server that is configured to support more is asked about a hello that would
// otherwise find nothing. Of one that is configured to support less, the
// certificate may be one that its configuration has no use for.
func (t *Table) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, *Site) {
	s := t.serving(hello)
	if s == nil {
		return nil, nil
	}
	if c := s.first.choose(hello); c != nil {
		return c.TLS(), s.site
	}
	return nil, s.site
}

// serving returns what serves hello, or nil.
func (t *Table) serving(hello *tls.ClientHelloInfo) *served {
	var s *served
	if hello.ServerName == "" {
		s = t.findLocal(hello.Conn)
	} else if s = t.find([]byte(hello.ServerName)); s == nil {
		t.unknown.Add(1)
	}
	if s == nil && t.FallbackName != "" {
		return t.find([]byte(t.FallbackName))
	}
	return s
}

// findLocal returns what serves the address at which conn arrived, or nil.
func (t *Table) findLocal(conn net.Conn) *served {
	if conn == nil { // QUIC, and hellos that a program made up
		return nil
	}
	local, ok := conn.LocalAddr().(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return nil
	}
	addr := local.AddrPort().Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return nil
	}
	var buf [len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]byte
	return t.exact.find(addr.AppendTo(buf[:0]))
}

// UnknownNames returns how many hellos came for a server name that no Site
// serves, FallbackName aside.
func (t *Table) UnknownNames() uint64 { return t.unknown.Load() }
