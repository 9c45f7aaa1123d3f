// Package engine does: it is the only room that orders certificates.
//
// It asks policy what is due, gets it from a CA, has record stage and
// activate it, and gives it to live to be served. It waits, starts
// goroutines and calls the outside; the rooms that it uses do not.
//
// Each Domain goes through the same steps, whatever it starts from:
//
//	load      what is stored is served                          (load.go)
//	run       what is due is given to a lane of its CA           (run.go)
//	attempt   under the lease: tidy, decide, issue, activate     (attempt.go, remains.go)
//	issue     order, authorize, finalize, download, stage        (issue.go)
//	install   what is active is served                           (install.go)
package engine

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// The errors that the Manager's users branch on.
var (
	ErrNotManaged = errors.New("name is not managed here")
	ErrNotReady   = errors.New("no certificate")
	ErrRunning    = errors.New("the Manager is running already")
)

// Domain is what was meant by an md.Domain: nothing is left to default.
type Domain struct {
	Name        string
	Names       []string // DNS names in ASCII, lower case
	Shown       []string // the same as people write them
	CAs         []acmeclient.CA
	Contacts    []string
	KeyTypes    []acmeclient.KeyType
	Challengers []challenge.Challenger
	RenewWindow status.Window
	WarnWindow  status.Window
	ARI         bool

	ActivationDelay time.Duration
	HoldActivation  bool

	Wishes
	Keys   Keys
	Files  []FilePair // that are served before what is ordered
	Manual bool       // nothing is ordered unless somebody asks for it

	print string // its fingerprint, set by SetDomains
}

// rules are the Domain's wishes as policy wants them.
func (d *Domain) rules() policy.Rules {
	r := policy.Rules{Names: d.Names, Manual: d.Manual}
	for _, t := range d.KeyTypes {
		r.KeyTypes = append(r.KeyTypes, string(t))
	}
	if d.RenewWindow != (status.Window{}) {
		r.Window = d.RenewWindow.Before
	}
	return r
}

// Config is what all Domains share.
type Config struct {
	Store         store.Store
	AcceptTerms   bool
	Notifier      status.Notifier // nil: nobody is told
	Logger        *slog.Logger    // nil: nothing is logged
	HTTPClient    *http.Client    // nil: one for each CA
	CheckInterval time.Duration
	RetryDelay    time.Duration
	Failover      int // failures at one CA before the next

	// FallbackName is served where nothing else is; "": nothing.
	FallbackName string

	// OnDemand allows a name that no Domain has, and returns its Domain; the
	// error is ErrNotManaged if nobody wants it. With no hello it is asked
	// whether it still does. Nil: nothing is had on demand.
	OnDemand func(ctx context.Context, name string, hello *tls.ClientHelloInfo) (*Domain, error)
	// OnDemandWait is how long a handshake waits for a certificate.
	OnDemandWait time.Duration
	// Recall returns the Domain that was allowed before, of which Name and DNS
	// names are remembered.
	Recall func(name string, names []string) (*Domain, error)
}

// Engine works for the Domains of one Manager.
type Engine struct {
	cfg       Config
	log       *slog.Logger
	store     store.Store // cfg.Store, with deadlines and without panics
	records   *record.Records
	http01    *challenge.HTTP01
	tlsalpn01 *challenge.TLSALPN01
	table     live.Table
	chains    live.Chains
	fallback  live.Fallback
	knobs     atomic.Pointer[Knobs]
	accounts  singleflight.Group // by account: one registration at a time
	slots     singleflight.Group // by account: one block of order slots at a time
	searches  singleflight.Group // for orphans: one at a time
	openings  singleflight.Group // by Domain: of its keys, one try at a time
	demand    demand

	mu         sync.Mutex // guards what follows; never held across I/O or a wait
	domains    map[string]*domain
	queue      queue
	lanes      map[string]*lane // by directory URL
	clients    map[acmeclient.Endpoint]*acmeclient.Client
	contacts   map[sharing][]string           // that Domains want their accounts to have
	known      map[accountRef]*record.Account // as they were read last
	free       map[accountRef]slots           // taken from the ledger
	lenders    map[string]lender              // by DNS name
	orphans    []orphan
	declared   int            // how often the Domains were
	unsearched bool           // orphans are to be looked for again
	unlisted   bool           // that was tried, and the Store could not list them
	unrecalled bool           // not all that was allowed on demand could be read
	hanging    map[*hook]bool // calls that have not returned in time
	graceEnds  time.Time      // for all of them, while Run ends; zero: each has its own
	leaser     *store.Leaser
	running    bool
	waiting    int // handshakes, for what was allowed on demand
	refreshing bool
	sweepAt    time.Time     // when to remove what is over
	swept      string        // how far that has come in the Store
	round      int           // of looking at all active Sets
	changed    chan struct{} // closed and replaced when the state of a Domain changes
	wake       chan struct{} // buffered: something in the queue may be due
}

