package e2e_test

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// authority is a CA of the stage with what is wrong with it.
type authority struct {
	*acmetest.CA
	name  string
	asked int               // requests up to the last look
	known acmeclient.Limits // what nodes are told of its limits

	mu       sync.Mutex // guards what follows
	troubles []*hitch
	refused  map[string]string // names and why
	ponders  bool              // no order comes to its end
}

// hitch is a fault that meets the next so many requests of a kind.
type hitch struct {
	kind  string // "any": all kinds
	about string // a name that the request must be about; empty: any
	fault acmetest.Fault
	left  int
	kills []*member // processes that die with it
}

// faultWords are the faults of requests as scripts call them.
var faultWords = map[string]acmetest.Fault{
	"lost":       acmetest.FaultBefore,
	"reply-lost": acmetest.FaultAfter,
	"hangs":      acmetest.FaultHang,
	"bad-nonce":  acmetest.FaultBadNonce,
	"500":        acmetest.Fault500,
	"503":        acmetest.Fault503,
	"429":        acmetest.Fault429,
	"garbage":    acmetest.FaultGarbage,
	"huge":       acmetest.FaultHuge,
	"kills":      acmetest.FaultBefore, // and the nodes that run by then
}

// requestKinds are the kinds of requests, as acmetest.Op has them.
var requestKinds = []string{
	"directory", "newNonce", "newAccount", "newOrder", "account", "orders", "order", "authz", "challenge",
	"finalize", "certificate", "revoke", "keyChange", "renewalInfo",
}

var retryForms = map[string]acmetest.RetryForm{
	"seconds": acmetest.RetrySeconds, "date": acmetest.RetryDate, "none": acmetest.RetryNone, "past": acmetest.RetryPast,
	"far": acmetest.RetryFar, "overflow": acmetest.RetryOverflow, "garbage": acmetest.RetryGarbage,
}

// fault is the CA's Fault function.
func (a *authority) fault(op acmetest.Op) acmetest.Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.troubles {
		isAbout := t.about == "" || slices.Contains(strings.Split(op.Object, ","), t.about)
		if t.left > 0 && isAbout && (t.kind == "any" || t.kind == op.Kind) {
			t.left--
			for _, m := range t.kills {
				m.link.sever()
			}
			return t.fault
		}
	}
	return acmetest.FaultNone
}

// policy is the CA's Policy function.
func (a *authority) policy(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if why, ok := a.refused[name]; ok {
		return errors.New(why)
	}
	return nil
}

// requests counts all requests so far, but those that only ask how things
// are: for the directory, a nonce, or renewal information.
func (a *authority) requests() int {
	n := 0
	for kind, count := range a.Requests() {
		if kind != "directory" && kind != "newNonce" && kind != "renewalInfo" {
			n += count
		}
	}
	return n
}

// caCommand declares a CA ("ca one lifetime=90d"), changes it in the same
// way, or lets something happen to it ("ca one down").
func (s *stage) caCommand(c *command) error {
	name := c.need("a name for the CA")
	if name == "" {
		return nil
	}
	var err error
	a := s.cas[name]
	if a == nil {
		a = s.newCA(name)
		err = a.set(c)
	} else {
		a.Change(func() { err = a.set(c) })
	}
	if err != nil || len(c.words) == 0 {
		return err
	}
	verb := c.next()
	do := caVerbs[verb]
	if do == nil {
		return fmt.Errorf("ca: %w %q", errUnknown, verb)
	}
	return do(s, a, c)
}

func (s *stage) newCA(name string) *authority {
	a := &authority{name: name, refused: make(map[string]string)}
	a.CA = &acmetest.CA{BaseURL: "https://" + name + ".test", Dial: s.dial, LookupTXT: s.zone.lookup}
	a.CA.Fault, a.CA.Policy, a.CA.Leaf = a.fault, a.policy, s.shiftDates
	a.CA.Limits = acmetest.Limits{ // Let's Encrypt's
		Orders:       acmetest.Rate{Count: 300, Per: 3 * time.Hour},
		Failures:     acmetest.Rate{Count: 5, Per: time.Hour},
		Certificates: acmetest.Rate{Count: 5, Per: 7 * day},
	}
	s.cas[name], s.caNames = a, append(s.caNames, name)
	return a
}

