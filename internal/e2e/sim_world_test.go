package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// sim is one seed's world.
type sim struct {
	t       *testing.T
	seed    uint64
	length  time.Duration
	verbose bool // trace what the nodes log, too
	draw    draw
	began   time.Time
	witness *witness
	cas     []*simCA
	places  []*place
	checker *checker

	checkInterval time.Duration
	storeFaults   float64 // the share of operations that go wrong
	hangs         bool    // some of them for ever
	ended, calm   chan struct{}

	storeState, notifierState atomic.Int32
	keys                      atomic.Int64 // made so far

	mu       sync.Mutex // guards what follows
	domains  []md.Domain
	parked   []md.Domain // removed ones, which may come back
	since    map[string]time.Time
	count    int // of names ever made
	lastName string
	troubles troubles
	nodes    []*simNode // that are alive, by place; nil: none

	log traceLog
}

// place is where one node after the other lives.
type place struct {
	restart chan struct{}
	offset  atomic.Int64 // of its clock, in nanoseconds
}

// The states of the Store and of the Notifier.
const (
	works int32 = iota
	storeFull
	storeDown
	notifierVetoes
	notifierFails
	notifierHangs
)

// simCA is one CA.
type simCA struct {
	*acmetest.CA
	id       int
	name     string // for troubles
	client   *http.Client
	offer    md.CA
	issued   atomic.Int64
	vanished int // how often it has forgotten all accounts; guarded by the sim's mu

	mu      sync.Mutex // guards what follows
	refused map[string]bool
}

func newSim(t *testing.T, seed uint64, length time.Duration) *sim {
	s := &sim{
		t: t, seed: seed, length: length, verbose: *simTrace, draw: draw(seed).of("seed"), began: time.Now(),
		ended: make(chan struct{}), calm: make(chan struct{}),
		since: make(map[string]time.Time), troubles: make(troubles),
	}
	s.witness = newWitness(s)
	s.checker = newChecker(s)
	s.checkInterval = pick(s.draw.of("interval"), day, 6*day, 6*day, 12*day)
	s.storeFaults = pick(s.draw.of("store faults"), 0, 0.001, 0.005, 0.02)
	s.hangs = s.draw.of("hangs").chance(0.5)
	for i := range 1 + s.draw.of("CAs").below(2) {
		s.cas = append(s.cas, s.newCA(i))
	}
	for range pick(s.draw.of("nodes"), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 5) {
		s.places = append(s.places, &place{restart: make(chan struct{}, 1)})
	}
	s.nodes = make([]*simNode, len(s.places))
	for range pick(s.draw.of("domains"), 1, 1, 1, 2, 2, 3) {
		s.domains = append(s.domains, s.newDomain())
	}
	s.declare(s.domains)
	return s
}

// newCA makes a CA with its unfairness.
func (s *sim) newCA(i int) *simCA {
	d := s.draw.of("CA", i)
	ca := &simCA{id: i, name: fmt.Sprint("CA ", i), refused: make(map[string]bool)}
	share := pick(d.of("faults"), 0, 0.003, 0.01, 0.03)
	faults := acmetest.Everything(share)
	faults.Huge = 0 // 64 MiB take their time
	ca.CA = &acmetest.CA{
		Seed: uint64(d), BaseURL: fmt.Sprintf("https://ca%d.test", i),
		Faults: faults, RenewalInfo: d.of("ARI").chance(0.6), AuthzReuse: d.of("reuse").share(),
		RetryAfter: pick(d.of("retry"), 0, 0, 10*time.Second, 5*time.Minute, time.Hour),
		Limits: acmetest.Limits{
			Orders:       acmetest.Rate{Count: pick(d.of("orders"), 60, 60, 12, 4), Per: 3 * time.Hour},
			Failures:     acmetest.Rate{Count: pick(d.of("failures"), 5, 3, 2), Per: time.Hour},
			Certificates: acmetest.Rate{Count: pick(d.of("certificates"), 5, 5, 4), Per: 7 * day},
		},
		Challenges: []string{"http-01", "tls-alpn-01"},
		HTTP:       http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.validateHTTP(w, r) }),
		TLS:        &tls.Config{GetConfigForClient: s.validateTLS},
		Leaf: func(t *x509.Certificate) {
			t.NotAfter = t.NotBefore.Add(lifetime(t.DNSNames[0]) - time.Second)
			ca.issued.Add(1)
		},
		Policy: func(name string) error {
			ca.mu.Lock()
			defer ca.mu.Unlock()
			if ca.refused[name] {
				return errors.New("we do not like that name")
			}
			return nil
		},
	}
	limits := ca.CA.Limits
	ca.client = ca.Client()
	ca.offer = md.CA{URL: ca.DirectoryURL(), Limits: acmeclient.Limits{
		Orders:       acmeclient.Rate(limits.Orders),
		Failures:     acmeclient.Rate(limits.Failures),
		Certificates: acmeclient.Rate(limits.Certificates),
	}}
	return ca
}

