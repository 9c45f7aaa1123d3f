package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

const day = 24 * time.Hour

// bubble runs a test of a world in a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// world is a CA, a Store and the network between them and the nodes, all in
// one synctest bubble.
type world struct {
	t      *testing.T
	ca     *acmetest.CA
	second acmetest.CA // at secondURL
	store  store.Store

	mu       sync.Mutex // guards what follows
	nodes    []*node    // the last one that listens answers validators
	firewall string     // a port that cannot be reached
	log      bytes.Buffer
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ca: new(acmetest.CA), store: new(store.Memory)}
	w.ca.Dial = w.dial
	w.second.Dial, w.second.BaseURL = w.dial, secondURL
	t.Cleanup(func() {
		w.stopAll()
		w.ca.Close()
		w.second.Close()
		if t.Failed() {
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Logf("log:\n%s", w.log.String())
			t.Logf("the CA:\n%s", strings.Join(w.ca.Trace(), "\n"))
		}
	})
	return w
}

// change lets set change fields of the CA while nodes run.
func (w *world) change(set func()) {
	synctest.Wait()
	w.ca.Change(set)
}

// Write takes the nodes' log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// logged reports whether the nodes have logged text.
func (w *world) logged(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.log.String(), text)
}

// dial connects validators and clients to the last node that listens.
func (w *world) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	var n *node
	if len(w.nodes) > 0 {
		n = w.nodes[len(w.nodes)-1]
	}
	blocked := w.firewall == port
	w.mu.Unlock()
	if n == nil || blocked {
		return nil, errors.New("connection refused")
	}
	l := n.plain
	if port == "443" {
		l = n.secure
	}
	return l.dial(ctx)
}

// secondURL is where the second CA is.
const secondURL = "https://second.test"

// roundTrip is the nodes' way to the CAs.
func (w *world) roundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.String(), secondURL) {
		return w.second.Client().Transport.RoundTrip(r)
	}
	return w.ca.Client().Transport.RoundTrip(r)
}

// node is a Manager with its servers.
type node struct {
	w             *world
	m             *md.Manager
	plain, secure *pipeListener
	stop          context.CancelFunc
	done          chan error // has what Serve returned, and is closed then
}

// manager returns a Manager for domains at the world's CA, not started.
func (w *world) manager(domains ...md.Domain) *md.Manager {
	return &md.Manager{
		Domains:     domains,
		Default:     md.Domain{CAs: []md.CA{{URL: w.ca.DirectoryURL()}}},
		AcceptTerms: true,
		Store:       w.store,
		HTTPClient:  &http.Client{Transport: roundTripper(w.roundTrip)},
		Logger:      slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// start runs m with servers until stop.
func (w *world) start(m *md.Manager) *node { return w.startIn(context.Background(), m) }

// startIn is start with a context that may carry knobs.
func (w *world) startIn(ctx context.Context, m *md.Manager) *node {
	n := &node{w: w, m: m, plain: newPipeListener(), secure: newPipeListener(), done: make(chan error, 1)}
	ctx, stop := context.WithCancel(ctx)
	n.stop = stop
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	app := http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) { io.WriteString(out, "hello from "+r.Host) })
	go func() {
		defer close(n.done)
		n.done <- m.Serve(ctx, app, n.plain, n.secure)
	}()
	return n
}

// stopped stops the node, and checks that it does so without an error.
func (n *node) stopped() {
	n.w.t.Helper()
	n.w.unlist(n)
	n.stop()
	if err := <-n.done; err != nil {
		n.w.t.Errorf("Serve returned %v after its context ended, want nil", err)
	}
}

// stopAll stops the nodes that a test has left running because it failed:
// what goes on in a bubble that is over would end all tests.
func (w *world) stopAll() {
	w.mu.Lock()
	left := slices.Clone(w.nodes)
	w.mu.Unlock()
	for _, n := range left {
		n.stop()
		<-n.done
	}
}

// unlist takes a node from the load balancer.
func (w *world) unlist(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = slices.DeleteFunc(w.nodes, func(other *node) bool { return other == n })
}

// ready waits until all Domains of the node have certificates.
func (n *node) ready(within time.Duration) {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := n.m.Ready(ctx); err != nil {
		n.w.t.Fatalf("not ready within %v: %v", within, err)
	}
}

// serial returns the serial number of the certificate that a client which
// trusts the CA is served for name.
func (w *world) serial(name string) (string, error) {
	conn, err := w.dial(context.Background(), "tcp", name+":443")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: w.ca.Roots(), Time: time.Now})
	if err := client.Handshake(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%X", client.ConnectionState().PeerCertificates[0].SerialNumber), nil
}

// served returns the serial number that clients see for name, and fails if
// they are not served a certificate that they trust.
func (w *world) served(name string) string {
	w.t.Helper()
	serial, err := w.serial(name)
	if err != nil {
		w.t.Fatalf("handshake for %s: %v", name, err)
	}
	return serial
}

// keys returns the keys below prefix in the Store.
func (w *world) keys(prefix string) []string {
	w.t.Helper()
	var keys []string
	for item, err := range w.store.List(context.Background(), prefix) {
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, item.Key)
	}
	return keys
}

// report returns the status of a Domain.
func (n *node) report(name string) status.Domain {
	n.w.t.Helper()
	for d := range n.m.Status() {
		if d.Name == name {
			return d
		}
	}
	n.w.t.Fatalf("no Domain %q in the status", name)
	return status.Domain{}
}

// pipeListener is a listener in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	client.Close()
	server.Close()
	return nil, errors.New("connection refused")
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
