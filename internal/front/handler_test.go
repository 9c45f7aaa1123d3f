package front

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/store"
)

const (
	token            = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
	keyAuthorization = token + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	challengePath    = "/.well-known/acme-challenge/" + token
)

// pending returns an HTTP01 with a challenge for example.com.
func pending(t *testing.T) *challenge.HTTP01 {
	t.Helper()
	h := &challenge.HTTP01{Store: new(store.Memory)}
	if err := h.Present(t.Context(), challenge.Challenge{
		Type: challenge.TypeHTTP01, Name: "example.com", Token: token, KeyAuthorization: keyAuthorization,
	}); err != nil {
		t.Fatal(err)
	}
	return h
}

var app = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "app") })

// ask makes a request over TLS if serverName is not "-".
func ask(h http.Handler, serverName, host, path string) *http.Response {
	r := httptest.NewRequest("GET", "http://placeholder"+path, nil)
	r.Host = host
	if serverName != "-" {
		r.TLS = &tls.ConnectionState{ServerName: serverName}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func checkAnswer(t *testing.T, r *http.Response, wantStatus int, wantBody string) {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != wantStatus || wantBody != "" && string(b) != wantBody {
		t.Errorf("got %d %q, want %d %q", r.StatusCode, b, wantStatus, wantBody)
	}
}

func TestHTTPHandler(t *testing.T) {
	h := HTTPHandler(pending(t), app)
	checkAnswer(t, ask(h, "-", "example.com", challengePath), 200, keyAuthorization)
	checkAnswer(t, ask(h, "-", "example.com", "/"), 200, "app")
	checkAnswer(t, ask(HTTPHandler(pending(t), nil), "-", "example.com", "/"), 404, "There is nothing here.\n")
	checkAnswer(t, ask(HTTPHandler(nil, app), "-", "example.com", challengePath), 200, "app")
}

func TestHTTPSHandler(t *testing.T) {
	onFallback := func(name string) bool { return name == "example.com" || name == "192.0.2.1" || name == "2001:db8::1" }
	h := HTTPSHandler(pending(t), onFallback, app)
	for name, c := range map[string]struct {
		serverName, host, path string
		status                 int
		body                   string
	}{
		"challenges are answered on the fallback": {"example.com", "example.com", challengePath, 200, keyAuthorization},
		"nothing else is":                         {"example.com", "example.com", "/", 503, ""},
		"not for another host either":             {"example.com", "other.example", "/", 503, ""},
		"the case does not matter":                {"EXAMPLE.COM", "", "/", 503, ""},
		"names with a certificate are served":     {"other.example", "other.example", "/", 200, "app"},
		"without SNI, the host counts":            {"", "Example.com.:8443", "/", 503, ""},
		"it may be an IPv4 address":               {"", "192.0.2.1:8443", "/", 503, ""},
		"it may be an IPv6 address":               {"", "[2001:db8::1]", "/", 503, ""},
		"it may be an IPv6 address with a port":   {"", "[2001:db8::1]:8443", "/", 503, ""},
		"it may be missing":                       {"", "", "/", 200, "app"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask(h, c.serverName, c.host, c.path)
			checkAnswer(t, r, c.status, c.body)
			if c.status != 503 {
				return
			}
			if got := r.Header.Get("Retry-After"); got == "" {
				t.Error("there is no Retry-After")
			}
			if got := r.Header.Get("Connection"); got != "close" {
				t.Errorf("Connection is %q, want close", got)
			}
		})
	}
	checkAnswer(t, ask(HTTPSHandler(nil, nil, nil), "a", "a", "/"), 404, "There is nothing here.\n")
	checkAnswer(t, ask(HTTPSHandler(nil, nil, app), "a", "a", "/"), 200, "app")
}