// configured is the CA as it stands in a node's configuration.
func (a *authority) configured() md.CA { return md.CA{URL: a.DirectoryURL(), Limits: a.known} }

// set obeys the options of a CA, which may be given at any time: nobody
// talks to it while a command is obeyed.
func (a *authority) set(c *command) error {
	var errs []error
	for _, o := range slices.Clone(c.options) {
		var err error
		switch o.name {
		case "lifetime":
			a.Lifetime, err = c.span("lifetime")
		case "terms":
			a.TermsOfService = c.option("terms")
		case "challenges":
			a.Challenges = strings.Split(c.option("challenges"), ",")
		case "reuse-authz":
			a.AuthzReuse, err = strconv.ParseFloat(c.option("reuse-authz"), 64)
		case "pause-after":
			a.PauseAfter, err = strconv.Atoi(c.option("pause-after"))
		}
		errs = append(errs, err)
	}
	if c.has("ari") {
		a.RenewalInfo = true
	}
	if c.has("known-limits") {
		r := a.Limits.Certificates
		a.known.Certificates = acmeclient.Rate{Count: r.Count, Per: r.Per}
	}
	return errors.Join(errs...)
}

var caVerbs = map[string]func(s *stage, a *authority, c *command) error{
	"down":   func(_ *stage, a *authority, _ *command) error { a.SetDown(true); return nil },
	"up":     func(_ *stage, a *authority, _ *command) error { a.SetDown(false); return nil },
	"fault":  func(s *stage, a *authority, c *command) error { return s.addTrouble(a, c) },
	"unfair": func(_ *stage, a *authority, c *command) error { return a.unfair(c) },
	"fair": func(_ *stage, a *authority, _ *command) error {
		a.Change(func() { a.Faults, a.RetryAfter, a.RetryForm = acmetest.Faults{}, 0, acmetest.RetrySeconds })
		a.mu.Lock()
		defer a.mu.Unlock()
		a.troubles, a.ponders = nil, false
		return nil
	},
	"ponders": func(_ *stage, a *authority, _ *command) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ponders = true
		return nil
	},
	"refuses": func(_ *stage, a *authority, c *command) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.refused[c.need("a name")] = c.need("a reason")
		return nil
	},
	"accepts": func(_ *stage, a *authority, c *command) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.refused, c.need("a name"))
		return nil
	},
	"forgets-accounts": func(s *stage, a *authority, _ *command) error {
		a.ForgetAccounts()
		return nil
	},
	"changes-terms": func(_ *stage, a *authority, c *command) error { a.ChangeTerms(c.need("a URL")); return nil },
	"revokes": func(s *stage, a *authority, c *command) error {
		leaf := a.newest(c.need("a name"))
		if leaf == nil {
			return errors.New("the CA has issued no such certificate")
		}
		s.guard.excuse()
		return a.Revoke(leaf.Leaf, 1)
	},
	"unpauses":     func(_ *stage, a *authority, c *command) error { a.Unpause("", c.need("a name")); return nil },
	"renewal-info": func(s *stage, a *authority, c *command) error { return s.setRenewalInfo(a, c) },
}

// addTrouble: "ca one fault KIND FAULT [times=N] [about=NAME] [retry=5h] [form=date]".
func (s *stage) addTrouble(a *authority, c *command) error {
	t := &hitch{kind: c.need("a kind of requests"), about: c.option("about")}
	word := c.need("a fault")
	fault, ok := faultWords[word]
	if !ok || !slices.Contains(requestKinds, t.kind) && t.kind != "any" {
		return fmt.Errorf("ca: %w %q or %q", errUnknown, t.kind, word)
	}
	t.fault = fault
	if word == "kills" {
		t.kills = s.running()
		s.guard.killed()
	}
	var err error
	if t.left, err = c.times(); err != nil {
		return err
	}
	retry, err := c.span("retry")
	form := acmetest.RetrySeconds
	if word := c.option("form"); word != "" {
		if form, ok = retryForms[word]; !ok {
			return fmt.Errorf("ca: %w %q", errUnknown, word)
		}
	}
	a.Change(func() { a.RetryAfter, a.RetryForm = cmp.Or(retry, a.RetryAfter), form })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.troubles = append(a.troubles, t)
	return err
}

