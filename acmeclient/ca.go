package acmeclient

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// CA says which certificate authority is meant: by name, by the URL of its ACME directory, or by both.
// The zero CA is Let's Encrypt.
//
// A CA is a value: copies may be used concurrently as long as nobody writes to them.
type CA struct {
	// Name is the name of a known CA in any case: "letsencrypt" or "letsencrypt-staging".
	// With a URL it is only a label. Empty: what URL says, and Let's Encrypt if that is empty too.
	Name string

	// URL is the https URL of the ACME directory (RFC 8555 §7.1.1). Empty: what Name says.
	URL string

	// Roots are trusted when connecting to the CA. They have no influence on the certificates it issues.
	// Nil: the system's roots.
	Roots *x509.CertPool

	// PlainLoopback allows http URLs, the directory's and those that it hands out, if their host is
	// localhost or a loopback address. It is meant for tests.
	PlainLoopback bool

	// Limits are what the CA allows. What is zero is as Allowed says: Let's Encrypt's.
	Limits Limits
}

// Directories of the CAs that are known by name.
const (
	letsEncryptURL        = "https://acme-v02.api.letsencrypt.org/directory"
	letsEncryptStagingURL = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

const maxDirectoryURL = 2048 // bytes; no directory in use comes near it

// Resolve returns ca with Name and URL filled in: a known name gets its URL, a known URL its name, and an unknown URL its host as name.
// It reports what cannot work without asking any network: a name that is not known, a CA that has closed,
// a directory of the protocol before RFC 8555, a URL that is not absolute, not https (see PlainLoopback),
// or that has userinfo or a fragment. Resolving a resolved CA changes nothing.
func (ca CA) Resolve() (CA, error) {
	name := strings.ToLower(strings.TrimSpace(ca.Name))
	if err := closedName(name); err != nil {
		return CA{}, err
	}
	if err := ca.Limits.Check(); err != nil {
		return CA{}, err
	}
	known, isKnown := knownURL(name)
	if ca.URL == "" {
		if name == "" {
			name, known, isKnown = "letsencrypt", letsEncryptURL, true
		}
		if !isKnown {
			return CA{}, fmt.Errorf("the CA name %q is not known; known are letsencrypt and letsencrypt-staging, any other CA needs the URL of its ACME directory", clean(ca.Name, 64))
		}
		ca.Name, ca.URL = canonicalName(name), known
		return ca, nil
	}

	u, err := parseDirectoryURL(ca.URL, ca.PlainLoopback)
	if err != nil {
		return CA{}, fmt.Errorf("the CA URL %q %w", clean(ca.URL, 256), err)
	}
	ca.URL = u.String()
	if isKnown && ca.URL != known {
		return CA{}, fmt.Errorf("the CA name %q means %s, but the URL says %s: leave one of them out", name, known, clean(ca.URL, 256))
	}
	switch {
	case isKnown:
		ca.Name = canonicalName(name)
	case ca.Name != "": // a label of the user's own
	case ca.URL == letsEncryptURL:
		ca.Name = "letsencrypt"
	case ca.URL == letsEncryptStagingURL:
		ca.Name = "letsencrypt-staging"
	default:
		ca.Name = u.Host
	}
	return ca, nil
}

// knownURL returns the directory of the CA with that lower-case name.
func knownURL(name string) (string, bool) {
	switch name {
	case "letsencrypt":
		return letsEncryptURL, true
	case "letsencrypt-staging", "letsencrypt-test": // the latter is how Apache's mod_md calls it
		return letsEncryptStagingURL, true
	}
	return "", false
}

func canonicalName(name string) string {
	if name == "letsencrypt-test" {
		return "letsencrypt-staging"
	}
	return name
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
