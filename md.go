package md

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/internal/front"
	"github.com/manageddomains/md/internal/migrate"
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

	// EAB binds an account to one at the CA's web site, and Secret is the
	// form of its key: text that is printed as ***. NewSecret makes one.
	EAB    = acmeclient.EAB
	Secret = acmeclient.Secret

	// Protocol is how a CA is spoken to: ACME or Tailscale.
	Protocol = acmeclient.Protocol

	// Problem says what could not be done at a CA, and whether and when to
	// try again: errors.As finds a *Problem in the errors of Renew and in
	// Event.Err.
	Problem = acmeclient.Problem

	// KeyType is the type of a certificate's key.
	KeyType = acmeclient.KeyType

	// Reason is why a certificate is revoked.
	Reason = acmeclient.Reason
)

// The protocols that CAs speak. The zero Protocol is ACME.
const (
	ACME      = acmeclient.ACME
	Tailscale = acmeclient.Tailscale
)

// Why a certificate is revoked (RFC 5280 §5.3.1).
const (
	Unspecified          = acmeclient.Unspecified
	KeyCompromise        = acmeclient.KeyCompromise
	AffiliationChanged   = acmeclient.AffiliationChanged
	Superseded           = acmeclient.Superseded
	CessationOfOperation = acmeclient.CessationOfOperation
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
	// ErrNotManaged: the name belongs to none of the Domains. In the errors
	// of GetCertificate it may stand beside those of the configuration.
	ErrNotManaged = engine.ErrNotManaged
	// ErrNotReady: a Domain has no certificate in date.
	ErrNotReady = engine.ErrNotReady
	// ErrRunning: Run was called while it was running already.
	ErrRunning = engine.ErrRunning
	// ErrNoAccount: there is no account at the CA that could be worked on.
	ErrNoAccount = engine.ErrNoAccount
	// ErrTaken: there is an account already where one was to be imported.
	ErrTaken = engine.ErrTaken
	// ErrVeto is what a Notifier wraps to veto an event.
	ErrVeto = status.ErrVeto
)

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret { return acmeclient.NewSecret(text) }

// ConfigError says which field of which Domain cannot work. Check finds all
// of them at once and joins them: print the error, which has a line for each,
// or take it apart with the Unwrap() []error that errors.Join gives it;
// errors.As finds the first.
type ConfigError struct {
	// Domain is the Domain's Name, or what stands for it where there is none:
	// the first of its Names as it was given, or "number 3" for the third
	// Domain. Empty: it is a field of the Manager.
	Domain string
	// Field is the name of the field, such as "Names", "Store" or
	// "Default.CAs".
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
	// It may be any text of up to 255 bytes without a slash or control
	// characters. Zero: the first of Names, in ASCII.
	Name string

	// Names are the DNS names that the certificates cover: in Unicode or
	// ASCII, in any case, with or without a final dot, wildcards
	// ("*.example.com") included; and IP addresses (RFC 8738), which are
	// served to clients that send no name, by the address they came to. There
	// must be at least one. A name may stand in one Domain only; a wildcard
	// and a name that it covers may stand in two: the exact name wins. In one
	// Domain, what a wildcard covers is left out of the orders.
	Names []string

	// CAs says where certificates are ordered. Each renewal begins with the
	// first; when that has failed Manager.RetryFailover times in a row, or
	// when a quarter of the time that was left is gone (an hour of failures,
	// where a name has no certificate in date), the next is asked, and after
	// the last the first. Zero: Let's Encrypt.
	CAs []CA

	// Contacts are e-mail addresses (or URLs) that the CA is given for the
	// account. Domains with the same CA and EAB share an account: its contacts
	// are those of the first of them, by Name, that has any. When they change,
	// the CA is told with the next order. Many CAs neither need nor keep them;
	// those that are known to need them must be given some.
	Contacts []string

	// KeyTypes has a certificate for each; a client gets the first that it
	// can use. Zero: P256.
	KeyTypes []KeyType

	// NewKey makes the key of a certificate, of the type given, for those who
	// keep keys in a KMS or an HSM. It returns an ExternalKey, of which the
	// Store remembers the reference only; or a private key of the standard
	// library, which is kept in the Store like one that was generated. It may
	// take a minute. A key that it has made is used for all attempts, until
	// a certificate was issued for it or the process ends. Zero: keys are
	// generated and kept in the Store.
	NewKey func(ctx context.Context, t KeyType) (crypto.Signer, error)

	// OpenKey returns the key of a reference again: after a restart, or in
	// another process. It must be set where NewKey is, and works without:
	// then the keys of certificates to come are generated, and those in use
	// still found.
	//
	// It is called by Load, by a handshake before that, and while Run runs, once
	// for each certificate that comes into use; what it returns is kept as long
	// as the certificate. It may take 10 seconds, and Load waits for 30 at most:
	// what takes longer, or fails, is tried again, after RetryDelay at first
	// and every five minutes at last. Until then, the Domain is served as
	// before, or with the self-signed fallback; status and log tell why, and so
	// does the event Errored. Nothing is ordered in the place of a certificate
	// because its key is out of reach: return an error that wraps
	// fs.ErrNotExist for a key that is gone for good, to have another ordered
	// at once; or call Renew.
	//
	// For Domains that OnDemand has allowed, set it in Manager.Default.
	OpenKey func(ctx context.Context, provider, id string) (crypto.Signer, error)

	// Challengers are all that may prove control of the names, best first.
	// A wildcard needs one for a dns type. Zero: tls-alpn-01, http-01, and
	// then Manager.Challengers.
	Challengers []Challenger

	// RenewWindow is the time before expiry in which a certificate is
	// renewed. Zero: a third of its lifetime; half of it for lifetimes under
	// ten days. So it is as well where RenewWindow would begin in the first
	// tenth of the lifetime.
	//
	// While it is zero, a CA that offers renewal information (RFC 9773) decides
	// between half and 85 % of the lifetime; if it is set, the CA can only ask
	// for less. A renewal that the CA wants in the past is made at once.
	RenewWindow Window

	// ARI: Off neither asks the CA when to renew, nor tells it which
	// certificate an order replaces (RFC 9773). Unset: On.
	ARI Switch

	// WarnWindow is the time before expiry in which the Expiring event warns
	// of a certificate that has not been renewed. Zero: a tenth of its
	// lifetime.
	WarnWindow Window

	// ActivationDelay is how long certificates wait before they replace those
	// in use, for clients whose clocks are behind. They do not wait where
	// there are none, where those in use lack a name or a key type, have less
	// than an hour left, or are to be revoked. Zero: not at all.
	ActivationDelay time.Duration

	// Profile is the kind of certificate that is asked for, if the CA lists it
	// (draft-ietf-acme-profiles): Let's Encrypt has "classic", "tlsserver" and
	// "shortlived". Zero: what the CA does by itself, or what IP addresses or
	// Lifetime call for. With ProfileRequired On, nothing is ordered from a CA
	// that does not list it; Unset: Off.
	Profile         string
	ProfileRequired Switch

	// Lifetime is how long certificates shall last: by a profile, or by the
	// order (RFC 8555 §7.4), whichever the CA offers. They may last longer,
	// which the log and the status tell. Zero: as the CA likes.
	Lifetime time.Duration

	// Chain is the common name of the root to which the CA's chain should
	// lead, if it offers several. Zero: the CA's default.
	Chain string

	// TrimChain: On leaves out what clients have no use for in the chain that
	// the CA sends: expired certificates, roots, and what is not linked. Unset:
	// Off.
	TrimChain Switch

	// OCSP says what is asked for about OCSP. Zero: OCSPOff.
	OCSP OCSP

	// ReuseKey: On renews with the key of the certificate in use, for those
	// who publish it (DANE, pinning). There is a new key all the same when the
	// certificate is revoked, or its CA wants it replaced at once. Unset: Off.
	ReuseKey Switch

	// Rehearse: On orders a certificate from the CA's test endpoint first, if
	// it has one, and again after each change of the Domain: what is wrong
	// with its names or challenges spends no limits of the CA then. Unset: Off.
	Rehearse Switch

	// RenewMode says what is ordered without being asked for. Zero: RenewAuto.
	RenewMode RenewMode

	// CertFiles and KeyFiles are certificates, with their chains, and keys
	// that somebody else looks after: regular files in PEM, the first of one
	// belonging to the first of the other. They are served in the place of what is
	// ordered, read again within a minute when they change, and warned of when
	// they expire. While a pair does not match, as when one of the files is
	// written and the other is not yet, what was read before is served. Zero:
	// none.
	CertFiles, KeyFiles []string

	// HoldActivation: On lets new certificates, also the first ones, wait
	// until Manager.Activate is called. Unset: Off.
	HoldActivation Switch
}