// unfair: "ca one unfair WORD…" lets what acmetest.Faults bounds happen each
// time that it may.
func (a *authority) unfair(c *command) error {
	faults := a.Faults
	shares := sharesOf(&faults)
	for word := c.need("what is unfair"); word != ""; word = c.next() {
		share := shares[word]
		if share == nil {
			return fmt.Errorf("ca unfair: %w %q", errUnknown, word)
		}
		*share = 1
	}
	a.Change(func() { a.Faults = faults })
	return nil
}

// sharesOf are what is unfair about a CA, as scripts call it.
func sharesOf(f *acmetest.Faults) map[string]*float64 {
	return map[string]*float64{
		"slow-validation": &f.SlowValidation, "slow-finalize": &f.SlowFinalize, "late-finalize": &f.LateFinalize,
		"instant-finalize": &f.InstantFinalize, "reuse-order": &f.ReuseOrder, "no-location": &f.NoLocation,
		"odd-challenges": &f.OddChallenges, "odd-urls": &f.OddURLs, "odd-problems": &f.OddProblems,
		"wrong-key": &f.WrongKey, "wrong-name": &f.WrongName, "missing-name": &f.MissingName,
		"expired": &f.Expired, "not-yet-valid": &f.NotYetValid, "foreign": &f.Foreign, "extra": &f.Extra,
	}
}

// newest is the last right certificate for a name, nil if there is none.
func (a *authority) newest(name string) *acmetest.Certificate {
	all := a.Certificates()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Wrong == acmetest.NotWrong && slices.Contains(all[i].Names, name) {
			return &all[i]
		}
	}
	return nil
}

// transport is the way to the CA. While it ponders, its orders are shown as
// processing although they are valid.
func (a *authority) transport() http.RoundTripper {
	next := a.Client().Transport
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		a.mu.Lock()
		ponders := a.ponders
		a.mu.Unlock()
		if err != nil || !ponders {
			return resp, err
		}
		return resp, hideEnd(resp)
	})
}

// hideEnd makes the answer about a valid order one about an order that the CA
// has not come to its end with (RFC 8555 §7.1.6).
func hideEnd(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var order map[string]any
	if json.Unmarshal(body, &order) == nil && order["status"] == "valid" && order["finalize"] != nil {
		order["status"] = "processing"
		delete(order, "certificate")
		if body, err = json.Marshal(order); err != nil {
			return err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// caClient reaches all CAs of the stage by their hosts.
func (s *stage) caClient() *http.Client {
	transports := make(map[string]http.RoundTripper)
	for name, a := range s.cas {
		transports[name+".test"] = a.transport()
	}
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		next := transports[r.URL.Host]
		if next == nil {
			return nil, fmt.Errorf("there is no host %q", r.URL.Host)
		}
		return next.RoundTrip(r)
	})}
}

// setRenewalInfo: "ca one renewal-info NAME|all window=-2d..-1d
// [explanation=URL] [retry=6h]" is what the CA says from then on about the
// newest certificate for a name, or about all of them.
func (s *stage) setRenewalInfo(a *authority, c *command) error {
	from, to, _ := strings.Cut(c.option("window"), "..")
	start, err1 := parseSpan(from)
	end, err2 := parseSpan(to)
	retry, err3 := c.span("retry")
	info := acmetest.RenewalInfo{
		Start: s.wall().Add(start), End: s.wall().Add(end), ExplanationURL: c.option("explanation"), RetryAfter: retry,
	}
	name := c.need("a name, or all")
	if name != "all" {
		cert := a.newest(name)
		if cert == nil {
			return errors.New("the CA has issued no such certificate")
		}
		a.SetRenewalInfo(cert.Leaf, info)
	} else {
		for _, cert := range a.Certificates() {
			a.SetRenewalInfo(cert.Leaf, info)
		}
	}
	return errors.Join(err1, err2, err3)
}

// shiftDates lets certificates begin by the wall clock.
func (s *stage) shiftDates(template *x509.Certificate) {
	skew := time.Duration(s.skew.Load())
	template.NotBefore, template.NotAfter = template.NotBefore.Add(skew), template.NotAfter.Add(skew)
}
