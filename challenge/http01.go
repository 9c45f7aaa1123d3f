package challenge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/manageddomains/md/store"
)

const (
	http01Path   = "/.well-known/acme-challenge/" // RFC 8555 §8.3
	http01Prefix = "challenges/http-01/"
)

// HTTP01 answers http-01 challenges (RFC 8555 §8.3). [HTTP01.Present] puts
// the answer into the Store, and [HTTP01.Handler] gives it in any process
// that shares the Store.
//
// Use a pointer. Fields may be changed until the first method call; then all
// methods may be called concurrently.
type HTTP01 struct {
	// Store keeps the answers. In a Domain's list of Challengers, nil names
	// the Manager's own HTTP01; on its own, an HTTP01 needs one.
	Store store.Store

	// Managed reports whether name may be asked for: a DNS name in lower
	// case without a final dot, or an IP address. For other names the Store
	// is not read. Nil: any name may be asked for.
	Managed func(name string) bool

	// Logger is told when the Store cannot be read. Nil: slog.Default().
	Logger *slog.Logger

	answers lookup
}

// Types returns "http-01".
func (h *HTTP01) Types() []string { return []string{TypeHTTP01} }

// Present puts the answer to c into the Store. Each token has its own
// answer, so any number of challenges for one name can be pending.
func (h *HTTP01) Present(ctx context.Context, c Challenge) error {
	a, err := newAnswer(c, TypeHTTP01)
	if err != nil {
		return err
	}
	if h.Store == nil {
		return errNoStore(TypeHTTP01)
	}
	return a.put(ctx, h.Store, http01Prefix+c.Token)
}

// CleanUp removes the answer to c from the Store, if it is there.
func (h *HTTP01) CleanUp(ctx context.Context, c Challenge) error {
	a, err := newAnswer(c, TypeHTTP01)
	if err != nil {
		return err
	}
	if h.Store == nil {
		return errNoStore(TypeHTTP01)
	}
	return a.remove(ctx, h.Store, http01Prefix+c.Token)
}

// Handler answers pending challenges and leaves all else to next; a nil next
// answers 404. It belongs in front of everything that redirects, demands
// authorization or rewrites.
//
// Answered are GET and HEAD of /.well-known/acme-challenge/ with the exact
// token of a pending challenge, for any host that is Managed: a validator may
// have been redirected from another of its names (RFC 8555 §8.3), and the
// answer is good for the account that asked and no other. The port does not
// matter. Other requests below that path go to next, so that other ACME clients can work on the same host. If
// the Store cannot be read, the answer is 503.
func (h *HTTP01) Handler(next http.Handler) http.Handler {
	if next == nil {
		next = http.NotFoundHandler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := h.asked(r)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		keyAuthorization, err := h.find(r.Context(), token)
		switch {
		case err == nil:
			writeAnswer(w, r, keyAuthorization)
		case errors.Is(err, fs.ErrNotExist):
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, "challenge answers cannot be read", http.StatusServiceUnavailable)
		}
	})
}

// asked returns the token of a request that could be a validator's.
func (h *HTTP01) asked(r *http.Request) (token string, ok bool) {
	token, ok = strings.CutPrefix(r.URL.Path, http01Path)
	// A token needs no escapes, so a path that has any is not a validator's.
	if !ok || !validToken(token) || r.URL.RawPath != "" || h.Store == nil {
		return "", false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", false
	}
	name, ok := hostName(r.Host)
	if !ok || h.Managed != nil && !h.Managed(name) {
		return "", false
	}
	return token, true
}

// find returns the key authorization that is pending for token, or an error
// that is fs.ErrNotExist.
func (h *HTTP01) find(ctx context.Context, token string) (string, error) {
	value, err := h.answers.get(ctx, h.Store, http01Prefix, token, loggerOr(h.Logger))
	if err != nil {
		return "", err
	}
	a, err := decodeAnswer(value)
	if err != nil {
		err = errBroken(h.Store, http01Prefix+token, err)
		loggerOr(h.Logger).Warn("challenge answer is broken", "error", err)
		return "", err
	}
	if !strings.HasPrefix(a.KeyAuthorization, token+".") {
		return "", fs.ErrNotExist // a value that was moved here
	}
	return a.KeyAuthorization, nil
}

// writeAnswer writes the key authorization and nothing else: validators
// compare the whole body (RFC 8555 §8.3).
func writeAnswer(w http.ResponseWriter, r *http.Request, keyAuthorization string) {
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Length", strconv.Itoa(len(keyAuthorization)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		io.WriteString(w, keyAuthorization)
	}
}

func errNoStore(typ string) error {
	return fmt.Errorf("challenge: %s has no Store to keep answers in: set its Store field", typ)
}

func errBroken(s store.Store, key string, err error) error {
	return fmt.Errorf("challenge: %s is not an answer: %w; it can be deleted", store.Locate(s, key), err)
}

func loggerOr(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.Default()
	}
	return l
}