// ExternalKey is a private key that does not leave the place where it is kept.
//
// Handshakes sign with it, many at once: it is used concurrently, as long as a
// certificate for it is served. If it needs a connection, it must restore that
// itself, and give up waiting for it. Its public key is a pointer, such as an
// *ecdsa.PublicKey, and always the same one. An RSA key must be able to sign
// with PSS (crypto/rsa.PSSOptions), which TLS 1.3 needs.
type ExternalKey interface {
	crypto.Signer
	// KeyReference is what OpenKey is given to find the key again: where it is
	// kept, in up to 64 bytes, and its ID there, in up to 2048, both printable.
	// A reference stands for one key for ever: for one version, where a service
	// counts versions of a key. It is no secret: the Store, logs and the status
	// page tell it.
	KeyReference() (provider, id string)
}

// OCSP says what certificates demand of clients about OCSP. The zero value
// leaves it to Manager.Default.
type OCSP int8

const (
	OCSPDefault OCSP = 0
	// OCSPOff asks for certificates without demands.
	OCSPOff OCSP = 1
	// OCSPMust asks for certificates that clients only take with an OCSP
	// response stapled ("must-staple", RFC 7633): whoever serves them must do
	// that. Many CAs refuse or ignore it; then there is a certificate without,
	// and a warning in the log and the status.
	OCSPMust OCSP = 3
)

// RenewMode says what is ordered for a Domain. The zero value leaves it to
// Manager.Default.
type RenewMode int8

const (
	RenewDefault RenewMode = iota
	// RenewAuto orders for a Domain without CertFiles.
	RenewAuto
	// RenewAlways orders for a Domain with CertFiles as well: what was ordered
	// is served when the files are gone or have expired.
	RenewAlways
	// RenewManual orders only when somebody calls Renew or Revoke.
	RenewManual
)

// Switch is a choice of which the zero value leaves it to Manager.Default.
type Switch int8

const (
	Unset Switch = iota
	On
	Off
)

// check returns an error for what is none of the three.
func (s Switch) check() error {
	if s < Unset || s > Off {
		return fmt.Errorf("%d is neither Unset, On nor Off", s)
	}
	return nil
}

// Manager gets, renews and serves certificates for its Domains. Set the
// fields before the first method call, and do not change them after it. All
// methods may be called concurrently. A Manager must not be copied.
//
// The zero Manager serves nothing and contacts nobody: nothing is ordered
// that was not declared.
//
// If the configuration cannot work, all methods that return an error return
// the ConfigErrors, and nothing is served. Such a Manager stays as it is:
// make another.
type Manager struct {
	// Domains are those to look after. They are read at the first method
	// call; later, use Update.
	Domains []Domain

	// Default fills what a Domain leaves zero, all but Name and Names.
	Default Domain

	// AcceptTerms says that you agree to the terms of service of the CAs.
	// Without it, no account is registered at a CA that has terms: Domains
	// without a certificate serve the fallback, and their status says which
	// terms.
	AcceptTerms bool

	// Store is where everything is kept that must survive a restart. Zero: a
	// store.Dir at $STATE_DIRECTORY (which systemd sets), else at "md" in the
	// user's configuration directory; if there is neither, a ConfigError.
	Store Store

	// Challengers are used in addition to the built-in ones: tls-alpn-01,
	// which works through TLSConfig, and http-01, through HTTPHandler.
	Challengers []Challenger

	// OnDemand is asked when a client wants a name that no Domain has; the
	// Domain that it returns is looked after like those that are declared. If
	// Names is empty, it is the name; Name is Names[0] then. The error is
	// ErrNotManaged for a name that is not to be served; whatever else it is,
	// the name is asked for again when a client wants it a few seconds later.
	// Zero: nothing is ordered that was not declared.
	//
	// It is asked in the handshake, once for all clients that want the name
	// at that moment, for at most 10 seconds; 64 times at once, 32 times a
	// minute for one client (of IPv6: a /64 network), 64 times an hour for the
	// names below one registered domain, and not again for a minute after
	// ErrNotManaged. It is not asked for addresses, names of one label, and
	// names that repeat a label ("www.www.example.com"): declare those.
	//
	// What it has allowed is remembered in the Store, and served after a
	// restart. It is asked again, with a nil hello and the first of the
	// Domain's Names, within an hour after a restart and before each renewal: ErrNotManaged ends the Domain, and any
	// other error is a failure of the renewal. A Domain that no client has
	// wanted since its certificates came is not renewed, and forgotten when
	// they have expired.
	//
	// Who can answer for any name allows everybody to use up the limits of
	// your account at the CA: look whether the name is a customer's.
	OnDemand func(ctx context.Context, name string, hello *tls.ClientHelloInfo) (Domain, error)

	// OnDemandWait is how long a handshake waits for the certificate of a
	// Domain that OnDemand has allowed; then it is served the self-signed
	// fallback. 1 024 handshakes wait at most, 128 for one Domain. Zero: 15
	// seconds. Negative: not at all.
	OnDemandWait time.Duration

	// FallbackName is one of the names of the Domains, whose certificate is
	// served to clients that send no name, or one that is in no Domain. They
	// may well refuse it. Zero: they get the alert unrecognized_name.
	FallbackName string

	// Notifier is told what happens. Zero: nobody.
	Notifier Notifier

	// Logger takes the log. Zero: slog.Default().
	Logger *slog.Logger

	// HTTPClient speaks to the CAs. Of its fields, only Transport and Timeout
	// (for each request; zero: three minutes) are used. Zero: connections
	// with time-outs, and the proxy of the environment.
	HTTPClient *http.Client

	// HTTPAddr and HTTPSAddr are where ListenAndServe listens. Zero: ":80"
	// and ":443". "-": nowhere.
	HTTPAddr, HTTPSAddr string

	// CheckInterval is the time between two regular looks at a Domain, give
	// or take a half. Deadlines do not wait for it; what a Notifier has
	// vetoed does. Zero: 12 hours.
	CheckInterval time.Duration

	// RetryDelay is the time to the second attempt; it doubles with each
	// failure, up to a day, give or take a half, and up to a tenth of what is
	// left of the life of the certificates in use. Zero: 30 seconds.
	RetryDelay time.Duration

	// RetryFailover is the number of failures in a row at one CA after which
	// the next of Domain.CAs is asked. Failures that are about a name, and not
	// the CA, do not count. Zero: 13.
	RetryFailover int

	once   sync.Once
	engine *engine.Engine
	config error // what Check found at the first method call
}

