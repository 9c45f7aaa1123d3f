package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
)

// expectCommand looks at one thing and compares it with what the script says.
func (s *stage) expectCommand(c *command) error {
	return obey(expectWords, "expect", s, c)
}

var expectWords = map[string]func(s *stage, c *command) error{
	"served": (*stage).expectServed,
	"status": (*stage).expectStatus,
	"events": (*stage).expectEvents,
	"ca":     (*stage).expectCA,
	"store":  (*stage).expectStore,
	"log":    (*stage).expectLog,
	"ready":  (*stage).expectReady,
}

// chosen takes the option on=NAME: that node, or all that run.
func (s *stage) chosen(c *command) ([]*member, error) {
	if on := c.option("on"); on != "" {
		m, err := s.member(on)
		if err != nil {
			return nil, err
		}
		return []*member{m}, nil
	}
	all := s.running()
	if len(all) == 0 {
		return nil, errors.New("no node runs")
	}
	return all, nil
}

// sight is what a client sees in a handshake.
type sight struct {
	leaf *x509.Certificate
	by   string // the CA that it leads to; empty: none
}

// look makes a handshake with a node. Key is "P-256" or "RSA-2048" for a
// client that can only do that, or empty.
func (s *stage) look(m *member, name, key string) (sight, error) {
	conn, err := m.node.secure.dial(context.Background())
	if err != nil {
		return sight{}, err
	}
	defer conn.Close()
	config := &tls.Config{ServerName: name, InsecureSkipVerify: true} // looked at below, without regard to dates
	if key != "" {
		config.MaxVersion = tls.VersionTLS12
		config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		if strings.HasPrefix(key, "RSA") {
			config.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}
	}
	client := tls.Client(conn, config)
	if err := client.Handshake(); err != nil {
		return sight{}, err
	}
	chain := client.ConnectionState().PeerCertificates
	seen := sight{leaf: chain[0]}
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	for _, ca := range s.caNames {
		_, err := chain[0].Verify(x509.VerifyOptions{
			DNSName: name, Roots: s.cas[ca].Roots(), Intermediates: pool, CurrentTime: chain[0].NotAfter,
		})
		if err == nil {
			seen.by = ca
		}
	}
	return seen, nil
}

// state says in a word what a client makes of it.
func (s *stage) state(seen sight, err error) string {
	now := s.wall()
	switch {
	case err != nil:
		return "none"
	case seen.by == "":
		return "fallback"
	case now.Before(seen.leaf.NotBefore) || now.After(seen.leaf.NotAfter):
		return "expired"
	}
	return "valid"
}

// expectServed: "expect served NAME valid|fallback|expired|none [new|same]
// [by=one] [key=RSA-2048] [on=a]". New and same compare with the certificate
// that the script saw for the name before; label=X remembers one, and is=X
// compares with what was remembered.
func (s *stage) expectServed(c *command) error {
	name := c.need("a name")
	want := c.oneOf("valid", "fallback", "expired", "none")
	change := c.oneOf("new", "same")
	by, key := c.option("by"), c.option("key")
	label, is := c.option("label"), c.option("is")
	if want == "" {
		want = "valid"
	}
	nodes, err := s.chosen(c)
	if err != nil {
		return err
	}
	serial := ""
	for _, m := range nodes {
		seen, err := s.look(m, name, key)
		if got := s.state(seen, err); got != want {
			return fmt.Errorf("node %s: for %s clients see %s (%v), want %s", m.name, name, got, err, want)
		}
		if by != "" && seen.by != by {
			return fmt.Errorf("node %s: the certificate for %s comes from %q, want %q", m.name, name, seen.by, by)
		}
		if seen.by == "" {
			continue // it is none that could be remembered
		}
		serial = seen.leaf.SerialNumber.String()
		if same := serial == s.seen[name+key]; change == "new" && same || change == "same" && !same {
			return fmt.Errorf("node %s: the certificate for %s is not %s", m.name, name, change)
		}
		if is != "" && serial != s.seen["label "+is] {
			return fmt.Errorf("node %s: the certificate for %s is not the one that was called %s", m.name, name, is)
		}
	}
	if serial != "" {
		s.seen[name+key] = serial
		s.seen["label "+label] = serial
	}
	return nil
}

// expectReady: every Domain of every node has a certificate in date.
func (s *stage) expectReady(c *command) error {
	nodes, err := s.chosen(c)
	if err != nil {
		return err
	}
	atOnce, cancel := context.WithCancel(context.Background())
	cancel()
	for _, m := range nodes {
		if err := m.node.m.Ready(atOnce); err != nil {
			return fmt.Errorf("node %s: %w", m.name, err)
		}
	}
	return nil
}

// expectStatus: "expect status NAME good|pending|incomplete|expired
// [attempts<=3] [certificates=2] [error~TEXT] [problem~TYPE] [reason~TEXT]
// [ca=one] [on=a]".
func (s *stage) expectStatus(c *command) error {
	nodes, err := s.chosen(c)
	if err != nil {
		return err
	}
	name, state := c.need("a Domain"), status.State(c.need("a state"))
	options := c.options
	c.options = nil
	for _, m := range nodes {
		var r *status.Domain
		for d := range m.node.m.Status() {
			if d.Name == name {
				r = &d
			}
		}
		if r == nil {
			return fmt.Errorf("node %s: the status knows no Domain %q", m.name, name)
		}
		if r.State != state {
			return fmt.Errorf("node %s: %s is %s (%s), want %s", m.name, name, r.State, r.Reason, state)
		}
		for _, o := range options {
			if err := s.checkStatus(r, o); err != nil {
				return fmt.Errorf("node %s: %w", m.name, err)
			}
		}
	}
	return nil
}

