package e2e_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
)

// checker holds what is seen against what must hold.
type checker struct {
	s       *sim
	leaves  map[*tls.Certificate]*x509.Certificate // that were served, with the sim's mu
	refused map[*simCA]int
	known   []int               // certificates looked at, by CA
	pull    map[string]bool     // serial numbers that the CA wants to be replaced
	last    map[string]issuedBy // right ones, by names and key type
	expiry  time.Time           // the next one of what is served
	missing []issuedBy          // right ones that were neither stored  yet
}

func newChecker(s *sim) *checker {
	return &checker{
		s: s, leaves: make(map[*tls.Certificate]*x509.Certificate),
		pull: make(map[string]bool), refused: make(map[*simCA]int), last: make(map[string]issuedBy),
	}
}

func serial(leaf *x509.Certificate) string { return fmt.Sprintf("%X", leaf.SerialNumber) }

func (c *checker) pulled(cert acmetest.Certificate) { c.pull[serial(cert.Leaf)] = true }

// look checks all that can be checked at any moment.
func (c *checker) look() {
	c.expiry = time.Time{}
	for _, n := range c.s.alive() {
		c.s.mu.Lock()
		domains := n.domains
		c.s.mu.Unlock()
		for _, d := range domains {
			for _, name := range d.Names {
				c.greet(n, d, name, "")
				if slices.Contains(d.KeyTypes, md.P384) {
					c.greet(n, d, name, md.P384)
				}
			}
		}
	}
	c.atCAs()
	c.lost()
}

// hello is that of a client which wants a name, with a key type if not "".
func hello(name string, t md.KeyType) *tls.ClientHelloInfo {
	schemes := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384}
	if t == md.P384 {
		schemes = schemes[1:]
	}
	return &tls.ClientHelloInfo{
		ServerName: name, SignatureSchemes: schemes, SupportedVersions: []uint16{tls.VersionTLS13},
		SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		CipherSuites:    []uint16{tls.TLS_AES_128_GCM_SHA256},
	}
}

