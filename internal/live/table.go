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
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
)

// maxName is the length in bytes of the longest name that is looked up: a DNS
// name has at most 253 without its trailing dot (RFC 1035 §2.3.4).
const maxName = 253

// Table knows which Site serves which name. The zero value is an empty Table.
// All methods may be called concurrently; Lookup and Certificate never wait
// for the others.
//
// Names are DNS names in ASCII (A-labels), which may start with "*.", and IP
// addresses. Their case and one trailing dot do not matter.
type Table struct {
	// mu is held by those who change the indexes. Readers do not take it.
	mu        sync.Mutex
	exact     index // whole names, IP addresses as netip.Addr prints them
	wildcards index // "*.example.com" as "example.com"
}

// Put makes s what serves names, in the place of whatever served them. Each
// name changes at once, one after the other: until Put returns, some may
// still be served by what was there before. Other names of the same Domain
// stay as they are; see [Table.Remove].
//
// Put takes time for the names given, not for those in the Table. It keeps
// s, which must not be nil or changed any more, and the strings of names.
func (t *Table) Put(names []string, s *Site) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		ix, key := t.place(name)
		ix.put(key, s)
	}
}

// Remove makes those of names unknown that are served by a Site whose Domain
// is domain. Names that another Domain has taken over meanwhile stay with it.
func (t *Table) Remove(names []string, domain string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		ix, key := t.place(name)
		if s := find(ix, key); s != nil && s.Domain == domain {
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
	name = strings.TrimSuffix(name, ".")
	if len(name) > maxName {
		return nil
	}
	if mayHaveUpper(name) {
		return t.lookupMixedCase(name)
	}
	return lookup(t, name)
}

// mayHaveUpper reports whether name may have upper-case letters. All that a
// DNS name in lower case is made of has the bit set that tells 'a' from 'A',
// so eight bytes are looked at in one step: each handshake has to do this.
func mayHaveUpper(name string) bool {
	const bits = 0x2020202020202020
	if len(name) < 8 {
		return true
	}
	all := binary.LittleEndian.Uint64([]byte(name[len(name)-8:])) // may overlap the rest
	for len(name) >= 8 {
		all &= binary.LittleEndian.Uint64([]byte(name[:8]))
		name = name[8:]
	}
	return all&bits != bits
}

// lookupMixedCase looks up name, at most maxName bytes long, in lower case.
// It stands alone so that only such names pay for the buffer.
//
//go:noinline
func (t *Table) lookupMixedCase(name string) *Site {
	var buf [maxName]byte
	lower := buf[:len(name)]
	i := 0
	for ; i+8 <= len(name); i += 8 {
		w := lowerWord(binary.LittleEndian.Uint64([]byte(name[i : i+8])))
		binary.LittleEndian.PutUint64(lower[i:], w)
	}
	for ; i < len(name); i++ {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return lookup(t, lower)
}

// lowerWord makes the upper-case letters among eight bytes lower. Adding to
// seven bits of each byte carries into the eighth where it is at least 'A', or
// more than 'Z'; where only the first is so, it is a letter to change.
func lowerWord(w uint64) uint64 {
	const ones = 0x0101010101010101
	low := w & (0x7f * ones)
	fromA := low + (0x80-'A')*ones
	pastZ := low + (0x7f-'Z')*ones
	upper := (fromA ^ pastZ) &^ w & (0x80 * ones)
	return w | upper>>2 // 0x80>>2 is what tells 'a' from 'A'
}

// lookup finds the Site of a name in lower case.
func lookup[N string | []byte](t *Table, name N) *Site {
	if s := find(&t.exact, name); s != nil {
		return s
	}
	for i := range len(name) {
		if name[i] == '.' {
			if i == 0 {
				return nil // a wildcard does not stand for an empty label
			}
			return find(&t.wildcards, name[i+1:])
		}
	}
	return nil
}

// Certificate returns the certificate for a handshake, and the Site it is of:
//
//   - If hello names a server that no Site serves, both are nil.
//   - If the Site has no credentials at all, the certificate is nil.
//   - Otherwise it is the first of Credentials that the client can use, else
//     the first of Former that it can use, else the first there is:
//     crypto/tls then fails the handshake with an error of its own that says
//     what the client lacks.
//
// A hello without a server name comes from a client that knows the server by
// address only (RFC 6066 §3 allows no addresses there): it is for the Site
// that serves the address to which it connected, if hello.Conn is there to
// tell.
//
// What a client can use is judged by what crypto/tls supports by default. A
// server that is configured to support more is asked about a hello that would
// otherwise find nothing. Of one that is configured to support less, the
// certificate may be one that its configuration has no use for.
func (t *Table) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, *Site) {
	var s *Site
	if hello.ServerName != "" {
		s = t.Lookup(hello.ServerName)
	} else {
		s = t.lookupLocal(hello)
	}
	if s == nil {
		return nil, nil
	}
	if c := s.choose(hello); c != nil {
		return c.TLS(), s
	}
	return nil, s
}

// lookupLocal finds the Site of the address at which hello arrived.
func (t *Table) lookupLocal(hello *tls.ClientHelloInfo) *Site {
	if hello.Conn == nil { // QUIC, and hellos that a program made up
		return nil
	}
	local, ok := hello.Conn.LocalAddr().(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return nil
	}
	addr := local.AddrPort().Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return nil
	}
	var buf [len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]byte
	return find(&t.exact, addr.AppendTo(buf[:0]))
}
