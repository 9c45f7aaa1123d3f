// Package acmeclient speaks to a certificate authority over ACME (RFC 8555).
//
// It is built on golang.org/x/crypto/acme, which signs and sends the requests, and adds what a server that runs for years
// needs: every reply is bounded and checked before it is believed, requests that change something are never repeated behind
// the caller's back (but for refused nonces, RFC 8555 §6.5), waiting is bounded, and every error is a [*Problem] that says
// whether and when to try again.
//
// # One order, step by step
//
// A [Client] stands for one CA. [Client.Register] makes an account, [Client.Session] gives the attempt its own session
// with that account, then:
//
//	request := acmeclient.OrderRequest{Names: acmeclient.Identifiers(names)}
//	order, err := session.NewOrder(ctx, request)
//	for each order.Authorizations:
//	    authorization, err := session.Authorization(ctx, url)
//	    // if it is pending: set up the answer to one of its challenges
//	    err = session.Accept(ctx, challenge)
//	    _, err = session.WaitAuthorization(ctx, url)
//	order, err = session.WaitReady(ctx, order.URL)
//	order, warnings, err = session.FinalizeFor(ctx, order, request, key)
//	chain, warnings, err := session.ChainTo(ctx, order, root)
//	warnings, err = acmeclient.CheckChain(chain, key, names, time.Now())
//
// Everything but the account key, the certificate's key and the order's URL can be forgotten at any step: [Session.Order] and
// [Session.Authorization] tell where the order stands, and each step may be repeated.
//
// # Which CA, and which account
//
// A [CA] is a value that says which CA is meant: one of those that are known by name ([KnownCAs]), or any other by URL.
// [CA.Resolve] finds what is wrong with it without asking any network. [CA.Rehearsal] is its test endpoint. CAs with the same
// [CA.Endpoint] share a Client: [Client.For] adapts it to another account.
//
// Who keeps accounts keeps them by directory URL and [CA.AccountID]. If the CA has an [EAB] in a file, [CA.ReadEAB] reads it
// before the account is asked for. The account's key is kept before it is registered, and [Client.Lookup] comes before
// [Client.Register] whenever the CA may have heard of the key: what binds an account is often good for one only.
//
// # Waiting
//
// The Wait methods and [Session.Finalize] ask again after 25 ms and then after ever longer pauses up to 5 s. If the CA sends
// Retry-After, that is obeyed instead. A wait of more than a minute ends the call with an error that wraps [ErrWait] and has
// Problem.RetryAt, so that the caller can put the order aside and let others have their turn.
//
// # Requests that get lost
//
// An order takes dozens of requests, and most of them only look: at an order, an authorization, a challenge or a certificate, or for the
// directory, a nonce or renewal information. A look is made again within the call, after 100 ms and once more after another 500 ms, if its
// connection is lost, it takes longer than one request may, the server has a fault of its own (5xx), or its reply is cut off or something
// else altogether. The error is then that of the last look. It is not made again after ctx has ended or where that is about to, where the
// CA says when to come back (Retry-After) or that it is asked too often (429), nor where the next would fare the same: a server that refuses
// connections, has no address, or cannot be trusted.
//
// What changes something at the CA is sent once. If the reply is lost, Finalize, Accept and ChangeKey look whether it has come there;
// after all else, the caller repeats the step.
//
// # What a certificate can be
//
// [OrderRequest] asks for a profile, a lifetime, must-staple; the root of [Session.ChainTo] for one of several chains. CAs differ in what they
// offer, and change it. What is not required never stands in the way of a certificate: it is left out, and a warning says so, in
// Order.Warnings, with what FinalizeFor and ChainTo return, or by [OrderRequest.Deviations] of what came.
//
// # Accounts over the years
//
// An account outlives its key, its contacts and the CA's terms: [Session.ChangeKey] with [Client.KeyOf], [Session.UpdateContacts],
// [Session.AgreeToTerms]. An error that wraps [ErrNoAccount] says that the CA has forgotten it, which Register mends; one that wraps
// [ErrAccountClosed], that it is closed for good, and another key is needed.
package acmeclient

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
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
// If base is nil, connections have time-outs, go through the proxy that ca.Proxy or else the environment names, and trust
// ca.Roots. Otherwise base.Transport makes the connections: if it is an *http.Transport and ca.Proxy is set, or ca.Roots is
// and it has none, a copy with those; if it is anything else, it is an error to set ca.Proxy, and ca.Roots are not used.
// base.Timeout, if set, bounds each request, not the call, in place of three minutes; base.Jar and base.CheckRedirect are not used.
//
// log hears of every request, on the debug level. Nil: nothing is logged.
func New(ca CA, base *http.Client, log *slog.Logger) (*Client, error) {
	ca, err := ca.Resolve()
	if err != nil {
		return nil, err
	}
	if ca.Protocol != ACME {
		return nil, fmt.Errorf("the CA %s does not speak ACME but %s", clean(ca.Name, 64), ca.Protocol)
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
	var own bool
	if t.base, own, err = connections(ca, base); err != nil {
		return nil, err
	}
	if owned, ok := t.base.(*http.Transport); ok && own {
		c.idle = owned.CloseIdleConnections
	}
	return c, nil
}

// For returns a Client for a CA with the same Endpoint as c's, which is resolved first: another account, another name, other
// limits. It shares connections, directory and nonces with c, so that many Domains need one of each. Closing one closes
// the idle connections of both. It is an error if the Endpoints differ.
func (c *Client) For(ca CA) (*Client, error) {
	ca, err := ca.Resolve()
	if err != nil {
		return nil, err
	}
	if ca.Endpoint() != c.ca.Endpoint() {
		return nil, fmt.Errorf("the CA %v needs a Client of its own: it has another URL than %v, or other Roots or another Proxy", ca, c.ca)
	}
	return &Client{ca: ca, transport: c.transport, idle: c.idle}, nil
}

// connections returns what makes the connections, and whether it is our own: if not, it belongs to base and is as it was.
func connections(ca CA, base *http.Client) (rt http.RoundTripper, own bool, err error) {
	if base == nil {
		t := newTransport()
		t.TLSClientConfig = &tls.Config{RootCAs: ca.Roots}
		return t, true, useProxy(t, ca.Proxy)
	}
	rt = base.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	given, ok := rt.(*http.Transport)
	if !ok {
		if ca.Proxy != "" {
			return nil, false, fmt.Errorf("the CA %v has a Proxy, but its connections are made by a %T, which cannot be given one", ca, rt)
		}
		return rt, false, nil
	}
	needsRoots := ca.Roots != nil && (given.TLSClientConfig == nil || given.TLSClientConfig.RootCAs == nil)
	if base.Transport != nil && !needsRoots && ca.Proxy == "" {
		return rt, false, nil
	}
	t := given.Clone()
	if needsRoots {
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{}
		}
		t.TLSClientConfig.RootCAs = ca.Roots
	}
	return t, true, useProxy(t, ca.Proxy)
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
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
