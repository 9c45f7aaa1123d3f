package acmeclient

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
)

// CA says which certificate authority is meant: by name, by the URL of its ACME directory, or by both.
// The zero CA is Let's Encrypt.
//
// A CA is a value: copies may be used concurrently as long as nobody writes to them. CAs may be compared with == unless
// AccountKey is of a type that may not; see [CA.Endpoint] and [CA.AccountID] for what they have in common. Printing a CA
// shows its Name and URL, and nothing that is secret.
type CA struct {
	// Name is the name of a known CA in any case: "letsencrypt", "google", "zerossl"; see KnownCAs. "tailscale" is the
	// daemon of that name on this machine. With a URL it is only a label. Empty: what URL says, and Let's Encrypt if that
	// is empty too.
	Name string

	// URL is the https URL of the ACME directory (RFC 8555 §7.1.1). Empty: what Name says.
	//
	// With the Protocol Tailscale it is the socket of the daemon, file:///run/tailscaled.sock or file://localhost/run/….
	// Empty: where the daemon has it on this operating system.
	URL string

	// Protocol is how the CA is spoken to. Zero: ACME.
	Protocol Protocol

	// EAB binds the account to one at the CA's web site, which some CAs need. Zero: not.
	EAB EAB

	// RehearsalEAB is the EAB at the CA's test endpoint (see Rehearsal), which does not know those of the CA. Zero: none.
	RehearsalEAB EAB

	// AccountKey is the key of the account: EC P-256 or P-384, or RSA, wherever it is kept, such as in a KMS. It is used
	// by several goroutines at once. To the CA, the key is the account: another key has another account. Zero: one is
	// made, and kept in the Store.
	AccountKey crypto.Signer `json:"-"`

	// Roots are trusted when connecting to the CA. They have no influence on the certificates it issues.
	// Nil: the system's roots.
	Roots *x509.CertPool `json:"-"`

	// Proxy is the URL of the proxy to the CA: http, https or socks5, with name and password if it wants them. "none":
	// there is none. Zero: what the http.Client has, which by default is what the environment says (HTTPS_PROXY, NO_PROXY).
	Proxy string `json:"-"`

	// PlainLoopback allows http URLs, the directory's and those that it hands out, if their host is
	// localhost or a loopback address. It is meant for tests.
	PlainLoopback bool

	// Limits are what the CA allows. What is zero is as Allowed says: Let's Encrypt's.
	Limits Limits
}

const maxDirectoryURL = 2048 // bytes; no directory in use comes near it

// Format writes Name and URL, whatever the verb: a Proxy may have a password, and an AccountKey may be the key itself.
func (ca CA) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, strings.TrimSpace(clean(ca.Name, 64)+" "+clean(ca.URL, 256)))
}

// Resolve returns ca with Name and URL filled in: a known name gets its URL, a known URL its name, and an unknown URL its host as name.
// It reports what cannot work without asking any network or reading any file: a name that is not known, a CA that has closed,
// a directory of the protocol before RFC 8555, a URL that is not absolute, not https (see PlainLoopback),
// or that has userinfo or a fragment, an EAB that is missing or malformed, an AccountKey that CAs do not take, a Proxy that
// is none. Resolving a resolved CA changes nothing.
func (ca CA) Resolve() (CA, error) {
	if err := ca.Limits.Check(); err != nil {
		return CA{}, err
	}
	protocol, err := parseProtocol(ca)
	if err != nil {
		return CA{}, err
	}
	ca.Protocol, ca.Proxy = protocol, canonicalProxy(ca.Proxy)
	locate := CA.locate
	if protocol == Tailscale {
		locate = CA.locateSocket
	}
	if ca, err = locate(ca); err != nil {
		return CA{}, err
	}
	if _, err := parseProxy(ca.Proxy); err != nil {
		return CA{}, fmt.Errorf("the CA %s: %w", clean(ca.Name, 64), err)
	}
	if err := ca.checkAccount(); err != nil {
		return CA{}, fmt.Errorf("the CA %s: %w", clean(ca.Name, 64), err)
	}
	return ca, nil
}

