package md

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"
	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/internal/front"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// The words of other packages that users of a Manager need.
type (
	// Store is where a Manager remembers accounts, keys, certificates and
	// jobs: see package store.
	Store = store.Store

	// Challenger proves control of names to a CA: see package challenge.
	Challenger = challenge.Challenger

	// HTTP01 and TLSALPN01 are the built-in Challengers. In a list of
	// Challengers, &HTTP01{} and &TLSALPN01{} name those of the Manager.
	HTTP01    = challenge.HTTP01
	TLSALPN01 = challenge.TLSALPN01

	// Notifier is told of events: see package status.
	Notifier     = status.Notifier
	NotifierFunc = status.NotifierFunc
	Event        = status.Event

	// Window is a length of time before expiry.
	Window = status.Window

	// CA is a certificate authority, by name or by URL.
	CA = acmeclient.CA

	// Problem is what a CA answered instead of a certificate: errors.As
	// finds it in the errors of Renew and Ready, and in Event.Err.
	Problem = acmeclient.Problem

	// KeyType is the type of a certificate's key.
	KeyType = acmeclient.KeyType
)

// The key types. P256 is the default; RSA is for clients that are older than
// about 2014.
const (
	P256    = acmeclient.P256
	P384    = acmeclient.P384
	P521    = acmeclient.P521
	RSA2048 = acmeclient.RSA2048
	RSA3072 = acmeclient.RSA3072
	RSA4096 = acmeclient.RSA4096
)

// Errors that callers branch on, with errors.Is.
var (
	// ErrNotManaged: the name belongs to none of the Domains.
	ErrNotManaged = engine.ErrNotManaged
	// ErrNotReady: a Domain has no certificate in date.
	ErrNotReady = engine.ErrNotReady
	// ErrRunning: Run was called while it was running already.
	ErrRunning = engine.ErrRunning
	// ErrVeto is what a Notifier wraps to veto an event.
	ErrVeto = status.ErrVeto
)

// ConfigError says which field of which Domain cannot work. Check finds all
// of them at once and joins them: range over them with errors.As, or print
// them.
type ConfigError struct {
	// Domain is the Domain's Name, or "" for a field of the Manager.
	Domain string
	// Field is the name of the field.
	Field string
	// Err is what is wrong, and what to do.
	Err error
}

// Error returns one line that names the Domain and the field.
func (e *ConfigError) Error() string {
	if e.Domain == "" {
		return fmt.Sprintf("md: %s: %v", e.Field, e.Err)
	}
	return fmt.Sprintf("md: Domain %q: %s: %v", e.Domain, e.Field, e.Err)
}

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// Domain is a set of names that share certificates. Every field that is left
// zero means what Manager.Default says.
type Domain struct {
	// Name identifies the Domain in the Store and on status pages. Change
	// Names as you like; a Domain that keeps its Name keeps its certificates.
	// Zero: the first of Names, in ASCII.
	Name string

	// Names are the DNS names that the certificates cover: in Unicode or
	// ASCII, in any case, wildcards ("*.example.com") included. There must be
	// at least one. A name may stand in one Domain only; a wildcard and a
	// name that it covers may stand in two: the exact name wins.
	Names []string

	// CAs says where certificates are ordered. Zero: Let's Encrypt. There
	// may be one.
	CAs []CA

	// Contacts are e-mail addresses (or URLs) that the CA is given when the
	// account is registered. Many CAs neither need nor keep them.
	Contacts []string

	// KeyTypes has a certificate for each; a client gets the first that it
	// can use. Zero: P256.
	KeyTypes []KeyType

	// Challengers are all that may prove control of the names, best first.
	// Zero: tls-alpn-01, http-01, and then Manager.Challengers.
	Challengers []Challenger

	// RenewWindow is the time before expiry in which a certificate is
	// renewed. Zero: a third of its lifetime; half of it for lifetimes under
	// ten days.
	RenewWindow Window
}

