package acmeclient

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody      = 1 << 20         // bytes of a request or reply; an order for 100 names has some 40 KiB
	requestLimit = 3 * time.Minute // from connecting to the last byte; some CAs issue within the finalize request and take a minute
)

// transport is what stands between x/crypto/acme and the CA. It sees to it that only https is spoken, that nothing is unbounded,
// that redirects are not followed, and that directory and nonces are shared by all sessions.
type transport struct {
	base          http.RoundTripper
	directoryURL  string
	plainLoopback bool
	limit         time.Duration // of one request
	userAgent     string
	log           *slog.Logger

	nonces nonces
	dir    directoryCache
}

// call is about one operation: it travels in the context that x/crypto hands through to the transport, and brings back what it saw.
// It is used by one goroutine.
type call struct {
	url string // for messages

	// If fields is not nil, they are added to the one POST, which must be to fieldsURL, and is signed again with key.
	fields    map[string]any
	fieldsURL string
	key       crypto.Signer

	reply    *reply // to the last request; nil if there was none
	posted   bool   // the last request was the POST, not one for what it needs first: the directory, a nonce
	badNonce bool   // the last reply refused the nonce
	nonce    string // the one that came with the refusal, for the repetition
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// errTaken is what x/crypto gets in place of a good reply to a POST. The reply is in the call.
var errTaken = errors.New("the reply is taken")

// RoundTrip serves x/crypto/acme, which makes three kinds of requests: GET for the directory, HEAD for a nonce, and POST.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := requestBody(req)
	if err != nil {
		return nil, err
	}
	c := callOf(req.Context())
	if c == nil {
		c = &call{}
	}
	c.reply, c.posted = nil, req.Method == http.MethodPost
	switch req.Method {
	case http.MethodGet:
		doc, err := t.directory(req.Context())
		if err != nil {
			return nil, err
		}
		return doc.reply().response(req), nil
	case http.MethodHead:
		return t.newNonce(req, c)
	}
	return t.post(req, c, body)
}

// requestBody reads and closes the body. x/crypto's are in memory.
func requestBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	defer req.Body.Close()
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("the request is larger than %d bytes", maxBody)
	}
	return body, err
}

// newNonce answers from the nonces that came with former replies, and asks the CA only if there are none (RFC 8555 §7.2).
func (t *transport) newNonce(req *http.Request, c *call) (*http.Response, error) {
	nonce := c.nonce
	c.nonce = ""
	if nonce == "" {
		nonce = t.nonces.take(time.Now())
	}
	if nonce != "" {
		r := &reply{status: http.StatusOK, header: http.Header{"Replay-Nonce": {nonce}}}
		return r.response(req), nil
	}
	r, err := t.askNonce(req)
	if err != nil {
		return nil, err
	}
	if r.nonce() == "" {
		r.header.Del("Replay-Nonce")
		if r.good() {
			return nil, errors.New("the CA answers a request for a nonce without one (Replay-Nonce, RFC 8555 §6.5.1)")
		}
		c.reply = r
	}
	return r.response(req), nil
}

// askNonce returns the CA's reply to a request for a nonce, the last if it had to be repeated.
func (t *transport) askNonce(req *http.Request) (*reply, error) {
	var r *reply
	err := t.look(req.Context(), "ask for a nonce", req.URL.String(), func() (again bool, err error) {
		r, err = t.send(req, nil)
		switch {
		case err != nil:
			return isWorthRepeating(err), err
		case r.nonce() != "":
			return false, nil
		case r.good():
			return r.retryAfter() == 0, nil
		}
		return isWorthRepeating(parseProblem(r)), nil
	})
	return r, err
}

// post sends a signed request. A good reply goes to the call, and x/crypto gets errTaken; it sees only refusals.
func (t *transport) post(req *http.Request, c *call, body []byte) (*http.Response, error) {
	if c.fields != nil {
		var err error
		if body, err = resign(body, c.key, c.fieldsURL, c.fields); err != nil {
			return nil, err
		}
	}
	r, err := t.send(req, body)
	if err != nil {
		return nil, err
	}
	c.reply, c.badNonce = r, r.isBadNonce()
	nonce := r.nonce()
	r.header.Del("Replay-Nonce") // x/crypto would keep it for this session alone
	if c.badNonce {
		// Those that came before are likely to be refused too: the CA has restarted, or forgets quickly.
		t.nonces.clear()
		c.nonce = nonce
		return r.response(req), nil
	}
	t.nonces.put(nonce, r.at)
	if r.good() {
		return nil, errTaken
	}
	return r.response(req), nil
}