// Check returns all configuration errors at once, nil if there are none: an
// errors.Join of *ConfigError. It looks at the fields only, and does no I/O.
func (m *Manager) Check() error {
	_, storeErr := m.store()
	_, err := m.resolve(m.Domains, storeErr)
	return err
}

// Load reads what the Store has for the Domains, so that it is served from
// the first handshake on. It contacts no CA, and leaves nothing running, unless
// an OpenKey does not return. A key that cannot be opened is logged and tried
// again. A value that is broken is logged and will be replaced; the error is one of
// the configuration, or says that the Store cannot be read.
//
// A Domain is read once: further calls read those that are not read yet. Run
// calls Load; call it yourself before you open your own listener.
func (m *Manager) Load(ctx context.Context) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return configError(e.Load(ctx))
}

// configError makes of files that cannot be used an error of the
// configuration.
func configError(err error) error {
	var f *engine.FileError
	if errors.As(err, &f) {
		return &ConfigError{Domain: f.Domain, Field: "CertFiles", Err: f.Err}
	}
	return err
}

// Run looks after the Domains until ctx ends, and returns nil then: it gets
// certificates that are missing, and renews those whose time has come. All
// else that a Manager does works without it, with what the Store has.
//
// It returns an error only at its beginning: ErrRunning while another call is
// running, or one of the configuration; and at its end, if a Notifier, a
// Challenger or a key has not returned: then it names what it did not wait for
// any longer. Whatever goes wrong else is in the log, in the status and with the
// Notifier, and is tried again. Run may be called again when it has returned.
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
// name; ErrNotReady at once when somebody's help is needed, with why in its
// text; and ErrNotReady with the context's error when ctx ends.
//
// Certificates are only got while Run is running, or by Renew.
func (m *Manager) Ready(ctx context.Context, names ...string) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	ascii := make([]string, 0, len(names))
	for _, name := range names {
		ascii = append(ascii, lookupName(e, name))
	}
	return e.Ready(ctx, ascii...)
}

// Update replaces the Domains. They are checked as a whole first; if there is
// a ConfigError, nothing changes. Domains that are as before keep everything.
// Those that are gone are no longer served; what the Store has of them stays,
// and is used when they come back.
//
// CertFiles are read after that: where they cannot be used (a ConfigError for
// that field), or the Store could not be read for some of the Domains (another
// error), all are in place all the same, and what is missing is read later, or
// by the same Update again.
func (m *Manager) Update(ctx context.Context, domains []Domain) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	defs, err := m.resolve(domains, nil)
	if err != nil {
		return err
	}
	e.SetDomains(defs)
	return configError(e.Load(ctx))
}

// Renew orders certificates for a Domain, given by its Name or any of its DNS
// names, now, and returns when they are in use. It works with and without
// Run, and does not wait for the time of the next attempt. If an attempt is
// under way, it waits for its end; then it makes its own.
//
// If certificates wait to be activated, it activates those and orders no
// others. What the CA's limits forbid, Renew does not do either; and certificates for
// the same names are not ordered from one CA within ten minutes or a hundredth
// of their lifetime, whichever is longer.
//
// The error is ErrNotManaged for an unknown name, wraps ErrVeto if the
// Notifier said so, and wraps a *Problem if it went wrong at the CA.
func (m *Manager) Renew(ctx context.Context, name string) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return e.Renew(ctx, lookupName(e, name))
}

// Activate activates the certificates that wait, because of HoldActivation or
// ActivationDelay, for the Domains of all names: DNS names or Domains' Names.
// Where none wait, it does nothing. The error joins those of the Domains.
func (m *Manager) Activate(ctx context.Context, names ...string) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	known := make([]string, 0, len(names))
	for _, name := range names {
		known = append(known, lookupName(e, name))
	}
	return e.Activate(ctx, known...)
}

// Revoke renews the certificates of a Domain with new keys, given like for
// Renew, has them served at once, and then asks the CA to revoke those that
// were in use before. If they cannot be replaced, they are not revoked; the
// error tells which step has failed. Call it once: a second call revokes the
// successors.
func (m *Manager) Revoke(ctx context.Context, name string, reason Reason) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return e.Revoke(ctx, lookupName(e, name), reason)
}

// Archived lists certificates that a Domain, given like for Renew, has used
// before, newest first. The ten newest and all of the last week are kept, for
// 400 days at most.
func (m *Manager) Archived(ctx context.Context, name string) ([]status.Archived, error) {
	e, err := m.start()
	if err != nil {
		return nil, err
	}
	return e.Archived(ctx, lookupName(e, name))
}

// Restore puts certificates back into use that Archived has listed; those in
// use go to the archive. It refuses certificates that do not cover the names
// or are not in date.
func (m *Manager) Restore(ctx context.Context, name, id string) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	return e.Restore(ctx, lookupName(e, name), id)
}

// The methods that follow are for the account at a CA that Domains order with.
// They name it by the CA as in Domain.CAs, EAB included, work with and without
// Run, and wait for other processes that do the same to the same account.
// Those learn of a change when they use the account the next time.

// RollAccountKey gives the account at a CA another key (RFC 8555 §7.3.5), which
// is kept in the Store before the CA hears of it. If it is cut off, or the error
// leaves open what the CA has done, nothing is lost: the next use of the account
// finds out, and another call goes on with the same key.
//
// The error is ErrNoAccount if none is registered, and errors.ErrUnsupported if
// the CA cannot do it, or the account's key is an AccountKey.
func (m *Manager) RollAccountKey(ctx context.Context, ca CA) error {
	return m.onAccount(ca, func(e *engine.Engine, ca CA) error { return e.RollAccountKey(ctx, ca) })
}