// Manager gets, renews and serves certificates for its Domains. Set the
// fields before the first method call, and do not change them after it. All
// methods may be called concurrently.
//
// The zero Manager serves nothing and contacts nobody: nothing is ordered
// that was not declared.
type Manager struct {
	// Domains are those to look after. They are read at the first method
	// call; later, use Update.
	Domains []Domain

	// Default fills what a Domain leaves zero, all but Name and Names.
	Default Domain

	// AcceptTerms says that you agree to the terms of service of the CAs.
	// Until it is set, the Domains at a CA that has terms serve the fallback
	// certificate, and their status says which terms.
	AcceptTerms bool

	// Store is where everything is kept that must survive a restart. Zero: a
	// store.Dir at $STATE_DIRECTORY (which systemd sets), else at "md" in the
	// user's configuration directory; if there is neither, a ConfigError.
	Store Store

	// Challengers are used in addition to the built-in ones: tls-alpn-01,
	// which works through TLSConfig, and http-01, through HTTPHandler.
	Challengers []Challenger

	// Notifier is told what happens. Zero: nobody.
	Notifier Notifier

	// Logger takes the log. Zero: slog.Default().
	Logger *slog.Logger

	// HTTPClient speaks to the CAs; its Transport is wrapped. Zero: a client
	// with time-outs and the proxy of the environment.
	HTTPClient *http.Client

	// HTTPAddr and HTTPSAddr are where ListenAndServe listens. Zero: ":80"
	// and ":443". "-": nowhere.
	HTTPAddr, HTTPSAddr string

	// CheckInterval is the time between two regular looks at a Domain, give
	// or take a half. Deadlines do not wait for it. Zero: 12 hours.
	CheckInterval time.Duration

	// RetryDelay is the time to the second attempt; it doubles with each
	// failure, up to a day, give or take a half. Zero: 30 seconds.
	RetryDelay time.Duration

	once   sync.Once
	engine *engine.Engine
	config error // what Check found at the first method call
}

// Check returns all configuration errors at once, nil if there are none: an
// errors.Join of *ConfigError. It does no I/O.
func (m *Manager) Check() error {
	_, err := m.resolve(m.Domains)
	return errors.Join(err, m.checkStore())
}

// Load reads what the Store has for the Domains, so that it is served from
// the first handshake on. It contacts no CA, and leaves nothing running. A
// value that is broken is logged and will be replaced; the error is one of
// the configuration, or says that the Store cannot be read.
//
// Run calls it; call it yourself before you open your own listener.
func (m *Manager) Load(ctx context.Context) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return e.Load(ctx)
}

// Run looks after the Domains until ctx ends, and returns nil then: it gets
// certificates that are missing, and renews those whose time has come. All
// else that a Manager does works without it, with what the Store has.
//
// Run may be called again when it has returned. The error is ErrRunning while
// another call is running.
func (m *Manager) Run(ctx context.Context) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

// Ready returns nil when the Domains of all names have certificates in date;
// without names, when all Domains have. A name is a DNS name or a Domain's
// Name. It waits until that is so. The error is ErrNotManaged for an unknown
// name; ErrNotReady at once when somebody's help is needed, wrapping why; and
// ErrNotReady when ctx ends.
//
// Certificates are only got while Run is running.
func (m *Manager) Ready(ctx context.Context, names ...string) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	ascii := make([]string, 0, len(names))
	for _, name := range names {
		ascii = append(ascii, lookupName(name))
	}
	return e.Ready(ctx, ascii...)
}

// Update replaces the Domains. They are checked as a whole first; if there is
// a ConfigError, nothing changes. Domains that are as before keep everything.
// Those that are gone are no longer served; what the Store has of them stays,
// and is used when they come back.
func (m *Manager) Update(ctx context.Context, domains []Domain) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	defs, err := m.resolve(domains)
	if err != nil {
		return err
	}
	e.SetDomains(defs)
	return e.Load(ctx)
}

// Renew orders certificates for a Domain, given by its Name or any of its DNS
// names, now, and returns when they are in use. It works with and without
// Run. If the CA refuses, the error is a *Problem.
func (m *Manager) Renew(ctx context.Context, name string) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return e.Renew(ctx, lookupName(name))
}

// TLSConfig returns a configuration that serves the Domains and answers
// tls-alpn-01 challenges, for HTTP/1.1 and HTTP/2. It may be changed; leave
// Certificates empty, or Go does not ask for a certificate where a client
// sends no server name.
//
// Clients that ask for names that are not managed get the alert
// unrecognized_name.
func (m *Manager) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: m.GetConfigForClient,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := m.GetCertificate(hello)
			if errors.Is(err, ErrNotManaged) {
				return nil, nil // crypto/tls sends unrecognized_name
			}
			return cert, err
		},
	}
}

// GetCertificate is for tls.Config.GetCertificate. It answers from memory,
// takes no lock and allocates nothing for a name that has a certificate. A
// Domain without one is served a self-signed certificate. For other names
// the error is ErrNotManaged.
//
// Until Load or Run has read a Domain, a handshake for it reads its
// certificate from the Store, and waits for that at most 5 seconds.
//
// It also answers tls-alpn-01 validators, if "acme-tls/1" is among the
// configuration's NextProtos; TLSConfig needs no such care. Hello.Conn may be
// nil.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	m.once.Do(m.build)
	return m.engine.Certificate(hello)
}

