package acmetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// CA is an ACME certification authority for tests. Its zero value is fair and
// fast, and able to do all but to validate names, for which it needs some of
// HTTP, TLS, Dial, HTTPPort, TLSPort and LookupTXT. Use it as a pointer.
//
// Fields may be set until the first method call, those for validation until
// the first order, and later with Change. All methods may be called
// concurrently.
//
// Inside a testing/synctest bubble, make the CA in the bubble, and use Client.
type CA struct {
	// Seed chooses who meets which of the Faults. Equal seeds and equal
	// requests meet equal faults, in whatever order they arrive. Unless it is
	// zero, it also chooses the keys of the issuers, the serial numbers and
	// the signatures, so that a run can be repeated to the byte: never trust
	// such a CA outside of tests.
	Seed uint64

	// Faults says how unfair the CA is. Zero is fair.
	Faults Faults

	// Fault, if not nil, is asked at each request what shall go wrong with
	// it. FaultNone leaves it to Faults. It is called concurrently.
	Fault func(op Op) Fault

	// BaseURL is scheme and host of the URL at which ServeHTTP is reached,
	// for those who serve it themselves. Empty is "https://acme.test", or the
	// served address after Start.
	BaseURL string

	// Dial connects validators, as a net.Dialer would, to "name:80" for
	// http-01 and to "name:443" for tls-alpn-01. It must obey its context.
	// If it is nil, validators find HTTP and TLS, or HTTPPort and TLSPort,
	// at every name.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// HTTP answers validators at port 80 of every name, through memory, when
	// Dial is nil. If it is nil as well, HTTPPort is used.
	HTTP http.Handler

	// TLS answers validators at port 443 of every name, through memory, when
	// Dial is nil. If it is nil as well, TLSPort is used. Validators that
	// were redirected to https get their answers from HTTP.
	TLS *tls.Config

	// HTTPPort and TLSPort are the loopback ports that stand for ports 80
	// and 443 when nothing else does. With zero, what would need that port is
	// not offered: http-01 or tls-alpn-01.
	HTTPPort, TLSPort int

	// LookupTXT returns the TXT records of a name such as
	// "_acme-challenge.example.com", without a final dot. It must obey its
	// context. With nil, dns-01 is not offered and wildcards are refused.
	LookupTXT func(ctx context.Context, name string) ([]string, error)

	// Challenges are the challenge types to offer, of those that the CA can
	// validate. Nil offers all of them.
	Challenges []string

	// ValidationTimeout bounds one validation. Zero is 10 seconds.
	ValidationTimeout time.Duration

	// Perspectives is how many validators look at the same time. All must
	// succeed. Zero is one.
	Perspectives int

	// Policy, if not nil, is asked for each name of an order, in lower case.
	// An error refuses the name with its text (rejectedIdentifier).
	Policy func(name string) error

	// TermsOfService is the URL of the terms that accounts must agree to.
	// Empty: there are none. ChangeTerms changes them later.
	TermsOfService string

	// ExternalAccounts are the MAC keys (HS256) of external accounts by
	// their key identifier. If there are any, an account needs one
	// (RFC 8555 §7.3.4).
	ExternalAccounts map[string][]byte

	// ExternalAccountsOnce lets each external account bind a single account,
	// also if that is deactivated or forgotten later, as CAs do whose keys
	// are good for one use.
	ExternalAccountsOnce bool

	// IPAddresses takes IP addresses as identifiers (RFC 8738). They are
	// validated by http-01 and tls-alpn-01.
	IPAddresses bool

	// Profiles are what orders may ask for (draft-ietf-acme-profiles). The
	// first is for those that do not ask. Nil: the CA knows no profiles.
	Profiles []Profile

	// RefuseDates refuses orders with notBefore or notAfter, as Let's Encrypt
	// does. Otherwise they are honoured.
	RefuseDates bool

	// MustStaple is what becomes of CSRs that ask for must-staple (RFC 7633).
	MustStaple MustStaple

	// Lifetime is how long certificates last. Zero is 90 days. It yields to
	// that of a profile and to the notAfter of an order.
	Lifetime time.Duration

	// Backdate is how long before its issuance a certificate starts. Zero is
	// one hour; negative lets it start in the future.
	Backdate time.Duration

	// ChainLength is the number of certificates that are handed out, from
	// the leaf to the last before the root. Zero is two.
	ChainLength int

	// Alternates is the number of alternate chains, each to another root.
	Alternates int

	// IssuerRSA makes the issuers' keys RSA 2048 instead of ECDSA P-256.
	IssuerRSA bool

	// Leaf, if not nil, may change the template of each certificate before
	// it is signed. It is called concurrently.
	Leaf func(template *x509.Certificate)

	// RenewalInfo offers RFC 9773: windows at two thirds of the lifetime,
	// unless SetRenewalInfo says otherwise, and replaces in orders.
	RenewalInfo bool

	// AuthzLifetime is how long authorizations last, pending or valid, and
	// OrderLifetime how long orders do. Zero is 7 days.
	AuthzLifetime, OrderLifetime time.Duration

	// AuthzReuse is the share (0 to 1) of authorizations in new orders that
	// are valid from the start because the account has a valid one.
	AuthzReuse float64

	// Limits are what the CA allows before it answers rateLimited. Zero is no limit.
	Limits Limits

	// PauseAfter is the number of failed validations of a name in a row after
	// which it is paused for the account: orders with it are refused, with a
	// page to visit and without a time, until Unpause. Zero pauses nothing.
	PauseAfter int

	// RetryAfter is what answers about unfinished things tell clients to
	// wait. Zero tells nothing. It is written as RetryForm says.
	RetryAfter time.Duration
	RetryForm  RetryForm

	// Logger tells of requests and validations. Nil is silent.
	Logger *slog.Logger

	web    web
	minter minter

	mu    sync.Mutex // guards state; never held while waiting or calling out
	state state
	tasks sync.WaitGroup // requests and validations
}