// DeactivateAccount closes the account at a CA for good (RFC 8555 §7.3.6), and
// removes its key from the Store. Certificates stay valid. The next order at
// that CA registers another account, which needs another EAB if the CA's are
// good for one account, and another AccountKey if there is one: take the CA out
// of the Domains first if that is not wanted.
//
// It may be repeated after an error. The error is ErrNoAccount if there is none.
func (m *Manager) DeactivateAccount(ctx context.Context, ca CA) error {
	return m.onAccount(ca, func(e *engine.Engine, ca CA) error { return e.DeactivateAccount(ctx, ca) })
}

// ExportAccount returns the account at a CA as PEM, for ImportAccount: its URL,
// and its private key, in the clear. Its key is a block "PRIVATE KEY" that other
// tools take, too. The CA is not asked.
//
// The error is ErrNoAccount if there is none, and errors.ErrUnsupported if its
// key is an AccountKey.
func (m *Manager) ExportAccount(ctx context.Context, ca CA) ([]byte, error) {
	var account []byte
	err := m.onAccount(ca, func(e *engine.Engine, ca CA) (err error) {
		account, err = e.ExportAccount(ctx, ca)
		return err
	})
	return account, err
}

// ImportAccount makes an account the one that is used at a CA: what
// ExportAccount has returned, or a private key as PEM ("PRIVATE KEY", "EC
// PRIVATE KEY" or "RSA PRIVATE KEY"). The CA is asked for it when it is used: if
// it does not know the account, it is registered.
//
// If there is another account, the error is ErrTaken, unless replace is true:
// then the former one goes to the archive in the Store. The same account again
// is no error.
func (m *Manager) ImportAccount(ctx context.Context, ca CA, account []byte, replace bool) error {
	return m.onAccount(ca, func(e *engine.Engine, ca CA) error { return e.TakeAccount(ctx, ca, account, replace) })
}

// onAccount does something with the account at a CA, once it is clear which CA
// is meant.
func (m *Manager) onAccount(ca CA, do func(*engine.Engine, CA) error) error {
	e, err := m.start()
	if err != nil {
		return err
	}
	ca, err = ca.Resolve()
	if err != nil {
		return fmt.Errorf("md: %w", err)
	}
	if err := do(e, ca); err != nil {
		return fmt.Errorf("md: the account at %s: %w", ca.Name, err)
	}
	return nil
}

// ImportOptions say how to read what another tool has left. The zero value
// suits most.
type ImportOptions struct {
	// Format is the tool: "certbot", "certmagic" (Caddy), "autocert", "lego",
	// "acme.sh" or "pem". Zero: it is found out.
	Format string

	// CA is where certificates and accounts come from of which the files do
	// not say it. Zero: the first CA of the first Domain.
	CA CA
}

// ImportReport tells what was taken over, and what was not.
type ImportReport struct {
	Format string // as in ImportOptions
	Rows   []ImportRow
}

// ImportRow tells what became of one thing that was found, or of a Domain for
// which nothing was.
type ImportRow struct {
	Path   string // of its file, below the directory
	What   string // "certificate", "account", "directory" or "domain"
	Name   string // the certificate's first name, the account's URL, or the Domain's Name
	Domain string // the Domain that uses the certificate now
	Taken  bool
	Why    string // why not, or what else is to be known
}

// Import takes over what another tool keeps in the directory from, so that
// nothing is ordered for what is there: certificates, for the Domains of which
// they cover all names, and accounts. It reads the directories of certbot
// (/etc/letsencrypt), certmagic and Caddy, autocert, lego and acme.sh, and
// those with PEM files, or one such file. It writes nothing there.
//
// Call it before Run; it may be repeated. It replaces nothing: Domains that
// have certificates, and CAs that have accounts, keep them. Stop the other
// tool first, so that it does not renew what is taken over. The report has a
// row for each thing that was found; the error says why there is no report,
// or what the Store has refused.
func (m *Manager) Import(ctx context.Context, from string, o ImportOptions) (ImportReport, error) {
	e, err := m.start()
	if err != nil {
		return ImportReport{}, err
	}
	defs := e.Domains()
	options := migrate.Options{Format: migrate.Format(o.Format)}
	if o.CA == (CA{}) && len(defs) > 0 {
		o.CA = defs[0].CAs[0]
	}
	if ca, err := o.CA.Resolve(); err == nil {
		options.CA = ca.URL
	} else {
		return ImportReport{}, &ConfigError{Field: "ImportOptions.CA", Err: err}
	}
	for _, known := range acmeclient.KnownCAs() {
		options.CAs = append(options.CAs, known.URL)
	}
	for _, def := range defs {
		for _, ca := range def.CAs {
			options.CAs = append(options.CAs, ca.URL)
		}
	}
	found, err := migrate.Read(ctx, from, options)
	if err != nil {
		return ImportReport{}, fmt.Errorf("md: importing from %s: %w", from, err)
	}
	i := &importing{engine: e, found: found, domains: make(map[string]string), why: make(map[string]string)}
	for _, def := range defs {
		i.domain(ctx, def)
	}
	i.accounts(ctx)
	return i.report(), errors.Join(i.errs...)
}

// importing gathers what became of what was found.
type importing struct {
	engine  *engine.Engine
	found   *migrate.Result
	domains map[string]string // by path: the Domain that uses it
	why     map[string]string // by path: why it was not taken
	rows    []ImportRow
	errs    []error
}

// domain gives a Domain what was found for it.
func (i *importing) domain(ctx context.Context, def *engine.Domain) {
	set := migrate.For(def.Names, i.found.Certificates)
	if set == nil {
		i.rows = append(i.rows, ImportRow{What: "domain", Name: def.Name, Why: "no certificate for all of its names was found"})
		return
	}
	err := i.engine.Import(ctx, def.Name, set)
	if err != nil && !errors.Is(err, engine.ErrTaken) {
		i.errs = append(i.errs, fmt.Errorf("md: importing the certificates of %s: %w", def.Name, err))
	}
	for _, c := range set.Credentials {
		at := slices.IndexFunc(i.found.Certificates, func(f migrate.Found) bool {
			return bytes.Equal(f.Credential.Chain[0], c.Chain[0])
		})
		path := i.found.Certificates[at].Path
		if err != nil {
			i.why[path] = fmt.Sprintf("the Domain %q: %v", def.Name, err)
			continue
		}
		i.domains[path] = def.Name
	}
}

// accounts keeps one account for each CA.
func (i *importing) accounts(ctx context.Context) {
	chosen := migrate.Chosen(i.found.Accounts, i.found.Certificates)
	for _, a := range i.found.Accounts {
		if chosen[a.CA].Path != a.Path {
			i.why[a.Path] = "another account at the same CA is used"
		}
	}
	for _, ca := range slices.Sorted(maps.Keys(chosen)) {
		a := chosen[ca]
		err := i.engine.ImportAccount(ctx, ca, &a.Account)
		if err == nil {
			continue
		}
		i.why[a.Path] = err.Error()
		if !errors.Is(err, engine.ErrTaken) {
			i.errs = append(i.errs, fmt.Errorf("md: importing the account at %s: %w", ca, err))
		}
	}
}

