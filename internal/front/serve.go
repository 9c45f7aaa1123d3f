package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/manageddomains/md/challenge"
)

const (
	// headerTimeout bounds the TLS handshake and each request's header, so
	// that a client that says nothing, or a byte at a time, is cut off.
	// There is no limit for bodies in either direction: what is too long
	// for an upload or a stream, only its handler knows, and it can say so
	// with http.ResponseController.
	headerTimeout = 10 * time.Second

	// idleTimeout is how long a connection may wait for its next request.
	idleTimeout = 2 * time.Minute

	// An HTTP/2 peer that has gone without a word is found out by a ping,
	// one that takes nothing any more by a write that gets nowhere. Neither
	// hurts a stream that is slow or silent on purpose.
	pingAfter      = 30 * time.Second
	pingTimeout    = 15 * time.Second
	writeNoByteFor = 60 * time.Second

	maxHeaderBytes = 64 << 10

	defaultGrace = 10 * time.Second

	// leaveTime is for handlers whose context has ended to return.
	leaveTime = time.Second
)

// Servers is a server for plain HTTP and one for HTTPS that run and stop
// together. Either may be absent. Fields are not changed while Run runs.
type Servers struct {
	Plain, Secure net.Listener // nil: this server does not run
	PlainHandler  http.Handler // for requests to Plain; nil: 404
	Handler       http.Handler // for requests to Secure; nil: 404
	TLS           *tls.Config  // for Secure; it is not changed
	Logger        *slog.Logger // nil: slog.Default()

	// Patience is what a handshake may take beyond the usual ten seconds,
	// because it waits for its certificate.
	Patience time.Duration

	// Grace is how long requests may take to end after the context has.
	// Zero means ten seconds; a negative one ends them at once.
	Grace time.Duration
}

// Run serves until ctx ends or a listener fails. Then it closes the
// listeners, lets running requests end within Grace, ends the contexts of
// those that did not, and closes all connections.
//
// It returns nil if ctx has ended, else the first error. No goroutine of the
// servers is left, but for handlers that go on after the context of their
// request has ended.
func (s *Servers) Run(ctx context.Context) error {
	if s.Secure != nil && s.TLS == nil {
		return errors.New("front: the secure server has no TLS configuration")
	}
	var running requests
	base, endRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer endRequests()

	failed := make(chan error, 2) // one for each server
	var servers []*http.Server
	var serving sync.WaitGroup
	start := func(h http.Handler, serve func(*http.Server) error) {
		server := s.server(base, running.count(h))
		servers = append(servers, server)
		serving.Go(func() { failed <- serve(server) })
	}
	if s.Plain != nil {
		start(s.PlainHandler, func(server *http.Server) error {
			return wrap("plain", server.Serve(s.Plain))
		})
	}
	if s.Secure != nil {
		start(s.Handler, func(server *http.Server) error {
			secure(server, s.TLS)
			server.ReadHeaderTimeout += s.Patience // net/http has no other for handshakes
			return wrap("secure", server.ServeTLS(s.Secure, "", ""))
		})
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.stop(ctx, servers, endRequests, &running)
	serving.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// server makes what the two servers have in common.
func (s *Servers) server(base context.Context, h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         &protocols,
		ErrorLog:          errorLog(s.Logger),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
}

// secure adds what only the server for HTTPS has.
func secure(server *http.Server, config *tls.Config) {
	// A TLSNextProto that is set turns HTTP/2 off unless Protocols says so.
	server.Protocols.SetHTTP2(true)
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		challenge.ALPNProto: challenge.CloseNextProto,
	}
	server.HTTP2 = &http.HTTP2Config{
		SendPingTimeout:  pingAfter,
		PingTimeout:      pingTimeout,
		WriteByteTimeout: writeNoByteFor,
	}
	server.TLSConfig = config.Clone() // net/http writes to it
}

// wrap says which server err comes from.
func wrap(which string, err error) error {
	return fmt.Errorf("the %s HTTP server has stopped: %w", which, err)
}

// stop ends servers: gently for the time of Grace, then at once.
func (s *Servers) stop(ctx context.Context, servers []*http.Server, endRequests func(), running *requests) {
	grace := s.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	graceCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()

	var stopping sync.WaitGroup
	for _, server := range servers {
		stopping.Go(func() {
			if err := server.Shutdown(graceCtx); errors.Is(err, context.DeadlineExceeded) {
				server.Close()
			}
		})
	}
	stopping.Wait()
	// Hijacked connections are nobody's but their handlers', for which
	// Shutdown has not waited.
	running.wait(graceCtx)
	endRequests()
	leaveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	running.wait(leaveCtx)
}