// GetConfigForClient is for tls.Config.GetConfigForClient: it answers
// tls-alpn-01 validators (RFC 8737), and returns nil, nil for all others. It
// closes their connections after 10 seconds.
func (m *Manager) GetConfigForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	m.once.Do(m.build)
	return m.engine.ConfigForClient(hello)
}

// HTTPHandler returns the handler for port 80: it answers http-01 challenges
// and gives all else to next. A nil next answers 404.
func (m *Manager) HTTPHandler(next http.Handler) http.Handler {
	m.once.Do(m.build)
	return front.HTTPHandler(m.engine.HTTP01(), next)
}

// HTTPSHandler returns the handler for port 443: it answers 503 for names
// that have only the self-signed fallback certificate, and gives all else to
// next. A nil next answers 404.
func (m *Manager) HTTPSHandler(next http.Handler) http.Handler {
	m.once.Do(m.build)
	return front.HTTPSHandler(m.engine.HTTP01(), m.engine.OnFallback, next)
}

// ListenAndServe listens on HTTPAddr and HTTPSAddr and serves h on both, with
// everything around it: see Serve.
func (m *Manager) ListenAndServe(ctx context.Context, h http.Handler) error {
	if _, err := m.start(); err != nil {
		return err
	}
	plain, err := listen(ctx, cmp.Or(m.HTTPAddr, ":80"))
	if err != nil {
		return err
	}
	secure, err := listen(ctx, cmp.Or(m.HTTPSAddr, ":443"))
	if err != nil {
		if plain != nil {
			plain.Close()
		}
		return err
	}
	return m.Serve(ctx, h, plain, secure)
}

// listen returns a listener for addr, nil for "-".
func listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "-" {
		return nil, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("md: listening on %s: %w", addr, err)
	}
	return l, nil
}

// Serve serves h on both listeners, over HTTP/1.1 on plain and HTTP/2 or
// HTTP/1.1 on secure, and runs the Manager, until ctx ends; then it stops
// gracefully and returns nil. Either listener may be nil; both are closed.
func (m *Manager) Serve(ctx context.Context, h http.Handler, plain, secure net.Listener) error {
	e, err := m.start()
	if err != nil {
		for _, l := range []net.Listener{plain, secure} {
			if l != nil {
				l.Close()
			}
		}
		return err
	}
	servers := &front.Servers{
		Plain: plain, PlainHandler: m.HTTPHandler(h),
		Secure: secure, Handler: m.HTTPSHandler(h), TLS: m.TLSConfig(),
		Logger: m.logger(),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return servers.Run(ctx) })
	group.Go(func() error { return e.Run(ctx) })
	return group.Wait()
}

// Status yields the report of each Domain, in the order of their Names. A
// Manager is a status.Source: see status.JSON and status.Text for handlers.
func (m *Manager) Status() iter.Seq[status.Domain] {
	m.once.Do(m.build)
	return m.engine.Status()
}

func (m *Manager) logger() *slog.Logger { return cmp.Or(m.Logger, slog.Default()) }

// start returns the engine, built at the first call, or what is wrong with
// the configuration.
func (m *Manager) start() (*engine.Engine, error) {
	m.once.Do(m.build)
	return m.engine, m.config
}

// build makes the engine. If the configuration is wrong, it has no Domains.
func (m *Manager) build() {
	s, err := m.store()
	defs, domainsErr := m.resolve(m.Domains)
	m.config = errors.Join(domainsErr, err)
	if m.config != nil {
		s, defs = cmp.Or[Store](s, new(store.Memory)), nil
	}
	m.engine = engine.New(engine.Config{
		Store: s, AcceptTerms: m.AcceptTerms, Notifier: m.Notifier, Logger: m.logger(),
		HTTPClient: m.HTTPClient, CheckInterval: m.CheckInterval, RetryDelay: m.RetryDelay,
	})
	m.engine.SetDomains(defs)
}

func (m *Manager) checkStore() error {
	_, err := m.store()
	return err
}

// store returns the Store that was meant.
func (m *Manager) store() (Store, error) {
	if m.Store != nil {
		return m.Store, nil
	}
	// systemd separates several directories by colons.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return store.NewDir(dir), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, &ConfigError{Field: "Store", Err: fmt.Errorf("there is no place to keep certificates: set Store, or $STATE_DIRECTORY (%w)", err)}
	}
	return store.NewDir(filepath.Join(dir, "md")), nil
}

