package live

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	fallbackName     = "Managed Domain Fallback" // the common name in all of them
	fallbackLifetime = 14 * 24 * time.Hour
	// fallbackReserve is what must be left of a certificate's life for it to
	// be given out.
	fallbackReserve = fallbackLifetime / 2
	// fallbackBackdating keeps clients happy whose clocks are slow.
	fallbackBackdating = time.Hour
	// maxFallbacks is how many certificates are kept.
	maxFallbacks = 1000
)

// Fallback makes self-signed certificates for names that have no other yet,
// so that a server can always start and shake hands. All have the same ECDSA
// P-256 key, which is made when the first is asked for and never leaves the
// process, live for 14 days and are made anew after seven. No more than 1,000
// are kept; then some other makes room.
//
// Unlike a [Table], a Fallback takes a lock and allocates; it does no I/O.
// The zero value is ready; it may be used concurrently.
type Fallback struct {
	makeKey sync.Once // then the two below may be read
	key     *ecdsa.PrivateKey
	keyErr  error

	mu     sync.Mutex         // guards minted
	minted map[string]*minted // by name
}

// minted is one certificate, or becomes it when once is done. The fields
// after once may be read after that.
type minted struct {
	from, until time.Time // when it may be given out
	once        sync.Once
	certificate *tls.Certificate
	err         error
}

// Certificate returns the certificate for name, which is a DNS name in ASCII,
// a wildcard or an IP address. It is best a name that was declared and not
// what a client sent: one for "*.example.com" serves all clients that ask for
// names it covers. The empty name is for clients that send none.
//
// Calls for one name share one certificate; it must not be changed. The error
// says that name can stand in no certificate.
func (f *Fallback) Certificate(name string, now time.Time) (*tls.Certificate, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > maxName {
		return nil, fmt.Errorf("live: no fallback certificate for %.40q…: it has %d bytes, more than %d", name, len(name), maxName)
	}
	f.makeKey.Do(func() { f.key, f.keyErr = ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	if f.keyErr != nil {
		return nil, fmt.Errorf("live: no key for fallback certificates: %w", f.keyErr)
	}
	m := f.reserve(name, now)
	m.once.Do(func() { m.certificate, m.err = f.mint(name, m.from) })
	if m.err != nil {
		f.forget(name, m)
		return nil, fmt.Errorf("live: no fallback certificate for %q: %w", name, m.err)
	}
	return m.certificate, nil
}

// reserve returns the place of the certificate for name: the one there is if
// it is in date, else an empty one that the caller must fill.
func (f *Fallback) reserve(name string, now time.Time) *minted {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.minted[name]
	if m != nil && !now.Before(m.from) && now.Before(m.until) {
		return m
	}
	if m == nil && len(f.minted) >= maxFallbacks {
		for other := range f.minted { // whichever comes first: the order is random
			delete(f.minted, other)
			break
		}
	}
	if f.minted == nil {
		f.minted = make(map[string]*minted)
	}
	from := now.Add(-fallbackBackdating).Truncate(time.Second)
	m = &minted{from: from, until: from.Add(fallbackLifetime - fallbackReserve)}
	f.minted[name] = m
	return m
}

// forget gives up the place of a certificate that could not be made.
func (f *Fallback) forget(name string, m *minted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.minted[name] == m {
		delete(f.minted, name)
	}
}

// mint makes a certificate that is valid from the moment given.
func (f *Fallback) mint(name string, from time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{ // with a random serial number
		Subject:               pkix.Name{CommonName: fallbackName},
		NotBefore:             from,
		NotAfter:              from.Add(fallbackLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, // and not a CA
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		template.IPAddresses = append(template.IPAddresses, addr.Unmap().AsSlice())
	} else if name != "" {
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, f.key.Public(), f.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: f.key}, nil
}