func (s *sim) caAt(host string) *simCA {
	var i int
	fmt.Sscanf(host, "ca%d.test", &i)
	return s.cas[i]
}

// zones say how long certificates last: it is part of the names.
var zones = map[string]time.Duration{
	"days.test": 160 * time.Hour, "month.test": 45 * day, "quarter.test": 90 * day, "half.test": 200 * day, "year.test": 398 * day,
}

func lifetime(name string) time.Duration {
	labels := strings.Split(name, ".")
	if life := zones[strings.Join(labels[max(len(labels)-2, 0):], ".")]; life > 0 {
		return life
	}
	return 90 * day
}

// newDomain makes up a Domain. s.mu is held, or nobody else is there yet.
func (s *sim) newDomain() md.Domain {
	d := s.draw.of("domain", s.count)
	zone := pick(d.of("zone"), "month.test", "quarter.test", "quarter.test", "half.test", "year.test")
	if s.count == 0 && d.of("short").chance(0.12) {
		zone = "days.test"
	}
	domain := md.Domain{Name: fmt.Sprint("domain-", s.count)}
	for range 1 + d.of("names").below(4) {
		domain.Names = append(domain.Names, s.newName(zone))
	}
	if zone != "days.test" && d.of("key types").chance(0.05) { // there are limits
		domain.KeyTypes = []md.KeyType{md.P256, md.P384}
	}
	for _, ca := range s.cas {
		domain.CAs = append(domain.CAs, ca.offer)
	}
	if d.of("CA order").chance(0.5) {
		slices.Reverse(domain.CAs)
	}
	if d.of("delay").chance(0.2) {
		domain.ActivationDelay = d.of("delay").between(time.Hour, 2*day)
	}
	if d.of("challengers").chance(0.8) {
		domain.Challengers = []md.Challenger{&md.HTTP01{}}
	}
	if d.of("ARI").chance(0.75) { // who asks, asks once a day
		domain.ARI = md.Off
	}
	if d.of("window").chance(0.2) {
		domain.RenewWindow = md.Window{Percent: 40}
	}
	return domain
}

func (s *sim) newName(zone string) string {
	s.count++
	s.lastName = fmt.Sprintf("n%d.%s", s.count, zone)
	return s.lastName
}

// config returns the Domains as they are.
func (s *sim) config() []md.Domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.domains)
}

// declare notes since when names belong to which Domain. s.mu is held, or
// nobody else is there yet.
func (s *sim) declare(domains []md.Domain) {
	since := make(map[string]time.Time)
	for _, d := range domains {
		for _, name := range d.Names {
			for _, t := range append([]md.KeyType{""}, d.KeyTypes...) {
				key := name + " " + string(t) + " " + d.Name
				if at, ok := s.since[key]; ok {
					since[key] = at
				} else {
					since[key] = time.Now()
				}
			}
		}
	}
	s.since = since
}

func (s *sim) enter(n *simNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[n.id] = n
	s.troubles.end("nodes", time.Now())
	s.traceConfig(n.String()+" starts", n.domains)
}

func (s *sim) leave(n *simNode, crashed bool) {
	s.trace("%v ends; crashed: %v", n, crashed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[n.id] = nil
	s.troubles.begin(fmt.Sprint("node ", n.id), "down", time.Now())
	if !slices.ContainsFunc(s.nodes, func(n *simNode) bool { return n != nil }) {
		s.troubles.begin("nodes", "all are down", time.Now())
	}
}

// alive returns the nodes that are alive.
func (s *sim) alive() []*simNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *simNode) bool { return n == nil || n.line.cut.Load() })
}

// answering returns the node that a validator reaches, nil if there is none.
func (s *sim) answering(name string) *simNode {
	s.mu.Lock()
	blocked := strings.HasPrefix(s.blocked(name), "b")
	s.mu.Unlock()
	nodes := s.alive()
	if blocked || len(nodes) == 0 {
		return nil
	}
	return nodes[s.draw.of("reach", name, time.Now().Unix()).below(len(nodes))]
}

// blocked is "blocked" for a name that validators cannot reach. s.mu is held.
func (s *sim) blocked(name string) string {
	list := s.troubles["name "+name]
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		return "blocked"
	}
	return ""
}

func (s *sim) validateHTTP(w http.ResponseWriter, r *http.Request) {
	name, _, _ := strings.Cut(r.Host, ":")
	if n := s.answering(name); n != nil {
		n.m.HTTPHandler(nil).ServeHTTP(w, r)
		return
	}
	http.Error(w, "nobody is here", http.StatusBadGateway)
}

func (s *sim) validateTLS(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	n := s.answering(hello.ServerName)
	if n == nil {
		return nil, errors.New("nobody is here")
	}
	config, err := n.m.GetConfigForClient(hello)
	if config == nil && err == nil {
		config = n.m.TLSConfig()
	}
	return config, err
}

func (s *sim) isCalm() bool {
	select {
	case <-s.calm:
		return true
	default:
		return false
	}
}