// send asks the CA and reads its reply to the end.
func (t *transport) send(req *http.Request, body []byte) (*reply, error) {
	if err := checkURL(req.URL, t.plainLoopback); err != nil {
		return nil, fmt.Errorf("the URL %q, which the CA gave, %w", clean(req.URL.Redacted(), maxURL), err)
	}
	ctx, cancel := context.WithTimeout(req.Context(), t.limit)
	defer cancel()
	out := req.Clone(ctx)
	out.Header.Set("User-Agent", t.userAgent)
	out.Body, out.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	start := time.Now()
	r, err := t.exchange(out)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, req.Context().Err()
		}
		if ctx.Err() != nil {
			err = &lostError{timeoutError{t.limit}}
		}
		t.log.DebugContext(ctx, "ACME request failed", "method", req.Method, "url", req.URL.Redacted(), "error", err)
		t.dir.distrust(req.URL.String())
		return nil, err
	}
	t.log.DebugContext(ctx, "ACME request", "method", req.Method, "url", req.URL.Redacted(), "status", r.status, "took", r.at.Sub(start))
	if r.status >= 500 || r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed || r.status == http.StatusGone {
		t.dir.distrust(req.URL.String())
	}
	return r, nil
}

// timeoutError stands for the end of the request's own context. That one's error would say that the caller's has ended.
type timeoutError struct{ limit time.Duration }

func (e timeoutError) Error() string { return fmt.Sprintf("no complete answer within %v", e.limit) }
func (timeoutError) Timeout() bool   { return true }

// exchange makes one request and bounds the reply.
func (t *transport) exchange(req *http.Request) (*reply, error) {
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, &lostError{err}
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return nil, fmt.Errorf("the CA redirects (HTTP status %d) to %q, which is not followed, because requests are signed for their URL (RFC 8555 §6.4)",
			res.StatusCode, clean(res.Header.Get("Location"), maxURL))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, &lostError{fmt.Errorf("the CA's reply broke off: %w", err)}
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the CA's reply is larger than %d bytes", maxBody)
	}
	return &reply{url: req.URL.String(), status: res.StatusCode, header: res.Header, body: body, at: time.Now()}, nil
}

// reply is a reply of the CA, read to the end.
type reply struct {
	url    string
	status int
	header http.Header
	body   []byte
	at     time.Time // when it was complete
}

func (r *reply) good() bool { return r.status >= 200 && r.status < 300 }

// response returns r as x/crypto is to see it. A Retry-After that is past or absurd makes x/crypto hot or sleep for ever:
// none that it could act upon is left, even though no path leads there.
func (r *reply) response(req *http.Request) *http.Response {
	h := r.header.Clone()
	h.Del("Retry-After")
	if d := r.retryAfter(); d > 0 {
		h.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)),
		StatusCode:    r.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          io.NopCloser(bytes.NewReader(r.body)),
		ContentLength: int64(len(r.body)),
		Request:       req,
	}
}

// retryAfter returns how long after the reply's arrival the CA wants to be asked again, or 0 if it does not say.
func (r *reply) retryAfter() time.Duration {
	if r == nil {
		return 0
	}
	now := r.at
	if date, err := http.ParseTime(r.header.Get("Date")); err == nil {
		now = date // its own clock, in case that ours differs
	}
	return parseRetryAfter(r.header.Get("Retry-After"), now)
}

// isBadNonce agrees with x/crypto about what is one: any status, any prefix, any case.
func (r *reply) isBadNonce() bool {
	if r.status < 400 {
		return false
	}
	var doc struct{ Type string }
	_ = json.Unmarshal(r.body, &doc) // what is no problem document does not refuse a nonce
	return strings.HasSuffix(strings.ToLower(doc.Type), ":badnonce")
}

// location returns the absolute URL in the Location header, or "" if there is none.
func (r *reply) location() string {
	loc := r.header.Get("Location")
	if loc == "" || len(loc) > maxURL {
		return ""
	}
	u, err := url.Parse(loc)
	if err != nil || u.IsAbs() {
		return loc // byte for byte: it is compared and signed as a string
	}
	base, err := url.Parse(r.url)
	if err != nil {
		return ""
	}
	return base.ResolveReference(u).String() // RFC 9110 §10.2.2
}