// state is all that a CA remembers.
type state struct {
	ready  bool
	closed bool
	down   bool
	stop   context.CancelFunc
	ctx    context.Context // ends with Close
	base   string
	terms  string

	serial    int // numbers resources
	resources map[string]*resource
	directory map[string]string
	nonces    nonces

	accounts     []*account
	byThumbprint map[string]*account
	orders       []*order
	openOrders   map[string]*order         // by account and names
	validAuthz   map[string]*authorization // by account and identifier
	certificates []*certificate
	bySerial     map[string]*certificate
	byID         map[string]*certificate // by the identifier of RFC 9773
	validations  []Validation
	renewalInfo  map[string]RenewalInfo // by certificate identifier
	retired      map[string]bool        // profiles by name
	usedKeys     map[string]bool        // of external accounts, by key identifier

	buckets  map[string]time.Time // of Limits: when each would be full
	failures map[string]int       // in a row, by account and identifier
	refused  []Refusal

	ops      int
	requests map[string]int
	nth      map[[2]string]int         // by kind and object
	hits     map[string]map[string]int // by object and kind; see allow
	trace    []string
}

// resource is what a URL of the CA stands for.
type resource struct {
	kind    string
	account *account
	order   *order
	authz   *authorization
	chall   *challenge
	cert    *certificate
	chain   int // which of the certificate's chains
}

// lock locks the state and returns it, made ready.
func (ca *CA) lock() *state {
	ca.mu.Lock()
	s := &ca.state
	if s.ready {
		return s
	}
	s.ready = true
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.base = strings.TrimSuffix(ca.BaseURL, "/")
	if s.base == "" {
		s.base = "https://acme.test"
	}
	s.terms = ca.TermsOfService
	s.resources = map[string]*resource{}
	s.byThumbprint = map[string]*account{}
	s.openOrders = map[string]*order{}
	s.validAuthz = map[string]*authorization{}
	s.bySerial = map[string]*certificate{}
	s.byID = map[string]*certificate{}
	s.renewalInfo = map[string]RenewalInfo{}
	s.retired = map[string]bool{}
	s.usedKeys = map[string]bool{}
	s.buckets = map[string]time.Time{}
	s.failures = map[string]int{}
	s.requests = map[string]int{}
	s.nth = map[[2]string]int{}
	s.hits = map[string]map[string]int{}
	s.nonces.valid = map[string]bool{}
	ca.makeDirectory(s)
	return s
}

