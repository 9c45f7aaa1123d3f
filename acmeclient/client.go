// Package acmeclient speaks to a certificate authority over ACME (RFC 8555).
//
// It is built on golang.org/x/crypto/acme, which signs and sends the requests, and adds what a server that runs for years
// needs: every reply is bounded and checked before it is believed, requests are never repeated behind the caller's back
// (but for refused nonces, RFC 8555 §6.5), waiting is bounded, and every error is a [*Problem] that says whether and when to
// try again.
//
// # One order, step by step
//
// A [Client] stands for one CA. [Client.Register] makes an account, [Client.Session] gives the attempt its own session
// with that account, then:
//
//	order, err := session.NewOrder(ctx, acmeclient.OrderRequest{Names: names})
//	for each order.Authorizations:
//	    authorization, err := session.Authorization(ctx, url)
//	    // if it is pending: set up the answer to one of its challenges
//	    err = session.Accept(ctx, challenge)
//	    _, err = session.WaitAuthorization(ctx, url)
//	order, err = session.WaitReady(ctx, order.URL)
//	order, err = session.Finalize(ctx, order, csr)
//	chain, warnings, err := session.Certificate(ctx, order)
//	warnings, err = acmeclient.CheckChain(chain, key.Public(), names, time.Now())
//
// Everything but the account key, the certificate's key and the order's URL can be forgotten at any step: [Session.Order] and
// [Session.Authorization] tell where the order stands, and each step may be repeated.
//
// # Waiting
//
// The Wait methods and [Session.Finalize] ask again after 25 ms and then after ever longer pauses up to 5 s. If the CA sends
// Retry-After, that is obeyed instead. A wait of more than a minute ends the call with an error that wraps [ErrWait] and has
// Problem.RetryAt, so that the caller can put the order aside and let others have their turn.
package acmeclient

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/crypto/acme"
)

// A Client speaks to one CA. All its sessions share connections, the CA's directory and its nonces.
// It may be used concurrently and starts no goroutines of its own. Make one with New.
type Client struct {
	ca        CA
	transport *transport
	idle      func() // closes the connections that are ours to close
}

// New returns a Client for ca, which is resolved first. It asks nothing of any network.
//
// If base is nil, connections have time-outs, go through the proxy that the environment names, and trust ca.Roots.
// Otherwise base.Transport makes the connections: if it is an *http.Transport without roots and ca.Roots is set, a copy with those;
// base.Timeout, if set, bounds each request in place of three minutes; base.Jar and base.CheckRedirect are not used.
//
// log hears of every request, on the debug level. Nil: nothing is logged.
func New(ca CA, base *http.Client, log *slog.Logger) (*Client, error) {
	ca, err := ca.Resolve()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &transport{
		directoryURL:  ca.URL,
		plainLoopback: ca.PlainLoopback,
		limit:         requestLimit,
		userAgent:     userAgent(),
		log:           log,
	}
	c := &Client{ca: ca, transport: t, idle: func() {}}
	if base != nil && base.Timeout > 0 {
		t.limit = base.Timeout
	}
	own := connections(ca, base)
	if own == nil {
		t.base = base.Transport
		return c, nil
	}
	t.base, c.idle = own, own.CloseIdleConnections
	return c, nil
}

// connections returns an http.Transport of our own, or nil if base has one that is to be used as it is.
func connections(ca CA, base *http.Client) *http.Transport {
	if base == nil {
		return &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: ca.Roots},
			TLSHandshakeTimeout:    15 * time.Second,
			IdleConnTimeout:        90 * time.Second,
			MaxIdleConnsPerHost:    4,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	}
	rt := base.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	t, ok := rt.(*http.Transport)
	hasRoots := ok && t.TLSClientConfig != nil && t.TLSClientConfig.RootCAs != nil
	if base.Transport != nil && (!ok || hasRoots || ca.Roots == nil) || !ok {
		return nil
	}
	t = t.Clone()
	if ca.Roots != nil && !hasRoots {
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{}
		}
		t.TLSClientConfig.RootCAs = ca.Roots
	}
	return t
}