// report tells what became of each thing.
func (i *importing) report() ImportReport {
	report := ImportReport{Format: string(i.found.Format)}
	for _, r := range i.found.Report {
		row := ImportRow{Path: r.Path, What: r.What, Name: r.Name, Taken: r.Taken, Why: r.Why}
		if why := i.why[r.Path]; row.Taken && why != "" {
			row.Taken, row.Why = false, why
		}
		if row.Domain = i.domains[r.Path]; row.Taken && row.What == "certificate" && row.Domain == "" {
			row.Taken, row.Why = false, cmp.Or(row.Why, "it does not cover all names of any Domain, or a better one does")
		}
		report.Rows = append(report.Rows, row)
	}
	report.Rows = append(report.Rows, i.rows...)
	return report
}

// TLSConfig returns a configuration that serves the Domains and answers
// tls-alpn-01 challenges, for HTTP/1.1 and HTTP/2. It is the caller's, and may
// be changed. Put nothing into Certificates unless it is to be served to
// clients that send no server name, or one that is not managed.
//
// If it is empty, those clients get the alert unrecognized_name.
func (m *Manager) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: m.GetConfigForClient,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := m.GetCertificate(hello)
			if m.config == nil && errors.Is(err, ErrNotManaged) {
				return nil, nil // crypto/tls sends unrecognized_name
			}
			return cert, err
		},
	}
}

// GetCertificate is for tls.Config.GetCertificate. It answers from memory,
// takes no lock and allocates nothing for a name that has a certificate. A
// Domain without one is served a self-signed certificate. For other names
// the error is ErrNotManaged. What is returned must not be changed.
//
// Until Load or Run has read a Domain, a handshake for it reads its
// certificate from the Store, and waits for that at most 5 seconds.
//
// It also answers tls-alpn-01 validators, if "acme-tls/1" is among the
// configuration's NextProtos; TLSConfig needs no such care. Hello.Conn may be
// nil.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	e, err := m.start()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotManaged, err)
	}
	return e.Certificate(hello)
}

// GetConfigForClient is for tls.Config.GetConfigForClient: it answers
// tls-alpn-01 validators (RFC 8737), and returns nil, nil for all others. It
// closes their connections after 10 seconds.
func (m *Manager) GetConfigForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	m.once.Do(m.build)
	config, err := m.engine.ConfigForClient(hello)
	if err != nil && m.config != nil {
		return nil, m.config // it is why nothing is pending
	}
	return config, err
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
// everything around it: see Serve. It returns nil after ctx has ended; an
// error says what of the configuration cannot work, which address cannot be
// listened on, or what stopped the servers.
func (m *Manager) ListenAndServe(ctx context.Context, h http.Handler) error {
	if _, err := m.start(); err != nil {
		return err
	}
	plain, secure, err := m.listen(ctx)
	if ctx.Err() != nil && err != nil {
		return nil // it is why nobody listens
	}
	if err != nil {
		return err
	}
	return m.Serve(ctx, h, plain, secure)
}

// listen opens both listeners, or none.
func (m *Manager) listen(ctx context.Context) (plain, secure net.Listener, err error) {
	plain, err = listen(ctx, cmp.Or(m.HTTPAddr, ":80"))
	if err != nil {
		return nil, nil, err
	}
	secure, err = listen(ctx, cmp.Or(m.HTTPSAddr, ":443"))
	if err != nil {
		if plain != nil {
			plain.Close()
		}
		return nil, nil, err
	}
	return plain, secure, nil
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
// HTTP/1.1 on secure, and runs the Manager, until ctx ends; then it lets
// requests end for up to ten seconds, and returns nil. If a server or Run
// fails, all is stopped and that error returned.
//
// HTTPHandler and HTTPSHandler are put before h. A nil h answers 404. Either
// listener may be nil; both are closed.
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
		Logger: m.logger(), Patience: e.Patience(),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return servers.Run(ctx) })
	group.Go(func() error { return e.Run(ctx) })
	return group.Wait()
}

// Status yields the report of each Domain, in the order of their Names. A
// Manager is a status.Source: see status.JSON and status.Text for handlers.
// It tells what is in memory, and does no I/O.
func (m *Manager) Status() iter.Seq[status.Domain] {
	m.once.Do(m.build)
	return m.engine.Status()
}

// UnknownNames returns how many handshakes there were for names that were in
// no Domain: of clients that were misled, or are looking for something. Each
// is logged on the debug level.
func (m *Manager) UnknownNames() uint64 {
	m.once.Do(m.build)
	return m.engine.UnknownNames()
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
	defs, err := m.resolve(m.Domains, err)
	if m.config = err; err != nil {
		s, defs = cmp.Or[Store](s, new(store.Memory)), nil
	}
	m.engine = engine.New(engine.Config{
		Store: s, AcceptTerms: m.AcceptTerms, Notifier: m.Notifier, Logger: m.logger(),
		HTTPClient: m.HTTPClient, CheckInterval: m.CheckInterval, RetryDelay: m.RetryDelay, Failover: m.RetryFailover,
		FallbackName: m.fallbackName(),
		OnDemand:     m.onDemand(), OnDemandWait: cmp.Or(m.OnDemandWait, 15*time.Second), Recall: m.recall,
	})
	m.engine.SetDomains(defs)
}

// fallbackName returns FallbackName in ASCII.
func (m *Manager) fallbackName() string {
	name, err := asciiName(m.FallbackName)
	if err != nil {
		return "" // which resolve has reported
	}
	return name
}

// onDemand returns OnDemand as the engine asks it, nil if there is none.
func (m *Manager) onDemand() func(context.Context, string, *tls.ClientHelloInfo) (*engine.Domain, error) {
	if m.OnDemand == nil {
		return nil
	}
	return func(ctx context.Context, name string, hello *tls.ClientHelloInfo) (*engine.Domain, error) {
		d, err := m.OnDemand(ctx, name, hello)
		if err != nil {
			return nil, err
		}
		if len(d.Names) == 0 {
			d.Names = []string{name}
		}
		return m.resolveOne(d)
	}
}

// recall returns the Domain that was allowed on demand, of which only the
// names are remembered. What it takes to order for them is for OnDemand to say,
// which is asked before that.
func (m *Manager) recall(name string, names []string) (*engine.Domain, error) {
	r := newResolver(m, nil)
	d := Domain{Name: name, Names: names}
	def := r.served(place{domain: d.label(0)}, d)
	return def, errors.Join(r.errs...)
}

// store returns the Store that was meant.
func (m *Manager) store() (Store, error) {
	if m.Store != nil {
		return m.Store, nil
	}
	// systemd separates several directories by colons; the first is taken.
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 && dirs[0] != "" {
		return store.NewDir(dirs[0]), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, &ConfigError{Field: "Store", Err: fmt.Errorf("there is no place to keep certificates: set Store, or $STATE_DIRECTORY (%w)", err)}
	}
	return store.NewDir(filepath.Join(dir, "md")), nil
}

// resolve makes of what was said what is meant, and finds everything that
// cannot work. Whatever has been found before, if not nil, is joined to it.
func (m *Manager) resolve(domains []Domain, found error) ([]*engine.Domain, error) {
	r := newResolver(m, found)
	defs := make([]*engine.Domain, 0, len(domains))
	for i := range domains {
		defs = append(defs, r.domain(i, domains[i]))
	}
	r.fallback(m.FallbackName)
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return defs, nil
}