// greet checks what a node serves for a name.
func (c *checker) greet(n *simNode, d md.Domain, name string, t md.KeyType) {
	cert, err := n.m.GetCertificate(hello(name, t))
	if n.line.cut.Load() {
		return
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	since, ok := c.s.since[name+" "+string(t)+" "+d.Name]
	if !ok {
		return // the node does not know of a change yet
	}
	if err != nil {
		c.s.violate("%v serves nothing for %s: %v", n, name, err)
		return
	}
	leaf := c.leaf(cert)
	now := time.Now()
	if now.Before(leaf.NotAfter) && (c.expiry.IsZero() || leaf.NotAfter.Before(c.expiry)) {
		c.expiry = leaf.NotAfter
	}
	since = latest(since, n.born)
	// A name that was added is served with what its Domain has, whatever that
	// covers, until there is better.
	if leaf.VerifyHostname(name) != nil || !strings.HasPrefix(leaf.Issuer.CommonName, "acmetest") {
		late := d.ActivationDelay + 4*day
		if calm, why := c.willing(n, d, since, now, "after a veto"); calm > late {
			c.s.violate("%v has no certificate for %s of %s since %v, although for %v %s would have given one",
				n, name, d.Name, since, calm, why)
		}
		return
	}
	if now.Before(leaf.NotAfter) {
		return
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	third := leaf.NotAfter.Add(-life / 3)
	enough := min(life/3, pieceEnough)
	if ca := c.s.caAt(strings.TrimPrefix(d.CAs[0].URL, "https://")); len(d.CAs) == 1 && ca.Faults.RetryAfter > 0 {
		enough += 2 * patience // acmetest asks for that much up to twice
	}
	if calm, why := c.willing(n, d, latest(since, third), now); calm >= enough {
		c.s.violate("%v serves %s for %s of %s, which expired at %v, although for %v %s would have given another",
			n, serial(leaf), name, d.Name, leaf.NotAfter, calm, why)
	}
}

// pieceEnough is a time without trouble in which a renewal comes to its end,
// whatever was before: no back-off and no refill of a limit lasts longer than a
// week. Nearly no certificate has a third of its life without any trouble.
const pieceEnough = 8 * day

// patience is the longest wait that a client gives a CA for one answer.
const patience = 2 * day

// willing is how long, in one piece, nothing that a node needs for a Domain
// was in trouble, and which CA would have issued then. s.mu is held.
func (c *checker) willing(n *simNode, d md.Domain, from, to time.Time, more ...string) (time.Duration, string) {
	keys := append(more, fmt.Sprint("node ", n.id), "store", "notifier", "clock", "former clock")
	for _, name := range d.Names {
		keys = append(keys, "name "+name)
	}
	var longest time.Duration
	var which string
	for _, offer := range d.CAs {
		ca := c.s.caAt(strings.TrimPrefix(offer.URL, "https://"))
		all := append(slices.Clone(keys), ca.name)
		for _, name := range d.Names {
			all = append(all, ca.name+" "+name)
		}
		if calm := c.s.troubles.longestCalm(from, to, all...); calm > longest {
			longest, which = calm, ca.name
		}
	}
	return longest, which
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (c *checker) leaf(cert *tls.Certificate) *x509.Certificate {
	leaf := c.leaves[cert]
	if leaf == nil {
		leaf, _ = x509.ParseCertificate(cert.Certificate[0])
		c.leaves[cert] = leaf
	}
	return leaf
}

// atCAs checks what the CAs have seen.
func (c *checker) atCAs() {
	c.known = append(c.known, make([]int, len(c.s.cas)-len(c.known))...)
	for i, ca := range c.s.cas {
		if refused := ca.Refused(); len(refused) > c.refused[ca] {
			for _, r := range refused[c.refused[ca]:] {
				c.overBudget(ca, r)
			}
			c.refused[ca] = len(refused)
		}
		c.s.mu.Lock()
		allowed := 1 + ca.vanished
		c.s.mu.Unlock()
		if accounts := ca.Accounts(); len(accounts) > allowed {
			c.s.violate("%s has %d accounts, want %d at most", ca.name, len(accounts), allowed)
		}
		if int(ca.issued.Load()) == c.known[i] {
			continue
		}
		certs := ca.Certificates()
		for _, cert := range certs[c.known[i]:] {
			c.issued(ca, cert)
		}
		c.known[i] = len(certs)
	}
}

// overBudget checks an order that was refused because of a CA's limits.
func (c *checker) overBudget(ca *simCA, r acmetest.Refusal) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.troubles.calm(r.At.Add(-8*day), r.At, "clock") {
		c.s.violate("%s has refused an order: %v", ca.name, r)
	}
}

// issued checks a certificate that a CA has issued.
func (c *checker) issued(ca *simCA, cert acmetest.Certificate) {
	c.s.trace("%s issued %s (%v) for %v from %v until %v", ca.name, serial(cert.Leaf), cert.Wrong, cert.Names, cert.Leaf.NotBefore, cert.Leaf.NotAfter)
	if cert.Wrong != acmetest.NotWrong {
		return
	}
	if ca.RenewalInfo && !c.pull[serial(cert.Leaf)] { // the longest pause between two questions
		life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
		middle := cert.Leaf.NotBefore.Add(life * 2 / 3)
		ca.SetRenewalInfo(cert.Leaf, acmetest.RenewalInfo{Start: middle.Add(-life / 100), End: middle.Add(life / 100), RetryAfter: day})
	}
	c.missing = append(c.missing, issuedBy{ca, cert})
	key := kindOf(cert)
	if last, ok := c.last[key]; ok {
		c.twice(last, issuedBy{ca, cert})
	}
	c.last[key] = issuedBy{ca, cert}
}

// issuedBy is a certificate and the CA it is from.
type issuedBy struct {
	ca   *simCA
	cert acmetest.Certificate
}

// twice checks two right certificates, one after the other, for the same names
// and key type: the second needs a reason.
func (c *checker) twice(first, second issuedBy) {
	leaf := first.cert.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	age := second.cert.Issued.Sub(leaf.NotBefore)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch {
	case age >= life*45/100:
	case c.pull[serial(leaf)]: // the CA wanted it
	case first.ca != second.ca && !c.s.witness.stoodBefore(first.cert, second.cert.Issued): // failover, with what the first CA has not delivered
	case c.forgivable(first, second.cert.Issued):
	default:
		c.s.violate("%s issued %s at %v and again %s at %v for %v", first.ca.name, serial(leaf), first.cert.Issued,
			serial(second.cert.Leaf), second.cert.Issued, second.cert.Names)
	}
}

// forgivable reports whether there was a reason not to fetch a certificate
// that a CA had issued: all that is told apart until the next one. s.mu is
// held.
func (c *checker) forgivable(of issuedBy, until time.Time) bool {
	from := of.cert.Issued.Add(-time.Hour) // when it was ordered, say
	return !c.s.troubles.calm(from, until, "clock", "former clock", "Domains", of.ca.name+" accounts")
}

// lost checks that every right certificate that a CA has issued is stored. Of
// one that its Domain has turned away from for another CA, key and order are
// kept in the archive. What a CA lets us wait for may still be under way, until
// there is another one; and what expires before it can be fetched is of no use.
func (c *checker) lost() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.missing = slices.DeleteFunc(c.missing, func(of issuedBy) bool {
		if c.s.witness.saw(of.cert) {
			return true
		}
		until, end := time.Now(), of.cert.Leaf.NotAfter
		calm := func(to time.Time) time.Duration {
			return c.s.troubles.longestCalm(of.cert.Issued, to, of.ca.name, "store", "notifier", "nodes")
		}
		if last := c.last[kindOf(of.cert)]; last.cert.Issued.After(of.cert.Issued) {
			until = last.cert.Issued
		} else if calm(until) < 8*day {
			return false
		}
		inVain := until.After(end) && calm(end) < 2*day
		if !inVain && !c.forgivable(of, until) {
			c.s.violate("%s issued %s at %v for %v, which was never stored",
				of.ca.name, serial(of.cert.Leaf), of.cert.Issued, of.cert.Names)
		}
		return true
	})
}

// kindOf is what a certificate is for, and of which key type.
func kindOf(cert acmetest.Certificate) string {
	return fmt.Sprint(cert.Names, cert.Leaf.PublicKey.(*ecdsa.PublicKey).Curve.Params().Name)
}

// end checks what must hold when all has been calm for some days.
func (c *checker) end() {
	c.atCAs()
	c.lost()
	ctx := context.Background()
	declared := make(map[string]bool)
	for _, d := range c.s.config() {
		declared[d.Name] = true
	}
	records := &record.Records{Store: c.s.witness.Memory}
	remembered := make(map[string]bool) // answers, in the jobs of Domains that are gone
	for _, key := range c.keys(ctx, "jobs/") {
		name := strings.TrimPrefix(key, "jobs/")
		job, _, err := records.Job(ctx, name)
		switch {
		case err != nil || len(job.SetUps) == 0:
		case declared[name]:
			c.s.violate("the job of %s still has set-ups: %+v", name, job.SetUps)
		default:
			for _, s := range job.SetUps {
				remembered["challenges/"+s.Type+"/"+cmp.Or(s.Token, s.Name)] = true
			}
		}
	}
	for _, key := range c.keys(ctx, "challenges/") {
		if !remembered[key] {
			c.s.violate("a challenge's answer is left behind: %s", key)
		}
	}
}

// keys lists what stands in the Store.
func (c *checker) keys(ctx context.Context, prefix string) []string {
	var keys []string
	for item, err := range c.s.witness.Memory.List(ctx, prefix) {
		if err != nil {
			c.s.t.Fatal(err)
		}
		keys = append(keys, item.Key)
	}
	return keys
}
