package acmetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
)

// connect connects a validator to CA.HTTP or CA.TLS.
func (ca *CA) connect(ctx context.Context, port int) net.Conn {
	client, server := net.Pipe()
	// A validation is running, so that Close is yet to wait for tasks.
	ca.tasks.Go(func() {
		defer server.Close()
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		conn := server
		if port == 443 {
			secure := tls.Server(server, ca.TLS)
			if secure.HandshakeContext(ctx) != nil || secure.ConnectionState().NegotiatedProtocol == acmeTLS1 {
				return // the validator has seen what it came for
			}
			conn = secure
		}
		ca.serveOne(ctx, conn)
	})
	return client
}

// serveOne lets CA.HTTP answer the one request of a validator.
func (ca *CA) serveOne(ctx context.Context, conn net.Conn) {
	rq, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || ca.HTTP == nil {
		return
	}
	rq.RemoteAddr = "192.0.2.1:1" // RFC 5737: nobody's address
	answer := &recorder{header: http.Header{}}
	ca.HTTP.ServeHTTP(answer, rq.WithContext(ctx))
	answer.WriteHeader(http.StatusOK)
	answer.header.Set("Content-Length", strconv.Itoa(answer.body.Len()))
	answer.header.Set("Connection", "close")
	var out bytes.Buffer
	out.WriteString("HTTP/1.1 " + statusText(answer.status) + "\r\n")
	_ = answer.header.Write(&out) // a buffer takes everything
	out.WriteString("\r\n")
	out.Write(answer.body.Bytes())
	// An error is the validator's choice not to read on.
	_, _ = conn.Write(out.Bytes())
}

// recorder is an http.ResponseWriter that keeps what is written.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