// resolveOne resolves a Domain that nobody has declared.
func (m *Manager) resolveOne(d Domain) (*engine.Domain, error) {
	r := newResolver(m, nil)
	def := r.domain(0, d)
	return def, errors.Join(r.errs...)
}

// resolver gathers what is wrong with a Manager and its Domains.
type resolver struct {
	defaults Domain            // what fills the Domains, as far as it can be used
	names    map[string]string // DNS name → Name of the Domain that has it
	taken    map[string]bool   // Names of Domains
	http     *http.Client      // what CAs are asked with
	errs     []error
}

func newResolver(m *Manager, found error) *resolver {
	r := &resolver{names: make(map[string]string), taken: make(map[string]bool), http: m.HTTPClient}
	if found != nil {
		r.errs = append(r.errs, found)
	}
	r.manager(m)
	return r
}

// place is where a field stands.
type place struct {
	domain string // see ConfigError.Domain
	prefix string // of the field
}

func (r *resolver) fail(at place, field string, err error) {
	r.errs = append(r.errs, &ConfigError{Domain: at.domain, Field: at.prefix + field, Err: err})
}

// manager checks what all Domains share, so that what is wrong with it is
// said once, and makes of it what fills them. Whatever has been reported is
// left out of that.
func (r *resolver) manager(m *Manager) {
	if m.CheckInterval < 0 {
		r.fail(place{}, "CheckInterval", fmt.Errorf("%v is less than nothing", m.CheckInterval))
	}
	if m.RetryDelay < 0 {
		r.fail(place{}, "RetryDelay", fmt.Errorf("%v is less than nothing", m.RetryDelay))
	}
	if len(m.Default.Names) > 0 || m.Default.Name != "" {
		r.fail(place{}, "Default", errors.New("there is no default for Name and Names"))
	}
	own := r.challengers(place{}, m.Challengers)
	inDefault := place{prefix: "Default."}
	list := r.challengers(inDefault, m.Default.Challengers)
	if len(list) == 0 {
		list = append([]Challenger{&TLSALPN01{}, &HTTP01{}}, own...)
	}
	found := len(r.errs)
	r.rest(inDefault, m.Default, new(engine.Domain))
	if len(r.errs) == found {
		r.defaults = m.Default
	}
	r.defaults.Challengers = list
}

func (r *resolver) domain(i int, d Domain) *engine.Domain {
	at := place{domain: d.label(i)}
	def := r.served(at, d)
	r.oneName(at, def)
	r.neededContacts(at, def)
	r.provable(at, def)
	return def
}

// served is domain, whether a CA can issue for it or not.
func (r *resolver) served(at place, d Domain) *engine.Domain {
	def := &engine.Domain{Name: d.Name}
	def.Names, def.Shown = r.namesOf(at, d.Names)
	if def.Name == "" && len(def.Names) > 0 {
		def.Name = def.Names[0]
	}
	r.identity(at, def)
	d = r.filled(d)
	r.rest(at, d, def)
	def.Challengers = r.challengers(at, d.Challengers)
	return def
}

// label names a Domain in errors, before more is known of it.
func (d *Domain) label(i int) string {
	if d.Name != "" {
		return d.Name
	}
	if len(d.Names) == 0 || d.Names[0] == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	if name, err := asciiName(d.Names[0]); err == nil {
		return name
	}
	return d.Names[0]
}

// filled returns d with the defaults in the place of what it leaves zero.
func (r *resolver) filled(d Domain) Domain {
	if len(d.CAs) == 0 {
		d.CAs = r.defaults.CAs
	}
	if len(d.Contacts) == 0 {
		d.Contacts = r.defaults.Contacts
	}
	if len(d.KeyTypes) == 0 {
		d.KeyTypes = r.defaults.KeyTypes
	}
	if d.NewKey == nil && d.OpenKey == nil {
		d.NewKey = r.defaults.NewKey
	}
	if d.OpenKey == nil {
		d.OpenKey = r.defaults.OpenKey
	}
	if len(d.Challengers) == 0 {
		d.Challengers = r.defaults.Challengers
	}
	d.RenewWindow = cmp.Or(d.RenewWindow, r.defaults.RenewWindow)
	d.ARI = cmp.Or(d.ARI, r.defaults.ARI)
	d.WarnWindow = cmp.Or(d.WarnWindow, r.defaults.WarnWindow)
	d.ActivationDelay = cmp.Or(d.ActivationDelay, r.defaults.ActivationDelay)
	d.HoldActivation = cmp.Or(d.HoldActivation, r.defaults.HoldActivation)
	d.RenewMode = cmp.Or(d.RenewMode, r.defaults.RenewMode)
	d.Profile = cmp.Or(d.Profile, r.defaults.Profile)
	d.ProfileRequired = cmp.Or(d.ProfileRequired, r.defaults.ProfileRequired)
	d.Lifetime = cmp.Or(d.Lifetime, r.defaults.Lifetime)
	d.Chain = cmp.Or(d.Chain, r.defaults.Chain)
	d.TrimChain = cmp.Or(d.TrimChain, r.defaults.TrimChain)
	d.OCSP = cmp.Or(d.OCSP, r.defaults.OCSP)
	d.ReuseKey = cmp.Or(d.ReuseKey, r.defaults.ReuseKey)
	d.Rehearse = cmp.Or(d.Rehearse, r.defaults.Rehearse)
	if len(d.CertFiles) == 0 && len(d.KeyFiles) == 0 {
		d.CertFiles, d.KeyFiles = r.defaults.CertFiles, r.defaults.KeyFiles
	}
	return d
}

// fallback checks that FallbackName is a name of a Domain.
func (r *resolver) fallback(said string) {
	if said == "" {
		return
	}
	name, err := asciiName(said)
	if err == nil && r.names[name] == "" {
		err = fmt.Errorf("%s is in none of the Domains; it must be one of their Names", said)
	}
	if err != nil {
		r.fail(place{}, "FallbackName", err)
	}
}

// identity checks that the Name can be kept, and that nobody else has it.
func (r *resolver) identity(at place, def *engine.Domain) {
	if def.Name == "" {
		return // its Names are wrong, which has been said
	}
	if strings.Contains(def.Name, "/") {
		r.fail(at, "Name", errors.New("it cannot have a slash"))
	} else if err := store.CheckKey("domains/" + def.Name); err != nil {
		r.fail(at, "Name", err)
	}
	if r.taken[def.Name] {
		r.fail(at, "Name", errors.New("another Domain has the same; give each its own"))
	}
	r.taken[def.Name] = true
	for _, name := range def.Names {
		if other, ok := r.names[name]; ok {
			r.fail(at, "Names", fmt.Errorf("%s is in Domain %q already; a name can be in one Domain only", name, other))
			continue
		}
		r.names[name] = def.Name
	}
}

