package acmetest

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// faultProblem is the answer that takes a request's place.
func (ca *CA) faultProblem(rq *request, fault Fault) *problem {
	var p *problem
	switch fault {
	case FaultBadNonce:
		if rq.jws == nil || rq.jws.header.Nonce == nil {
			return nil
		}
		_ = ca.useNonce(*rq.jws.header.Nonce) // whatever it says, the nonce is used up
		return refuse(badNonce, "the nonce is refused")
	case Fault500:
		p = refuse(serverInternal, "the CA failed")
	case Fault503:
		p = refuse(serverInternal, "the CA is busy").with(http.StatusServiceUnavailable)
	case Fault429:
		p = refuse(rateLimited, "too many requests")
	default:
		return nil
	}
	form := ca.RetryForm
	wait := ca.RetryAfter
	if ca.chance(ca.Faults.RetryAfter, "retry form", rq.op) {
		form = RetryForm(ca.rand("which retry form", rq.op).IntN(int(retryForms)))
		wait = max(wait, time.Second)
	}
	p.header = http.Header{}
	writeRetryAfter(p.header, form, wait)
	return p
}

// setRetryAfter tells when to look again. The state is locked.
func (ca *CA) setRetryAfter(s *state, r *reply, op Op) {
	form, wait := ca.RetryForm, ca.RetryAfter
	if ca.chance(ca.Faults.RetryAfter, "retry form", op) && s.allow(op.Object, "retry after "+op.Kind) {
		form = RetryForm(ca.rand("which retry form", op).IntN(int(retryForms)))
		wait = max(wait, time.Second)
	}
	writeRetryAfter(r.header, form, wait)
}

// writeRetryAfter writes the header in one of its forms. No wait and no odd
// form is no header.
func writeRetryAfter(h http.Header, form RetryForm, wait time.Duration) {
	const name = "Retry-After"
	now := time.Now().UTC()
	switch form {
	case RetrySeconds:
		if wait > 0 {
			h.Set(name, strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		}
	case RetryDate:
		if wait > 0 {
			h.Set(name, now.Add(wait+time.Second-1).Format(http.TimeFormat))
		}
	case RetryPast:
		h.Set(name, now.Add(-time.Hour).Format(http.TimeFormat))
	case RetryFar:
		h.Set(name, now.Add(century).Format(http.TimeFormat))
	case RetryOverflow:
		h.Set(name, strings.Repeat("9", 30))
	case RetryGarbage:
		h.Set(name, "soon; or later")
	}
}

// mangle spoils a reply on its way.
func (ca *CA) mangle(rq *request, rep *reply, fault Fault) {
	switch fault {
	case FaultHuge:
		rep.padding = hugePadding
	case FaultGarbage:
		forms := [][]byte{
			[]byte("<html><body><h1>Bad Gateway</h1></body></html>"),
			nil,
			[]byte("null"),
			[]byte("[1,2,{\"status\":"),
			bytes.Repeat([]byte("{\"a\":["), 20_000),
			{0xff, 0xfe, 0x00, 0x01, 0x1b, '[', '2', 'J'},
			rep.body[:len(rep.body)/2],
		}
		rep.body = forms[ca.rand("garbage", rq.op).IntN(len(forms))]
	}
}

// oddProblem may make the text of a problem hard to print.
func (ca *CA) oddProblem(rq *request) *problem {
	p := *rq.problem
	if ca.chance(ca.Faults.OddProblems, "odd problem", rq.op) {
		p.detail += "\x1b[2J\r\n\x00 \u202egnorw\u2066 \u2028" + strings.Repeat("and so on ", 10_000)
	}
	return &p
}

// reusableOrder draws whether an order for the same is handed out again. The
// state is locked.
func (ca *CA) reusableOrder(s *state, o *order, now time.Time) *order {
	same := s.openOrders[o.key()]
	if same == nil {
		return nil
	}
	if state := same.state(now); state != pending && state != ready {
		return nil
	}
	op := Op{Kind: kindNewOrder, Object: o.object(), Nth: s.count("order wanted", o.object())}
	if !ca.chance(ca.Faults.ReuseOrder, "reuse order", op) {
		return nil
	}
	return same
}

// oddPath may make a path unusual. The state is locked.
func (ca *CA) oddPath(s *state, path, kind, object string) string {
	if ca.Faults.OddURLs == 0 {
		return path
	}
	op := Op{Kind: kind, Object: object, Nth: s.count("path", kind+" "+object)}
	if !ca.chance(ca.Faults.OddURLs, "odd URL", op) {
		return path
	}
	forms := []string{
		path + "?v=2&next=https%3A%2F%2Facme.test%2F&empty=",
		strings.Replace(path, "/acme/", "/%61cme/", 1),
		strings.Replace(path, "/acme/", "/acme/v2/~ca/a:b@c;d=e/"+strings.Repeat("deep/", 20), 1),
		path + "/%2F%20%25/",
		path + "?id=" + strings.Repeat("0123456789abcdef", 100),
	}
	return forms[ca.rand("which odd URL", op).IntN(len(forms))]
}

// drawWrong draws in what way the certificate of an order is wrong.
func (ca *CA) drawWrong(o *order) Wrong {
	f := ca.Faults
	draws := []struct {
		share float64
		wrong Wrong
	}{
		{f.WrongKey, WrongKey}, {f.WrongName, WrongName}, {f.MissingName, MissingName},
		{f.Expired, Expired}, {f.NotYetValid, NotYetValid}, {f.Foreign, Foreign},
	}
	op := Op{Kind: kindCertificate, Object: o.object(), Nth: o.nth}
	first := ca.rand("first wrong", op).IntN(len(draws))
	for i := range draws {
		d := draws[(first+i)%len(draws)]
		if !ca.chance(d.share, "certificate "+d.wrong.String(), op) {
			continue
		}
		s := ca.lock()
		allowed := s.allow(o.object(), "wrong certificate")
		ca.mu.Unlock()
		if allowed {
			return d.wrong
		}
		return NotWrong
	}
	return NotWrong
}

// addExtra may let another certificate follow the right ones.
func (ca *CA) addExtra(o *order, c *certificate) error {
	op := Op{Kind: kindCertificate, Object: o.object(), Nth: o.nth}
	if c.wrong != NotWrong || !ca.chance(ca.Faults.Extra, "extra certificate", op) {
		return nil
	}
	stray, err := ca.minter.strayIssuer()
	if err != nil {
		return err
	}
	extra := stray.cert
	if ca.chance(0.5, "expired extra certificate", op) {
		template := issuerTemplate("acmetest expired")
		template.NotBefore, template.NotAfter = c.issued.Add(-48*time.Hour), c.issued.Add(-24*time.Hour)
		if extra, err = stray.sign(template, stray.key.Public()); err != nil {
			return err
		}
	}
	for i := range c.chains {
		c.chains[i] = append(slices.Clone(c.chains[i]), extra)
	}
	return nil
}