func (s *stage) checkStatus(r *status.Domain, o option) error {
	renewal := r.Renewal
	if renewal == nil {
		renewal = new(status.Renewal)
	}
	text := ""
	switch o.name {
	case "attempts":
		return o.holds(renewal.Attempts)
	case "panics":
		return o.holds(renewal.Panics)
	case "staged":
		return o.holds(len(r.Staged))
	case "certificates":
		return o.holds(len(r.Certificates))
	case "ca":
		if a := s.cas[o.value]; a == nil || r.CA != a.DirectoryURL() {
			return fmt.Errorf("the CA is %s, want %s", r.CA, o.value)
		}
		return nil
	case "error":
		text = renewal.LastError
	case "problem":
		text = renewal.LastProblem
	case "reason":
		text = r.Reason
	case "explanation":
		text = r.ExplanationURL
	case "log":
		for _, l := range renewal.Log {
			text += l.What + ": " + l.Detail + "\n"
		}
	default:
		return fmt.Errorf("expect status: %w %q", errUnknown, o.name)
	}
	if o.op != "~" || !strings.Contains(text, o.value) {
		return fmt.Errorf("got %s %q, want %s%s%q", o.name, text, o.name, o.op, o.value)
	}
	return nil
}

// expectCA: "expect ca NAME [quiet] [certificates=2] [accounts=1] [orders=1]
// [wrong=0] [revoked=0] [validations=3] [failed=0] [newOrder<=5]": what it
// has seen since it exists; quiet: since the last look it was asked for nothing
// but renewal information.
func (s *stage) expectCA(c *command) error {
	a := s.cas[c.need("a CA")]
	if a == nil {
		return errors.New("there is no such ca")
	}
	if len(c.words)+len(c.options) == 0 {
		c.need("what to count, or quiet")
	}
	requests := a.requests()
	if c.has("quiet") && requests != a.asked {
		return fmt.Errorf("ca %s was asked %d times since the last look", a.name, requests-a.asked)
	}
	for _, o := range c.options {
		got, err := a.count(o.name)
		if err != nil {
			return err
		}
		if err := o.holds(got); err != nil {
			return err
		}
	}
	c.options = nil
	a.asked = requests
	return nil
}

// count is how many of something a CA has seen; what has no other meaning is
// a kind of requests.
func (a *authority) count(what string) (int, error) {
	count := counts[what]
	switch {
	case count != nil:
		return count(a), nil
	case slices.Contains(requestKinds, what):
		return a.Requests()[what], nil
	}
	return 0, fmt.Errorf("expect ca: %w %q", errUnknown, what)
}

// counts are what a CA has seen, beside its requests.
var counts = map[string]func(a *authority) int{
	"accounts": func(a *authority) int { return len(a.Accounts()) },
	"orders":   func(a *authority) int { return len(a.Orders()) },
	"finalized": func(a *authority) int {
		return countIf(a.Orders(), func(o acmetest.Order) bool { return !o.Finalized.IsZero() })
	},
	"replacing": func(a *authority) int {
		return countIf(a.Orders(), func(o acmetest.Order) bool { return o.Replaces != "" })
	},
	"certificates": func(a *authority) int {
		return countIf(a.Certificates(), func(c acmetest.Certificate) bool { return c.Wrong == acmetest.NotWrong })
	},
	"wrong": func(a *authority) int {
		return countIf(a.Certificates(), func(c acmetest.Certificate) bool { return c.Wrong != acmetest.NotWrong })
	},
	"revoked": func(a *authority) int {
		return countIf(a.Certificates(), func(c acmetest.Certificate) bool { return !c.Revoked.IsZero() })
	},
	"validations": func(a *authority) int { return len(a.Validations()) },
	"failed": func(a *authority) int {
		return countIf(a.Validations(), func(v acmetest.Validation) bool { return v.Problem != "" })
	},
	"http-01":     func(a *authority) int { return a.validatedBy("http-01") },
	"tls-alpn-01": func(a *authority) int { return a.validatedBy("tls-alpn-01") },
	"dns-01":      func(a *authority) int { return a.validatedBy("dns-01") },
	"refused":     func(a *authority) int { return len(a.Refused()) },
}

// validatedBy is how many validations of a type have succeeded.
func (a *authority) validatedBy(typ string) int {
	return countIf(a.Validations(), func(v acmetest.Validation) bool { return v.Problem == "" && v.Type == typ })
}

func countIf[T any](all []T, is func(T) bool) int {
	n := 0
	for _, one := range all {
		if is(one) {
			n++
		}
	}
	return n
}

// expectStore: "expect store archive=1 staging=0" counts the keys below
// archive/ and staging/; "dns=0" the TXT records.
func (s *stage) expectStore(c *command) error {
	if len(c.options) == 0 {
		c.need("what to count")
	}
	for _, o := range c.options {
		count := s.zone.count()
		if o.name != "dns" {
			count = len(s.world.keys(o.name + "/"))
		}
		if !slices.Contains(storePrefixes, o.name) {
			return fmt.Errorf("expect store: %w %q", errUnknown, o.name)
		}
		if err := o.holds(count); err != nil {
			return err
		}
	}
	c.options = nil
	return nil
}

var storePrefixes = []string{
	"accounts", "archive", "challenges", "dns", "domains", "jobs", "leases", "limits", "staging",
}

// expectLog: "expect log TEXT" is something that nodes have logged.
func (s *stage) expectLog(c *command) error {
	if text := c.need("a text"); !s.logged(text) {
		return fmt.Errorf("the log does not say %q", text)
	}
	return nil
}
