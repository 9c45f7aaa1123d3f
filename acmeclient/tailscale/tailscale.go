// Package tailscale gets certificates from the Tailscale daemon of this machine.
//
// A machine in a tailnet has a name such as host.tail1234.ts.net. For that name, and for no other, its daemon tailscaled
// orders certificates from Let's Encrypt, renews them when it is asked and they are old, and hands them out, with their
// keys, to those on this machine whom it permits. There is no account, and nothing to prove.
//
// What the daemon wants before that: HTTPS certificates enabled for the tailnet (on the DNS page of the admin console),
// and that the asking user is root, or its operator (tailscale set --operator=USER), or named by TS_PERMIT_CERT_UID=USER
// in the daemon's environment (/etc/default/tailscaled).
package tailscale

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/manageddomains/md/acmeclient"
)

// Errors that callers branch on. They are found with errors.Is in the *acmeclient.Problem that Certificate returned.
var (
	// ErrNotRunning: there is no daemon at the socket.
	ErrNotRunning = errors.New("the Tailscale daemon is not running")

	// ErrDenied: the daemon does not let this user have certificates.
	ErrDenied = errors.New("the Tailscale daemon does not let this user have certificates")
)

const (
	// apiHost is the only Host that the daemon answers: so that web pages cannot ask it.
	apiHost = "local-tailscaled.sock"

	maxBody      = 256 << 10       // bytes of an answer; one has some 5 KiB
	requestLimit = 5 * time.Minute // of one request: the daemon may order a certificate meanwhile
)

// Daemon is the Tailscale daemon of this machine. The zero Daemon has the socket where it is by default. Certificate may be
// called concurrently; a Daemon holds no connections.
type Daemon struct {
	// Socket is the path of the daemon's socket, as [acmeclient.CA.Socket] returns it. Zero: its default on this
	// operating system.
	Socket string

	limit time.Duration // of one request. Zero: requestLimit
}

// Certificate returns the daemon's certificate for name, a DNS name in ASCII, with its chain in DER, leaf first, and its key.
// The leaf matches the key and is for name; whether it is in date, the caller sees.
//
// It may well be the one of the last time: the daemon keeps its certificates and begins to renew one in the background
// when it is asked for it in the last third of its life. If less than minValidity is left, it renews first, and
// answers when it is done, which may take minutes; versions of the daemon that do not know this answer with what there is.
// Zero: any that has not expired.
//
// Every error is an *acmeclient.Problem, with what the daemon said and, if it has met a rate limit, when to ask again.
func (d *Daemon) Certificate(ctx context.Context, name string, minValidity time.Duration) (chain [][]byte, key crypto.Signer, err error) {
	if err := checkName(name); err != nil {
		return nil, nil, problem(name, err)
	}
	socket, err := d.socket()
	if err != nil {
		return nil, nil, problem(name, err)
	}
	c := &conversation{socket: socket, name: name, minValidity: minValidity, limit: d.limit}
	if c.limit == 0 {
		c.limit = requestLimit
	}
	text, err := c.pair(ctx)
	if err != nil {
		var p *acmeclient.Problem
		if errors.As(err, &p) {
			return nil, nil, err
		}
		return nil, nil, problem(name, err)
	}
	if chain, key, err = parsePair(text); err == nil {
		err = checkPair(chain[0], key, name)
	}
	if err != nil {
		return nil, nil, problem(name, fmt.Errorf("the Tailscale daemon's answer %w", err))
	}
	return chain, key, nil
}

func problem(name string, err error) *acmeclient.Problem {
	return &acmeclient.Problem{Op: "get the certificate from the Tailscale daemon", Name: name, Err: err}
}

// checkName keeps out what would make another request of it. What names there are, the daemon knows.
func checkName(name string) error {
	odd := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*")
	if name == "" || len(name) > 253 || odd != "" || strings.Trim(name, ".") == "" {
		return errors.New("it is not a DNS name")
	}
	return nil
}

func (d *Daemon) socket() (string, error) {
	if d.Socket != "" {
		return d.Socket, nil
	}
	ca, err := acmeclient.CA{Protocol: acmeclient.Tailscale}.Resolve()
	return ca.Socket(), err
}

// conversation is what is asked of the daemon for one certificate.
type conversation struct {
	socket, name string
	minValidity  time.Duration
	limit        time.Duration
}

// pair returns key and chain as PEM.
func (c *conversation) pair(ctx context.Context) ([]byte, error) {
	text, err := c.get(ctx, "pair")
	var p *acmeclient.Problem
	if !errors.As(err, &p) || p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, "invalid type") {
		return text, err
	}
	// Daemons of the first versions give out one at a time. If it is renewed in between, they do not match, which is found.
	chain, err := c.get(ctx, "crt")
	if err != nil {
		return nil, err
	}
	key, err := c.get(ctx, "key")
	return append(append(key, '\n'), chain...), err
}

// get makes one request.
func (c *conversation) get(parent context.Context, typ string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(parent, c.limit)
	defer cancel()
	query := url.Values{"type": {typ}}
	if c.minValidity > 0 {
		query.Set("min_validity", strconv.FormatInt(int64((c.minValidity+time.Second-1)/time.Second), 10)+"s")
	}
	where := url.URL{Scheme: "http", Host: apiHost, Path: "/localapi/v0/cert/" + c.name, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.socket)
		},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer t.CloseIdleConnections()
	text, err := c.exchange(t, req)
	switch {
	case err != nil && parent.Err() != nil:
		return nil, parent.Err()
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("no complete answer within %v", c.limit)
	}
	return text, err
}

func (c *conversation) exchange(t *http.Transport, req *http.Request) ([]byte, error) {
	res, err := t.RoundTrip(req) // which follows no redirects
	if err != nil {
		return nil, c.explain(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case res.StatusCode != http.StatusOK:
		return nil, c.refusal(res, text[:min(len(text), maxBody)])
	case err != nil:
		return nil, fmt.Errorf("the Tailscale daemon's answer broke off: %w", err)
	case len(text) > maxBody:
		return nil, fmt.Errorf("the Tailscale daemon's answer is larger than %d bytes", maxBody)
	}
	return text, nil
}

// explain says what to do if the daemon cannot be asked.
func (c *conversation) explain(err error) error {
	const other = "or say where its socket is (the CA's URL: file:///path/of/tailscaled.sock)"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s; start it (systemctl start tailscaled), %s: %w", ErrNotRunning, c.socket, other, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens at %s; start it (systemctl start tailscaled), %s: %w", ErrNotRunning, c.socket, other, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the socket %s is not for it: %w", ErrDenied, c.socket, err)
	}
	return fmt.Errorf("the Tailscale daemon at %s: %w", c.socket, err)
}

// refusal tells what the daemon said, in its own words.
func (c *conversation) refusal(res *http.Response, body []byte) *acmeclient.Problem {
	p := acmeclient.Refusal(res, body)
	p.Op, p.Name = problem(c.name, nil).Op, c.name
	switch p.Status {
	case http.StatusForbidden, http.StatusUnauthorized:
		p.Err = fmt.Errorf("%w: run as root, make it the operator (tailscale set --operator=USER), or set TS_PERMIT_CERT_UID=USER in /etc/default/tailscaled and restart it", ErrDenied)
	case http.StatusNotFound:
		p.Err = errors.New("the Tailscale daemon has no certificates to give: its version or build does not know them")
	}
	return p
}