// domain is a Domain with what is known of it. Its fields are guarded by the
// Engine's mu; def is immutable and replaced as a whole.
type domain struct {
	def     *Domain
	site    *live.Site    // what it serves, at first nothing
	loaded  bool          // from the Store
	reading *flight       // of the Store's values, nil if nobody is
	version store.Version // of the active Set
	unfit   unfit         // what the Store has instead
	seen    int           // round in which the Store had an active Set
	hash    string        // of what is served, for Job.Announced
	certs   []certificate
	files   *files      // nil: none were read
	job     *record.Job // never changed, but replaced
	held    *record.Set // issued, but not known to be stored
	waiting *waitingSet // obtained, but not active yet

	keys     map[keyName]crypto.Signer                   // opened, of what it serves and orders
	spare    map[acmeclient.KeyType]*record.KeyReference // made, but nothing was issued for them yet
	unopened *unopened                                   // nil: no key of the active Set is out of reach

	jobVersion   store.Version // of the Job in the Store that job goes on from
	unsaved      bool          // job could not be written
	reconfigured bool          // the configuration has changed since the last attempt
	dueAgain     bool          // something has changed during this attempt
	news         bool          // other certificates are served than the Notifier was told of
	due          time.Time     // when to look at it next
	activateAt   time.Time     // when waiting may be activated
	at           int           // place in the queue, -1 if not there
	state        state
	looks        policy.Bucket // of attempts, as a guard against looking without end
	lane         string        // the directory URL of the CA whose lane it is in
	activity     string
	cancel       context.CancelFunc // of the attempt
	removed      bool
	onDemand     *onDemand // nil: it was declared
}

// state is where a Domain is between two looks.
type state int8

const (
	idle    state = iota // in the queue, or not to be looked at yet
	inLane               // due, and waiting for a place in its CA's lane
	working              // an attempt is under way in this process
)

// certificate is what is remembered in memory of a certificate in use, beside
// what live holds.
type certificate struct {
	policy.Certificate
	url  string // where the CA keeps it
	id   string // for renewal information, "" if it has none
	leaf []byte // DER, shared with live
}

// waitingSet is what is known of a Set that is complete, but not active yet.
type waitingSet struct {
	hash  string
	certs []certificate
}