// resolve makes of what was said what is meant, and finds everything that
// cannot work.
func (m *Manager) resolve(domains []Domain) ([]*engine.Domain, error) {
	r := resolver{manager: m, names: make(map[string]string), taken: make(map[string]bool)}
	if len(m.Default.Names) > 0 || m.Default.Name != "" {
		r.fail("", "Default", errors.New("Name and Names cannot have a default"))
	}
	for i, c := range m.Challengers {
		if c == nil {
			r.fail("", "Challengers", fmt.Errorf("number %d is nil", i+1))
		}
	}
	if m.CheckInterval < 0 {
		r.fail("", "CheckInterval", fmt.Errorf("%v is less than nothing", m.CheckInterval))
	}
	if m.RetryDelay < 0 {
		r.fail("", "RetryDelay", fmt.Errorf("%v is less than nothing", m.RetryDelay))
	}
	defs := make([]*engine.Domain, 0, len(domains))
	for i := range domains {
		defs = append(defs, r.domain(i, domains[i]))
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return defs, nil
}

// resolver gathers what is wrong with Domains.
type resolver struct {
	manager *Manager
	names   map[string]string // DNS name → Name of the Domain that has it
	taken   map[string]bool   // Names of Domains
	errs    []error
}

func (r *resolver) fail(domain, field string, err error) {
	r.errs = append(r.errs, &ConfigError{Domain: domain, Field: field, Err: err})
}

func (r *resolver) domain(i int, d Domain) *engine.Domain {
	def := &engine.Domain{Name: d.Name}
	def.Names, def.Shown = r.namesOf(d.label(i), d.Names)
	if def.Name == "" && len(def.Names) > 0 {
		def.Name = def.Names[0]
	}
	label := cmp.Or(def.Name, d.label(i))
	r.identity(label, def)
	r.rest(label, r.manager.filled(d), def)
	return def
}

// label names a Domain in errors, before more is known of it.
func (d *Domain) label(i int) string {
	if d.Name != "" {
		return d.Name
	}
	if len(d.Names) > 0 && d.Names[0] != "" {
		return d.Names[0]
	}
	return fmt.Sprintf("number %d", i+1)
}

// filled returns d with the defaults in the place of what it leaves zero.
func (m *Manager) filled(d Domain) Domain {
	if len(d.CAs) == 0 {
		d.CAs = m.Default.CAs
	}
	if len(d.Contacts) == 0 {
		d.Contacts = m.Default.Contacts
	}
	if len(d.KeyTypes) == 0 {
		d.KeyTypes = m.Default.KeyTypes
	}
	if len(d.Challengers) == 0 {
		d.Challengers = m.Default.Challengers
	}
	if len(d.Challengers) == 0 {
		d.Challengers = append([]Challenger{&TLSALPN01{}, &HTTP01{}}, m.Challengers...)
	}
	d.RenewWindow = cmp.Or(d.RenewWindow, m.Default.RenewWindow)
	return d
}

// identity checks that the Name can be kept, and that nobody else has it.
func (r *resolver) identity(label string, def *engine.Domain) {
	if def.Name == "" {
		return // its Names are wrong, which has been said
	}
	if strings.Contains(def.Name, "/") {
		r.fail(label, "Name", errors.New("it cannot have a slash"))
	} else if err := store.CheckKey("domains/" + def.Name); err != nil {
		r.fail(label, "Name", err)
	}
	if r.taken[def.Name] {
		r.fail(label, "Name", errors.New("another Domain has the same; give each its own"))
	}
	r.taken[def.Name] = true
	for _, name := range def.Names {
		if other, ok := r.names[name]; ok {
			r.fail(label, "Names", fmt.Errorf("%s is in Domain %q already; a name can be in one Domain only", name, other))
			continue
		}
		r.names[name] = def.Name
	}
}

// namesOf returns the names of a Domain in ASCII, without repetitions, and as
// people write them.
func (r *resolver) namesOf(label string, said []string) (names, shown []string) {
	if len(said) == 0 {
		r.fail(label, "Names", errors.New("there must be at least one name"))
	}
	for _, s := range said {
		name, err := asciiName(s)
		if err != nil {
			r.fail(label, "Names", err)
			continue
		}
		if !slices.Contains(names, name) {
			names, shown = append(names, name), append(shown, unicodeName(name))
		}
	}
	return names, shown
}

// rest resolves all that may come from the default.
func (r *resolver) rest(label string, d Domain, def *engine.Domain) {
	def.Contacts = slices.Clone(d.Contacts)
	for i, c := range def.Contacts {
		contact, err := contactURL(c)
		if err != nil {
			r.fail(label, "Contacts", err)
		}
		def.Contacts[i] = contact
	}
	r.ca(label, d.CAs, def)
	r.keyTypes(label, d.KeyTypes, def)
	if err := d.RenewWindow.Check(); err != nil {
		r.fail(label, "RenewWindow", err)
	}
	def.RenewWindow = d.RenewWindow
	r.challengers(label, d.Challengers, def)
}

func (r *resolver) ca(label string, cas []CA, def *engine.Domain) {
	if len(cas) > 1 {
		r.fail(label, "CAs", errors.New("there may be one"))
	}
	ca := CA{}
	if len(cas) > 0 {
		ca = cas[0]
	}
	resolved, err := ca.Resolve()
	if err != nil {
		r.fail(label, "CAs", err)
	}
	def.CA = resolved
}

func (r *resolver) keyTypes(label string, types []KeyType, def *engine.Domain) {
	if len(types) == 0 {
		types = []KeyType{P256}
	}
	for _, said := range types {
		t, err := acmeclient.ParseKeyType(string(said))
		switch {
		case err != nil:
			r.fail(label, "KeyTypes", err)
		case slices.Contains(def.KeyTypes, t):
			r.fail(label, "KeyTypes", fmt.Errorf("%s is there twice", t))
		default:
			def.KeyTypes = append(def.KeyTypes, t)
		}
	}
}

// challengers checks that there is one for every name: a wildcard can only be
// proved in DNS (RFC 8555 §8.4).
func (r *resolver) challengers(label string, list []Challenger, def *engine.Domain) {
	dns := false
	for i, c := range list {
		if c == nil {
			r.fail(label, "Challengers", fmt.Errorf("number %d is nil", i+1))
			continue
		}
		def.Challengers = append(def.Challengers, c)
		dns = dns || slices.ContainsFunc(c.Types(), func(t string) bool { return strings.HasPrefix(t, "dns-") })
	}
	for _, name := range def.Names {
		if strings.HasPrefix(name, "*.") && !dns {
			r.fail(label, "Challengers", fmt.Errorf("%s is a wildcard, which needs a challenger for dns-01: the built-in ones cannot prove it", name))
		}
	}
}

// strict converts names as browsers do (UTS #46), and accepts what can stand
// in a certificate: letters, digits and hyphens, 63 to a label, 253 in all.
var strict = idna.New(
	idna.MapForLookup(), idna.BidiRule(), idna.CheckHyphens(true), idna.CheckJoiners(true),
	idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.Transitional(false),
)

// asciiName returns a DNS name as it is written on the wire.
func asciiName(said string) (string, error) {
	name := strings.TrimSuffix(said, ".")
	base, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case name == "":
		return "", errors.New("a name is empty")
	case strings.Contains(base, "*"):
		return "", fmt.Errorf("%q: a wildcard can only be the whole first label, as in *.example.com", said)
	}
	if _, err := netip.ParseAddr(strings.Trim(base, "[]")); err == nil {
		return "", fmt.Errorf("%q is an IP address; names must be DNS names", said)
	}
	ascii, err := strict.ToASCII(base)
	if err != nil {
		return "", fmt.Errorf("%q is not a DNS name: %w", said, err)
	}
	if wildcard {
		ascii = "*." + ascii
		if len(ascii) > 253 {
			return "", fmt.Errorf("%q is not a DNS name: it is longer than 253 bytes", said)
		}
	}
	return ascii, nil
}

// unicodeName returns a name as people write it.
func unicodeName(ascii string) string {
	if shown, err := idna.Display.ToUnicode(ascii); err == nil {
		return shown
	}
	return ascii
}

// lookupName returns what a caller may mean by name: a DNS name in whatever
// form, or else a Domain's Name.
func lookupName(name string) string {
	if ascii, err := asciiName(name); err == nil {
		return ascii
	}
	return name
}

// contactURL returns a contact as a URL, as RFC 8555 §7.1.2 wants it.
func contactURL(said string) (string, error) {
	contact := strings.TrimSpace(said)
	address, isMail := strings.CutPrefix(contact, "mailto:")
	if !isMail && strings.Contains(contact, ":") {
		return contact, nil
	}
	local, host, ok := strings.Cut(address, "@")
	if !ok || local == "" || host == "" || strings.ContainsAny(address, " \t\r\n,?") || strings.Contains(host, "@") || strings.Contains(address, "..") {
		return said, fmt.Errorf("%q is not an e-mail address", said)
	}
	return "mailto:" + address, nil
}