// namesOf returns the names of a Domain in ASCII, without repetitions, and as
// people write them.
func (r *resolver) namesOf(at place, said []string) (names, shown []string) {
	if len(said) == 0 {
		r.fail(at, "Names", errors.New("there must be at least one name"))
	}
	for _, s := range said {
		name, err := asciiName(s)
		if err != nil {
			r.fail(at, "Names", err)
			continue
		}
		if !slices.Contains(names, name) {
			names, shown = append(names, name), append(shown, unicodeName(name))
		}
	}
	return names, shown
}

// rest resolves what may come from the default, but for the challengers.
func (r *resolver) rest(at place, d Domain, def *engine.Domain) {
	def.Contacts = r.contacts(at, d.Contacts)
	def.CAs = r.cas(at, d.CAs)
	def.KeyTypes = r.keyTypes(at, d.KeyTypes)
	def.Keys = engine.Keys{New: d.NewKey, Open: d.OpenKey}
	if d.NewKey != nil && d.OpenKey == nil {
		r.fail(at, "OpenKey", errors.New("NewKey needs it, to find its keys again after a restart; if NewKey returns only keys for the Store, let OpenKey return fs.ErrNotExist"))
	}
	def.RenewWindow = d.RenewWindow
	if err := d.RenewWindow.Check(); err != nil {
		r.fail(at, "RenewWindow", err)
	}
	def.WarnWindow = d.WarnWindow
	if err := d.WarnWindow.Check(); err != nil {
		r.fail(at, "WarnWindow", err)
	}
	def.ARI = d.ARI != Off
	def.HoldActivation = d.HoldActivation == On
	r.switches(at, d)
	r.wishes(at, d, def)
	def.Files = r.files(at, d)
	def.Manual = d.RenewMode == RenewManual || len(def.Files) > 0 && d.RenewMode != RenewAlways
	if d.RenewMode < RenewDefault || d.RenewMode > RenewManual {
		r.fail(at, "RenewMode", fmt.Errorf("%d is no RenewMode", d.RenewMode))
	}
	if def.ActivationDelay = d.ActivationDelay; d.ActivationDelay < 0 {
		r.fail(at, "ActivationDelay", fmt.Errorf("%v is less than nothing", d.ActivationDelay))
	}
}

// switches checks all fields that are one.
func (r *resolver) switches(at place, d Domain) {
	for _, s := range []struct {
		field string
		is    Switch
	}{
		{"ARI", d.ARI}, {"HoldActivation", d.HoldActivation}, {"ProfileRequired", d.ProfileRequired},
		{"TrimChain", d.TrimChain}, {"ReuseKey", d.ReuseKey}, {"Rehearse", d.Rehearse},
	} {
		if err := s.is.check(); err != nil {
			r.fail(at, s.field, err)
		}
	}
}

// wishes resolves what is asked of certificates beside names and keys.
func (r *resolver) wishes(at place, d Domain, def *engine.Domain) {
	def.Wishes = engine.Wishes{
		Profile: d.Profile, ProfileRequired: d.ProfileRequired == On, Lifetime: d.Lifetime, Chain: d.Chain,
		TrimChain: d.TrimChain == On, MustStaple: d.OCSP == OCSPMust, ReuseKey: d.ReuseKey == On, Rehearse: d.Rehearse == On,
	}
	if d.ProfileRequired == On && d.Profile == "" {
		r.fail(at, "ProfileRequired", errors.New("there is no Profile to be required"))
	}
	if err := checkText(d.Profile); err != nil {
		r.fail(at, "Profile", err)
	}
	if err := checkText(d.Chain); err != nil {
		r.fail(at, "Chain", err)
	}
	if d.Lifetime < 0 || d.Lifetime > 0 && d.Lifetime < time.Hour {
		r.fail(at, "Lifetime", fmt.Errorf("%v is no time for a certificate: an hour is the least", d.Lifetime))
	}
	if d.OCSP != OCSPDefault && d.OCSP != OCSPOff && d.OCSP != OCSPMust {
		r.fail(at, "OCSP", fmt.Errorf("%d is neither OCSPOff nor OCSPMust", d.OCSP))
	}
}

// checkText refuses what no CA has as the name of something.
func checkText(s string) error {
	odd := func(c rune) bool { return !unicode.IsPrint(c) }
	if len(s) > 255 || !utf8.ValidString(s) || strings.ContainsFunc(s, odd) {
		return fmt.Errorf("%.40q cannot be meant: it has up to 255 bytes, and no control characters", s)
	}
	return nil
}

// files pairs certificates with keys.
func (r *resolver) files(at place, d Domain) []engine.FilePair {
	if len(d.CertFiles) != len(d.KeyFiles) {
		r.fail(at, "CertFiles", fmt.Errorf("there are %d, but %d KeyFiles: each needs its own", len(d.CertFiles), len(d.KeyFiles)))
		return nil
	}
	var pairs []engine.FilePair
	for i, cert := range d.CertFiles {
		if cert == "" || d.KeyFiles[i] == "" {
			r.fail(at, "CertFiles", fmt.Errorf("number %d has no name", i+1))
			continue
		}
		pairs = append(pairs, engine.FilePair{Cert: cert, Key: d.KeyFiles[i]})
	}
	return pairs
}

func (r *resolver) contacts(at place, said []string) []string {
	var contacts []string
	for _, s := range said {
		contact, err := contactURL(s)
		if err != nil {
			r.fail(at, "Contacts", err)
		}
		contacts = append(contacts, contact)
	}
	return contacts
}

func (r *resolver) cas(at place, said []CA) []CA {
	if len(said) == 0 {
		said = []CA{{}}
	}
	var cas []CA
	for _, s := range said {
		ca, err := s.Resolve()
		if err == nil && ca.Protocol == acmeclient.ACME && ca.Proxy != "" {
			_, err = acmeclient.New(ca, r.http, nil) // which may not be able to use a proxy
		}
		switch {
		case err != nil:
			r.fail(at, "CAs", err)
		case slices.ContainsFunc(cas, func(c CA) bool { return c.URL == ca.URL }):
			r.fail(at, "CAs", fmt.Errorf("%s is there twice", ca.URL))
		default:
			cas = append(cas, ca)
		}
	}
	return cas
}

// neededContacts checks that there are some for CAs that register an account
// without, but then do not issue.
func (r *resolver) neededContacts(at place, def *engine.Domain) {
	for _, ca := range def.CAs {
		if known, ok := ca.Known(); ok && known.NeedsContact && len(def.Contacts) == 0 {
			r.fail(at, "Contacts", fmt.Errorf("the CA %s needs an e-mail address", ca.Name))
			return
		}
	}
}

func (r *resolver) keyTypes(at place, said []KeyType) []KeyType {
	if len(said) == 0 {
		return []KeyType{P256}
	}
	var types []KeyType
	for _, s := range said {
		t, err := acmeclient.ParseKeyType(string(s))
		switch {
		case err != nil:
			r.fail(at, "KeyTypes", err)
		case slices.Contains(types, t):
			r.fail(at, "KeyTypes", fmt.Errorf("%s is there twice", t))
		default:
			types = append(types, t)
		}
	}
	return types
}

