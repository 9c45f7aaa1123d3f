package acmetest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
)

// maxRequest bounds the body of a request, in bytes. A CSR for a hundred
// names has some ten thousand.
const maxRequest = 128 << 10

// hugePadding is how much white space follows a huge body, in bytes.
const hugePadding = 64 << 20

// lost is what a client in process sees of a request or reply that got lost.
func lost() error { return &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET} }

// request is one request on its way through the CA.
type request struct {
	*http.Request
	op      Op
	to      *resource
	jws     *jws
	account *account // whose key signed, if named by kid
	problem *problem // what the CA answered
}

// ServeHTTP answers a request. Where an answer shall get lost it panics with
// http.ErrAbortHandler, upon which net/http closes the connection.
func (ca *CA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rep, err := ca.answer(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for k, v := range rep.header {
		w.Header()[k] = v
	}
	w.WriteHeader(rep.status)
	if r.Method != http.MethodHead {
		// An error here is the client's choice not to read on.
		_, _ = io.Copy(w, rep.reader())
	}
}

// Client returns an HTTP client that reaches the CA by function call: without
// any network, and without goroutines of its own. It reaches nothing else.
func (ca *CA) Client() *http.Client { return &http.Client{Transport: inProcess{ca}} }

// inProcess is the http.RoundTripper that calls the CA.
type inProcess struct{ ca *CA }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	s := t.ca.lock()
	base := s.base
	t.ca.mu.Unlock()
	if base != r.URL.Scheme+"://"+r.URL.Host {
		return nil, errors.New("acmetest: this client reaches only the CA, not " + strconv.Quote(r.URL.Host))
	}
	rep, err := t.ca.answer(r)
	if err != nil {
		if cause := r.Context().Err(); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	res := &http.Response{
		Status: statusText(rep.status), StatusCode: rep.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rep.header, Request: r, ContentLength: -1,
		Body: io.NopCloser(rep.reader()),
	}
	if rep.padding == 0 {
		res.ContentLength = int64(len(rep.body))
	}
	if r.Method == http.MethodHead {
		res.Body = http.NoBody
	}
	return res, nil
}

// answer does what a request asks for. An error means that the client gets no
// answer.
func (ca *CA) answer(r *http.Request) (*reply, error) {
	if !ca.enter() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	defer ca.tasks.Done()

	rq := &request{Request: r}
	readProblem := rq.read()
	ca.begin(rq)
	fault := ca.decide(rq.op)
	if fault == FaultHang {
		ca.hang(r)
	}
	if fault == FaultBefore || fault == FaultHang {
		ca.end(rq, fault, nil)
		return nil, lost()
	}
	var rep *reply
	if rq.problem = ca.faultProblem(rq, fault); rq.problem == nil {
		rq.problem = readProblem
	}
	if rq.problem == nil {
		rep, rq.problem = ca.handle(rq)
	}
	if rq.problem != nil {
		rep = ca.oddProblem(rq).reply()
	}
	ca.finish(rq, rep)
	ca.mangle(rq, rep, fault)
	if fault == FaultAfter {
		ca.end(rq, fault, nil)
		return nil, lost()
	}
	if fault == FaultNone && rq.op.Kind == kindCertificate && rep.status == http.StatusOK {
		ca.delivered(rq.to.cert)
	}
	ca.end(rq, fault, rep)
	return rep, nil
}

// hang waits until the client or the test gives up.
func (ca *CA) hang(r *http.Request) {
	s := ca.lock()
	ctx := s.ctx
	ca.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-ctx.Done():
	}
}

// finish adds what every answer has: a nonce, and the way to the directory
// (RFC 8555 §6.5, §7.1).
func (ca *CA) finish(rq *request, rep *reply) {
	s := ca.lock()
	defer ca.mu.Unlock()
	rep.header.Set("Replay-Nonce", ca.freshNonce(s))
	rep.header.Set("Cache-Control", "no-store")
	if rq.op.Kind != kindDirectory {
		rep.header.Add("Link", "<"+s.base+directoryPath+`>;rel="index"`)
	}
}

// read reads the body, bounded, and takes the JWS in it apart.
func (rq *request) read() *problem {
	if rq.Method != http.MethodPost || rq.Body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(rq.Body, maxRequest+1))
	switch {
	case err != nil:
		return refuse(malformed, "the body cannot be read")
	case len(body) > maxRequest:
		return refuse(malformed, "the body has more than %d bytes", maxRequest).with(http.StatusRequestEntityTooLarge)
	case rq.Header.Get("Content-Type") != "application/jose+json":
		// RFC 8555 §6.2.
		return refuse(malformed, "the content type is not application/jose+json").with(http.StatusUnsupportedMediaType)
	}
	var p *problem
	rq.jws, p = parseJWS(body)
	return p
}

// handle finds who does what the request asks for.
func (ca *CA) handle(rq *request) (*reply, *problem) {
	step, ok := steps[rq.op.Kind]
	if !ok {
		return nil, refuse(malformed, "there is nothing at this URL").with(http.StatusNotFound)
	}
	if step.signed == unsigned {
		if rq.Method != http.MethodGet && rq.Method != http.MethodHead {
			return nil, notAllowed("GET, HEAD", rq.Method)
		}
		return step.do(ca, rq)
	}
	// RFC 8555 §6.3: all else is POST, or POST-as-GET.
	if rq.Method != http.MethodPost {
		return nil, notAllowed("POST", rq.Method)
	}
	if rq.jws == nil {
		return nil, refuse(malformed, "the request has no body")
	}
	if p := ca.verify(rq, step.signed); p != nil {
		return nil, p
	}
	return step.do(ca, rq)
}

func notAllowed(allow, method string) *problem {
	p := refuse(malformed, "method %q is not allowed here", method).with(http.StatusMethodNotAllowed)
	p.header = http.Header{"Allow": {allow}}
	return p
}

// signer says how requests name the key that signed them (RFC 8555 §6.2).
type signer int

const (
	unsigned signer = iota
	byAccount
	byKey
	byEither
)

// steps are the operations, by kind.
var steps = map[string]struct {
	signed signer
	do     func(*CA, *request) (*reply, *problem)
}{
	kindDirectory:   {unsigned, (*CA).serveDirectory},
	kindNewNonce:    {unsigned, (*CA).newNonce},
	kindRenewalInfo: {unsigned, (*CA).serveRenewalInfo},
	kindNewAccount:  {byKey, (*CA).newAccount},
	kindAccount:     {byAccount, (*CA).serveAccount},
	kindOrders:      {byAccount, (*CA).serveOrders},
	kindKeyChange:   {byAccount, (*CA).keyChange},
	kindNewOrder:    {byAccount, (*CA).newOrder},
	kindOrder:       {byAccount, (*CA).serveOrder},
	kindAuthz:       {byAccount, (*CA).serveAuthz},
	kindChallenge:   {byAccount, (*CA).serveChallenge},
	kindFinalize:    {byAccount, (*CA).finalize},
	kindCertificate: {byAccount, (*CA).serveCertificate},
	kindRevoke:      {byEither, (*CA).revoke},
}

// reader reads the body and its padding.
func (r *reply) reader() io.Reader {
	if r.padding == 0 {
		return bytes.NewReader(r.body)
	}
	return io.MultiReader(bytes.NewReader(r.body), io.LimitReader(spaces{}, int64(r.padding)))
}

// spaces is an endless reader of white space.
type spaces struct{}

var blank = strings.Repeat(" ", 4096)

func (spaces) Read(p []byte) (int, error) { return copy(p, blank), nil }