// New returns an Engine for cfg. It does nothing until it is given Domains.
func New(cfg Config) *Engine {
	e := &Engine{
		cfg:     cfg,
		log:     cfg.Logger,
		domains: make(map[string]*domain),
		lanes:   make(map[string]*lane),
		clients: make(map[acmeclient.Endpoint]*acmeclient.Client),
		known:   make(map[accountRef]*record.Account),
		free:    make(map[accountRef]slots),
		lenders: make(map[string]lender),
		hanging: make(map[*hook]bool),
		changed: make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
	if cfg.OnDemand == nil { // else OnDemand is asked first
		e.table.FallbackName = cfg.FallbackName
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.store = patient{cfg.Store, e.log}
	e.records = &record.Records{Store: e.store}
	e.knobs.Store(&Knobs{})
	e.http01 = &challenge.HTTP01{Store: e.store, Managed: e.answersFor, Logger: e.log}
	e.tlsalpn01 = &challenge.TLSALPN01{Store: e.store, Managed: e.answersFor, Logger: e.log}
	return e
}

// HTTP01 answers http-01 challenges for the Domains of e.
func (e *Engine) HTTP01() *challenge.HTTP01 { return e.http01 }

// Manages reports whether name, in ASCII, belongs to a Domain.
func (e *Engine) Manages(name string) bool { return e.table.Lookup(name) != nil }

// answersFor reports whether challenges for name may be pending: another
// process may have been asked on demand for it.
func (e *Engine) answersFor(name string) bool {
	if e.Manages(name) {
		return true
	}
	if e.cfg.OnDemand == nil {
		return false
	}
	_, err := demandedName(name)
	return err == nil
}

// announceChange wakes those who wait for the state of a Domain. e.mu is held.
func (e *Engine) announceChange() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// Knobs are what tests set beyond what a user may; the zero value is what
// runs in earnest.
type Knobs struct {
	// Wall tells the wall-clock time with which deadlines are compared.
	Wall func() time.Time
	// Tick is the longest time between two looks at the clock and the Store.
	Tick time.Duration
	// LeaseTTL is that of the leases around attempts.
	LeaseTTL time.Duration
	// HookGrace is how long cleaning up may take after the context has ended.
	HookGrace time.Duration
	// NewKey makes account keys, and those of certificates of which the Domain
	// does not say how.
	NewKey func(ctx context.Context, t acmeclient.KeyType) (crypto.Signer, error)
	// Jitter draws from [0, 1) what is left to chance.
	Jitter func() float64
	// Restless lets Renew order again at once.
	Restless bool
}

type knobsKey struct{}

// WithKnobs returns a context that carries knobs into Load, Run, Update and
// Renew.
func WithKnobs(ctx context.Context, k Knobs) context.Context {
	return context.WithValue(ctx, knobsKey{}, &k)
}

// adopt takes the knobs that ctx carries.
func (e *Engine) adopt(ctx context.Context) {
	if k, ok := ctx.Value(knobsKey{}).(*Knobs); ok {
		e.knobs.Store(k)
	}
}

func (e *Engine) now() time.Time {
	if wall := e.knobs.Load().Wall; wall != nil {
		return wall()
	}
	return time.Now()
}

// jitter draws from [0, 1).
func (e *Engine) jitter() float64 {
	if draw := e.knobs.Load().Jitter; draw != nil {
		return draw()
	}
	return rand.Float64()
}

func (e *Engine) tick() time.Duration { return cmp.Or(e.knobs.Load().Tick, time.Minute) }

func (e *Engine) leaseTTL() time.Duration { return cmp.Or(e.knobs.Load().LeaseTTL, 20*time.Second) }

func (e *Engine) hookGrace() time.Duration { return cmp.Or(e.knobs.Load().HookGrace, 10*time.Second) }

func (e *Engine) newKey(ctx context.Context, t acmeclient.KeyType) (crypto.Signer, error) {
	if gen := e.knobs.Load().NewKey; gen != nil {
		return gen(ctx, t)
	}
	return t.Generate(ctx)
}

// leases returns the Leaser of this process.
func (e *Engine) leases() *store.Leaser {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leaser == nil {
		e.leaser = &store.Leaser{Store: e.store, TTL: e.leaseTTL()}
	}
	return e.leaser
}

// client returns a client for a CA; all attempts at one address share
// connections and nonces.
func (e *Engine) client(ca acmeclient.CA) (*acmeclient.Client, error) {
	key := ca.Endpoint()
	e.mu.Lock()
	known := e.clients[key]
	e.mu.Unlock()
	if known != nil {
		return known.For(ca)
	}
	c, err := acmeclient.New(ca, e.cfg.HTTPClient, e.log)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known = e.clients[key]; known != nil { // somebody else was faster
		return known.For(ca)
	}
	e.clients[key] = c
	return c, nil
}

// clientAt returns the client for the Domain's CA with a directory URL.
func (e *Engine) clientAt(def *Domain, url string) (*acmeclient.Client, error) {
	for _, ca := range def.CAs {
		if ca.URL == url {
			return e.client(ca)
		}
	}
	return nil, fmt.Errorf("%s is not among the Domain's CAs any more", url)
}