func (r *resolver) challengers(at place, said []Challenger) []Challenger {
	var list []Challenger
	for i, c := range said {
		if isNil(c) {
			r.fail(at, "Challengers", fmt.Errorf("number %d is nil", i+1))
			continue
		}
		list = append(list, c)
	}
	return list
}

// isNil reports whether there is no Challenger, or a built-in one that is a
// nil pointer. What nil means for other types is their own business.
func isNil(c Challenger) bool {
	switch c := c.(type) {
	case nil:
		return true
	case *HTTP01:
		return c == nil
	case *TLSALPN01:
		return c == nil
	}
	return false
}

// oneName checks that a Domain with a CA that certifies one name has no other.
func (r *resolver) oneName(at place, def *engine.Domain) {
	for _, ca := range def.CAs {
		if ca.Protocol == acmeclient.Tailscale && (len(def.Names) > 1 || len(def.KeyTypes) > 1) {
			r.fail(at, "CAs", errors.New("the Tailscale daemon has one certificate for one name: leave the other Names and KeyTypes out"))
		}
	}
}

// provable checks that there is a challenger for each name: wildcards can be
// proved in DNS only, since no host stands for all the names that they cover,
// and addresses not at all there (RFC 8738 §7).
func (r *resolver) provable(at place, def *engine.Domain) {
	if len(def.CAs) > 0 && !slices.ContainsFunc(def.CAs, func(ca CA) bool { return ca.Protocol == acmeclient.ACME }) {
		return // nothing is to be proved
	}
	inDNS, elsewhere := false, false
	for _, c := range def.Challengers {
		for _, typ := range c.Types() {
			dns := strings.HasPrefix(typ, "dns-")
			inDNS, elsewhere = inDNS || dns, elsewhere || !dns
		}
	}
	for _, name := range def.Names {
		switch {
		case strings.HasPrefix(name, "*.") && !inDNS:
			r.fail(at, "Challengers", fmt.Errorf("%s is a wildcard, which needs a challenger for dns-01: the built-in ones cannot prove it", name))
		case isIP(name) && !slices.ContainsFunc(def.CAs, takesIPs):
			r.fail(at, "CAs", fmt.Errorf("none of them issues for IP addresses such as %s", name))
		case isIP(name) && !elsewhere:
			r.fail(at, "Challengers", fmt.Errorf("%s is an IP address, which DNS cannot prove: it needs tls-alpn-01 or http-01", name))
		}
	}
}

// takesIPs reports whether nothing speaks against addresses at a CA.
func takesIPs(ca CA) bool {
	known, _ := ca.Known()
	return !known.NoIPs
}

// strict converts names as browsers do (UTS #46), and accepts what can stand
// in a certificate: letters, digits and hyphens, 63 to a label, 253 in all.
var strict = idna.New(
	idna.MapForLookup(), idna.BidiRule(), idna.CheckHyphens(true), idna.CheckJoiners(true),
	idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.Transitional(false),
)

// asciiName returns a DNS name as it is written on the wire.
func asciiName(said string) (string, error) {
	base, wildcard := strings.CutPrefix(said, "*.")
	if addr, err := netip.ParseAddr(strings.Trim(said, "[]")); err == nil {
		return address(said, addr)
	}
	switch {
	case said == "" || said == ".":
		return "", errors.New("a name is empty")
	case len(said) > 4*253: // no spelling of a name takes more
		return "", fmt.Errorf("%.40q… is not a DNS name: it is longer than 253 bytes", said)
	case !utf8.ValidString(said):
		return "", fmt.Errorf("%q is not valid UTF-8", said)
	case strings.Contains(base, "*") || wildcard && base == "":
		return "", fmt.Errorf("%q: a wildcard can only be the whole first label, as in *.example.com", said)
	case isIP(strings.TrimSuffix(base, ".")):
		return "", fmt.Errorf("%q: there is no wildcard, and no final dot, of an address", said)
	}
	ascii, err := strict.ToASCII(base)
	if err != nil {
		return "", fmt.Errorf("%q is not a DNS name: %w", said, err)
	}
	// Only here, because there are other dots than the ASCII one.
	ascii = strings.TrimSuffix(ascii, ".")
	if ascii == "" || strings.HasSuffix(ascii, ".") {
		return "", fmt.Errorf("%q is not a DNS name: a label is empty", said)
	}
	if last := ascii[strings.LastIndexByte(ascii, '.')+1:]; isNumber(last) {
		return "", fmt.Errorf("%q ends in a number, as IP addresses do, but is none", said)
	}
	if wildcard {
		ascii = "*." + ascii
		if len(ascii) > 253 {
			return "", fmt.Errorf("%q is not a DNS name: it is longer than 253 bytes", said)
		}
	}
	return ascii, nil
}

// address returns an IP address as RFC 5952 writes it, if one host can have it
// that others reach.
func address(said string, addr netip.Addr) (string, error) {
	addr = addr.Unmap()
	if addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return "", fmt.Errorf("%q is no address of one host", said)
	}
	return addr.String(), nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// isNumber reports whether a label has digits only, as no top-level domain
// has (RFC 3696 §2).
func isNumber(label string) bool { return strings.Trim(label, "0123456789") == "" }

// unicodeName returns a name as people write it.
func unicodeName(ascii string) string {
	if isIP(ascii) {
		return ascii
	}
	base, wildcard := strings.CutPrefix(ascii, "*.")
	shown, err := idna.Display.ToUnicode(base)
	switch {
	case err != nil:
		return ascii
	case wildcard:
		return "*." + shown
	}
	return shown
}

// lookupName returns what a caller may mean by name: a DNS name in whatever
// form, or else a Domain's Name, which may look like one.
func lookupName(e *engine.Engine, name string) string {
	if ascii, err := asciiName(name); err == nil && e.Manages(ascii) {
		return ascii
	}
	return name
}

// contactURL returns a contact as a URL, as RFC 8555 §7.1.2 wants it.
func contactURL(said string) (string, error) {
	const scheme = "mailto:"
	contact := strings.TrimSpace(said)
	isMail := len(contact) >= len(scheme) && strings.EqualFold(contact[:len(scheme)], scheme)
	if !isMail && strings.Contains(contact, ":") {
		if u, err := url.Parse(contact); err != nil || u.Scheme == "" || strings.Contains(contact, " ") {
			return said, fmt.Errorf("%q is neither an e-mail address nor a URL", said)
		}
		return contact, nil
	}
	address := contact
	if isMail {
		address = contact[len(scheme):]
	}
	// RFC 8555 §7.3: one address, and no header fields.
	odd := func(c rune) bool { return c <= ' ' || c == 0x7f || c == ',' || c == '?' }
	local, host, ok := strings.Cut(address, "@")
	if !ok || local == "" || host == "" || strings.ContainsFunc(address, odd) || strings.Contains(host, "@") || strings.Contains(address, "..") {
		return said, fmt.Errorf("%q is not an e-mail address", said)
	}
	return scheme + address, nil
}