// add gives a resource its path and remembers it. The state is locked.
func (ca *CA) add(s *state, r *resource, object string) (path string) {
	s.serial++
	path = fmt.Sprintf("/acme/%s/%d", r.kind, s.serial)
	path = ca.oddPath(s, path, r.kind, object)
	s.resources[path] = r
	return path
}

// DirectoryURL returns the URL of the directory: "https://acme.test/directory"
// unless BaseURL is set or Start was called.
func (ca *CA) DirectoryURL() string {
	s := ca.lock()
	defer ca.mu.Unlock()
	return s.base + directoryPath
}

// ChangeTerms changes the terms of service. Accounts that agreed to the former
// ones get userActionRequired for newOrder until they are updated with
// termsOfServiceAgreed, which stands for whatever the instance URL asks of
// their owner (RFC 8555 §7.3.3).
func (ca *CA) ChangeTerms(url string) {
	s := ca.lock()
	defer ca.mu.Unlock()
	s.terms = url
	for _, a := range s.accounts {
		a.terms = false
	}
}

// Change lets set change fields of a CA that is at work, all but Seed,
// BaseURL, RenewalInfo, TermsOfService and those of the issuers. Requests and
// validations that come later see the change; call it when none is under way,
// in a bubble after synctest.Wait. set must not call methods of the CA.
func (ca *CA) Change(set func()) {
	ca.lock()
	defer ca.mu.Unlock()
	set()
}

// ForgetAccounts makes the CA forget all accounts, as CAs do that move or
// clean up: their URLs and keys are unknown from then on. Accounts still
// lists them.
func (ca *CA) ForgetAccounts() {
	s := ca.lock()
	defer ca.mu.Unlock()
	clear(s.byThumbprint)
	for _, a := range s.accounts {
		delete(s.resources, a.path)
	}
}

// SetDown makes the CA unreachable, or reachable again: requests through
// Client fail as if the connection was refused, those over the network find
// it closed.
func (ca *CA) SetDown(down bool) {
	s := ca.lock()
	defer ca.mu.Unlock()
	s.down = down
}

// Close ends validations and the server, and waits for them. The CA then
// stays down; what it observed can still be read. Close may be called more
// than once.
func (ca *CA) Close() {
	s := ca.lock()
	s.closed = true
	stop := s.stop
	ca.mu.Unlock()
	stop()
	ca.web.close()
	ca.tasks.Wait()
}

// enter counts a request or validation that Close shall wait for. It reports
// false if the CA is down or closed.
func (ca *CA) enter() bool {
	s := ca.lock()
	defer ca.mu.Unlock()
	if s.closed || s.down {
		return false
	}
	ca.tasks.Add(1)
	return true
}

func (ca *CA) log() *slog.Logger {
	if ca.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return ca.Logger
}

// offers reports whether the CA offers challenges of that type.
func (ca *CA) offers(typ string) bool {
	if ca.Challenges != nil && !slices.Contains(ca.Challenges, typ) {
		return false
	}
	switch typ {
	case typeHTTP01:
		return ca.Dial != nil || ca.HTTP != nil || ca.HTTPPort != 0
	case typeTLSALPN01:
		return ca.Dial != nil || ca.TLS != nil || ca.TLSPort != 0
	case typeDNS01:
		return ca.LookupTXT != nil
	}
	return false
}

func orDuration(d, zero time.Duration) time.Duration {
	if d == 0 {
		return zero
	}
	return d
}

// statusText names an HTTP status for the trace.
func statusText(code int) string {
	return fmt.Sprintf("%d %s", code, http.StatusText(code))
}