// userAgent is what RFC 8555 §6.1 wants to be sent.
func userAgent() string {
	const module, name = "github.com/manageddomains/md", "manageddomains-md"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return name
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" && m.Version != "(devel)" {
			return name + "/" + m.Version
		}
	}
	return name
}

// CA returns the CA as resolved.
func (c *Client) CA() CA { return c.ca }

// Close closes idle connections, unless they belong to the http.Client that New was given.
// The Client stays usable.
func (c *Client) Close() { c.idle() }

// Directory returns what the CA says about itself. It is asked for once an hour, and again when what it
// leads to did not work.
func (c *Client) Directory(ctx context.Context) (Directory, error) {
	doc, err := c.transport.directory(ctx)
	if err != nil {
		return Directory{}, newProblem("read the CA's directory", &call{url: c.ca.URL}, err)
	}
	return doc.directory(), nil
}

// A Session carries out one attempt with one account. It must not be used concurrently.
type Session struct {
	client  *Client
	acme    *acme.Client
	key     crypto.Signer
	account string

	// lookFrom is when the CA may have looked at the challenge accepted last. Asking earlier would waste a request.
	lookFrom time.Time
}

// Session returns a session for the account with that key and URL, as Register or Lookup returned it. It asks nothing of the CA.
func (c *Client) Session(key crypto.Signer, accountURL string) *Session {
	return &Session{client: c, acme: c.acme(key, accountURL), key: key, account: accountURL}
}

// acme returns a client of x/crypto for one goroutine: it holds mutexes while it asks the network, so that sharing one would make
// orders wait for each other. What can be shared, directory and nonces, is kept by the transport.
func (c *Client) acme(key crypto.Signer, account string) *acme.Client {
	return &acme.Client{
		Key:          key,
		KID:          acme.KeyID(account),
		DirectoryURL: c.ca.URL,
		RetryBackoff: retryBadNonce,
		HTTPClient:   &http.Client{Transport: c.transport}, // which refuses redirects
	}
}

const maxBadNonces = 10 // times that one request is repeated; half of all nonces refused would still let 999 of 1000 requests through

// retryBadNonce lets x/crypto repeat a request only if its nonce was refused, which means that nothing happened (RFC 8555 §6.5).
// When to repeat after all else is for the caller to say, who knows what else there is to do.
func retryBadNonce(n int, req *http.Request, _ *http.Response) time.Duration {
	if c := callOf(req.Context()); c == nil || !c.badNonce || n > maxBadNonces {
		return 0
	}
	return 1 // at once
}

// do lets send make one request with x/crypto and returns the CA's reply if it is a good one, as the transport saw it.
// x/crypto does not get to see it: what a CA sends is decoded in one place, ours, and a finalize is not followed by x/crypto's own polling.
func (c *Client) do(ctx context.Context, op string, k *call, send func(ctx context.Context) error) (*reply, error) {
	err := send(context.WithValue(ctx, callKey{}, k))
	if k.reply != nil && k.reply.good() {
		return k.reply, nil // also if ctx has ended meanwhile: what was done is done
	}
	if err == nil {
		err = errors.New("the CA was not asked")
	}
	return nil, newProblem(op, k, err)
}

// do is like Client.do for what needs an account.
func (s *Session) do(ctx context.Context, op, url string, send func(ctx context.Context) error) (*reply, error) {
	if s.account == "" {
		return nil, s.noAccount(op, url)
	}
	return s.client.do(ctx, op, &call{url: url}, send)
}

// noAccount refuses to go on without an account: x/crypto would ask the CA for it, and sign with the bare key if it does not get it.
func (s *Session) noAccount(op, url string) error {
	return &Problem{Op: op, URL: url, Err: errors.New("the session has no account URL; Lookup or Register returns it")}
}
