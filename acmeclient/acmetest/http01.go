package acmetest

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxRedirects bounds the redirects that http-01 follows.
const maxRedirects = 10

// maxAnswer bounds what http-01 reads of an answer, in bytes, headers
// included.
const maxAnswer = 64 << 10

// lookHTTP validates http-01 (RFC 8555 §8.3).
func (ca *CA) lookHTTP(ctx context.Context, t target) *problem {
	// RFC 8738 §5: the Host header of an address is the address itself.
	host := t.name
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	at := &url.URL{Scheme: "http", Host: host, Path: "/.well-known/acme-challenge/" + t.token}
	for range maxRedirects + 1 {
		next, body, p := ca.get(ctx, at)
		if p != nil {
			return p
		}
		if next != nil {
			if next.Hostname() == "" || isAddress(next.Hostname()) {
				return refuse(connection, "redirected to %s, which is not a DNS name", strconv.Quote(bounded(next.Host)))
			}
			at = next
			continue
		}
		// RFC 8555 §8.3: white space at the end of the body is ignored.
		if got := strings.TrimRight(body, " \t\r\n"); got != t.keyAuth {
			return refuse(unauthorized, "the answer at %s is not the key authorization but %s",
				at, strconv.Quote(bounded(got)))
		}
		return nil
	}
	return refuse(connection, "%s redirects more than %d times", t.name, maxRedirects)
}

// get fetches a URL once. It returns where a redirect leads to, or the body.
func (ca *CA) get(ctx context.Context, at *url.URL) (*url.URL, string, *problem) {
	port, p := portOf(at)
	if p != nil {
		return nil, "", p
	}
	conn, p := ca.dial(ctx, at.Hostname(), port)
	if p != nil {
		return nil, "", p
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if at.Scheme == "https" {
		// RFC 8555 §8.3 lets a redirect lead to https; the certificate there
		// is what the client is about to replace, so it is not verified.
		conn = tls.Client(conn, &tls.Config{ServerName: at.Hostname(), InsecureSkipVerify: true})
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, "", refuse(connection, "%s: %v", at, err)
	}
	rq.Header.Set("User-Agent", "acmetest validator")
	rq.Close = true
	if err := rq.Write(conn); err != nil {
		return nil, "", unreachable(at.Host, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), rq)
	if err != nil {
		return nil, "", refuse(connection, "%s does not answer in HTTP: %v", at, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err := res.Location()
		if err != nil {
			return nil, "", refuse(connection, "%s redirects to nowhere", at)
		}
		return next, "", nil
	default:
		return nil, "", refuse(unauthorized, "invalid answer from %s: %d", at, res.StatusCode)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, "", refuse(connection, "reading the answer of %s: %v", at, err)
	}
	return nil, string(body), nil
}

// portOf takes ports 80 and 443, as CAs do.
func portOf(u *url.URL) (int, *problem) {
	switch u.Scheme + ":" + u.Port() {
	case "http:", "http:80", "https:80":
		return 80, nil
	case "https:", "https:443", "http:443":
		return 443, nil
	}
	return 0, refuse(connection, "redirected to %s: only http and https at ports 80 and 443 are followed",
		strconv.Quote(bounded(u.Scheme+"://"+u.Host)))
}
