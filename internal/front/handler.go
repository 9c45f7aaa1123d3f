package front

import (
	"net"
	"net/http"
	"strings"

	"github.com/manageddomains/md/challenge"
)

// retryAfter is what clients without a certificate to look at are told, in
// seconds. An order takes less when all is well.
const retryAfter = "60"

// HTTPHandler is for plain HTTP: it answers http-01 challenges and leaves
// the rest to next. With a nil next there is a 404 page. A nil http01 answers
// nothing.
func HTTPHandler(http01 *challenge.HTTP01, next http.Handler) http.Handler {
	if next == nil {
		next = http.HandlerFunc(nothingHere)
	}
	return withChallenges(http01, next)
}

// HTTPSHandler is for TLS: it answers http-01 challenges, because validators
// follow redirects to https whatever the certificate (RFC 8555 §8.3); it
// answers 503 while onFallback reports that there is no certificate for name
// but the fallback; and it leaves the rest to next.
//
// The name is the one in the handshake, or that of the Host header if there
// was none, in lower case, without port and final dot; it is not checked
// further. A nil onFallback reports false.
func HTTPSHandler(http01 *challenge.HTTP01, onFallback func(name string) bool, next http.Handler) http.Handler {
	if next == nil {
		next = http.HandlerFunc(nothingHere)
	}
	if onFallback != nil {
		next = refuseOnFallback(onFallback, next)
	}
	return withChallenges(http01, next)
}

func withChallenges(http01 *challenge.HTTP01, next http.Handler) http.Handler {
	if http01 == nil {
		return next
	}
	return http01.Handler(next)
}

// refuseOnFallback keeps next from answering over a connection whose
// certificate proves nothing. The connection is closed, so that the client's
// next one sees the certificate that may be there by then.
func refuseOnFallback(onFallback func(name string) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !onFallback(requestName(r)) {
			next.ServeHTTP(w, r)
			return
		}
		header := w.Header()
		header.Set("Retry-After", retryAfter)
		header.Set("Connection", "close") // over HTTP/2, net/http sends GOAWAY
		header.Set("Cache-Control", "no-store")
		http.Error(w, "This server does not have its certificate yet. Try again in a minute.", http.StatusServiceUnavailable)
	})
}

func nothingHere(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "There is nothing here.", http.StatusNotFound)
}

// requestName is the name that the connection's certificate was chosen by.
func requestName(r *http.Request) string {
	name := r.Host
	if r.TLS != nil && r.TLS.ServerName != "" {
		name = r.TLS.ServerName
	} else if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