// locate fills in Name and URL of a CA that speaks ACME.
func (ca CA) locate() (CA, error) {
	name := strings.ToLower(strings.TrimSpace(ca.Name))
	if err := closedName(name); err != nil {
		return CA{}, err
	}
	known := knownByName(name)
	if ca.URL == "" {
		if name == "" {
			known = knownByName("letsencrypt")
		}
		if known == nil {
			return CA{}, fmt.Errorf("the CA name %q is not known; known are %s, any other CA needs the URL of its ACME directory", clean(ca.Name, 64), knownNames())
		}
		ca.Name, ca.URL = known.Name, known.URL
		return ca, nil
	}

	u, err := parseDirectoryURL(ca.URL, ca.PlainLoopback)
	if err != nil {
		return CA{}, fmt.Errorf("the CA URL %q %w", clean(ca.URL, 256), err)
	}
	ca.URL = u.String()
	if known != nil && ca.URL != known.URL {
		return CA{}, fmt.Errorf("the CA name %q means %s, but the URL says %s: leave one of them out", name, known.URL, clean(ca.URL, 256))
	}
	switch byURL := knownByURL(ca.URL); {
	case known != nil:
		ca.Name = known.Name
	case ca.Name != "": // a label of the user's own
	case byURL != nil:
		ca.Name = byURL.Name
	default:
		ca.Name = u.Host
	}
	return ca, nil
}

// checkAccount reports what is wrong with what makes an account. Without an AccountKey, whose account the CA may know already,
// a CA that needs an EAB needs it now: it would refuse every account, and only once it is asked.
func (ca CA) checkAccount() error {
	if err := ca.EAB.check(); err != nil {
		return err
	}
	if err := ca.RehearsalEAB.check(); err != nil {
		return fmt.Errorf("for rehearsals: %w", err)
	}
	if ca.AccountKey != nil {
		return checkAccountKey(ca.AccountKey)
	}
	if known := ca.known(); known != nil && known.NeedsEAB && ca.EAB.IsZero() {
		return fmt.Errorf("it needs an external account binding (EAB): %s", known.EABHelp)
	}
	return nil
}

// Endpoint tells CAs apart that need a [Client] of their own: those with another URL, or other ways to connect. It is
// comparable, for use as a map's key. [Client.For] adapts a Client to a CA with the same Endpoint.
type Endpoint struct {
	protocol Protocol
	url      string
	roots    *x509.CertPool
	proxy    Secret // it may have a password
	plain    bool
}

// Endpoint returns what ca, once resolved, has in common with CAs that can share a Client.
func (ca CA) Endpoint() Endpoint {
	return Endpoint{protocol: ca.Protocol, url: ca.URL, roots: ca.Roots, proxy: NewSecret(ca.Proxy), plain: ca.PlainLoopback}
}

var errBuypass = errors.New("the CA Buypass has closed its ACME service: it issued its last certificate on 2025-10-31 and all have expired since 2026-04-15; choose another CA")

func closedName(name string) error {
	if name == "buypass" || name == "buypass-test" {
		return fmt.Errorf("the CA name %q cannot be used: %w", name, errBuypass)
	}
	return nil
}

// parseDirectoryURL returns the URL with scheme and host in lower case, or what is wrong with it,
// as the rest of a sentence that begins with the URL.
func parseDirectoryURL(s string, plainLoopback bool) (*url.URL, error) {
	if len(s) > maxDirectoryURL {
		return nil, fmt.Errorf("is longer than %d bytes", maxDirectoryURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which the caller prints
		}
		return nil, fmt.Errorf("is not a URL: %w", err)
	}
	if err := checkURL(u, plainLoopback); err != nil {
		return nil, err
	}
	u.Host = strings.ToLower(u.Host)
	switch u.Hostname() {
	case "api.buypass.com", "api.test4.buypass.no":
		return nil, fmt.Errorf("cannot be used: %w", errBuypass)
	case "acme-v01.api.letsencrypt.org", "acme-staging.api.letsencrypt.org":
		return nil, fmt.Errorf("cannot be used: %w; Let's Encrypt's directory is %s", errACMEv1, letsEncryptURL)
	}
	return u, nil
}

// checkURL reports whether u may be asked: it is applied to the directory's URL and to every URL that a CA hands out.
// The error is the rest of a sentence that begins with the URL.
func checkURL(u *url.URL, plainLoopback bool) error {
	switch {
	case u.Opaque != "" || !u.IsAbs() || u.Hostname() == "":
		return errors.New("is not an absolute URL: it must look like https://host/path")
	case u.User != nil:
		return errors.New("contains a user name or password, which ACME has no use for")
	case u.Fragment != "":
		return errors.New("contains a fragment (#…)")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("has the scheme %q, but RFC 8555 §6.1 wants https", clean(u.Scheme, 32))
	case !plainLoopback || !isLoopback(u.Hostname()):
		return errors.New("is not https, which RFC 8555 §6.1 wants (PlainLoopback allows http on a loopback host, for tests)")
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
