package challenge_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/challenge/challengetest"
	"github.com/manageddomains/md/store"
)

const (
	token      = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
	thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	otherToken = "DGyRejmCefe7v4NfDGDKfA"
	path       = "/.well-known/acme-challenge/"
)

func httpChallenge(name, token string) challenge.Challenge {
	return challenge.Challenge{Type: challenge.TypeHTTP01, Name: name, Token: token, KeyAuthorization: token + "." + thumbprint}
}

func present(t *testing.T, c challenge.Challenger, ch challenge.Challenge) {
	t.Helper()
	if err := c.Present(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
}

// ask makes one request as a validator would, without a network.
func ask(h http.Handler, method, host, target string) *http.Response {
	r := httptest.NewRequest(method, "http://placeholder"+target, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// next is whatever stands behind the challenges.
var next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })

func TestHTTP01KeepsThePromises(t *testing.T) {
	s := new(store.Memory)
	h := &challenge.HTTP01{Store: s}
	// Another process answers.
	handler := (&challenge.HTTP01{Store: s}).Handler(nil)
	challengetest.Run(t, h, func(t *testing.T, ctx context.Context, ch challenge.Challenge) bool {
		r := ask(handler, "GET", ch.Name, path+ch.Token)
		return r.StatusCode == http.StatusOK && body(t, r) == ch.KeyAuthorization
	}, &challenge.HTTP01{Store: s})
}

func TestHTTP01Handler(t *testing.T) {
	h := &challenge.HTTP01{
		Store:   new(store.Memory),
		Managed: func(name string) bool { return name != "unmanaged.example" },
	}
	present(t, h, httpChallenge("example.com", token))
	present(t, h, httpChallenge("2001:DB8::1", "v6"))
	present(t, h, httpChallenge("192.0.2.1", "v4"))
	present(t, h, httpChallenge("unmanaged.example", "unmanaged"))
	handler := h.Handler(next)

	for name, c := range map[string]struct {
		method, host, target string
		want                 string // "": left to next
	}{
		"a validator is answered":              {"GET", "example.com", path + token, token},
		"the port does not matter":             {"GET", "example.com:5002", path + token, token},
		"the case of the host does not matter": {"GET", "EXAMPLE.com.", path + token, token},
		"a query does not matter":              {"GET", "example.com", path + token + "?x=y", token},
		"an IPv4 address is a name":            {"GET", "192.0.2.1", path + "v4", "v4"},
		"an IPv6 address is a name":            {"GET", "[2001:db8::1]:80", path + "v6", "v6"},
		"a host redirected to is answered":     {"GET", "www.example.com", path + token, token},
		"an unmanaged name is not":             {"GET", "unmanaged.example", path + "unmanaged", ""},
		"no host is not":                       {"GET", "", path + token, ""},
		"a broken host is not":                 {"GET", "a/../b", path + token, ""},
		"an unknown token is not":              {"GET", "example.com", path + otherToken, ""},
		"a token in other case is not":         {"GET", "example.com", path + strings.ToLower(token), ""},
		"a prefix of a token is not":           {"GET", "example.com", path + token[:20], ""},
		"the directory is not":                 {"GET", "example.com", path, ""},
		"the directory without slash is not":   {"GET", "example.com", strings.TrimSuffix(path, "/"), ""},
		"a path below is not":                  {"GET", "example.com", path + token + "/", ""},
		"a path that climbs is not":            {"GET", "example.com", path + "../" + token, ""},
		"an escaped token is not":              {"GET", "example.com", path + "%4c" + token[1:], ""},
		"an escaped slash is not":              {"GET", "example.com", path + "..%2f" + token, ""},
		"a doubled slash is not":               {"GET", "example.com", "/" + path + token, ""},
		"a token that is too long is not":      {"GET", "example.com", path + strings.Repeat("a", 129), ""},
		"POST is not":                          {"POST", "example.com", path + token, ""},
		"another path is not":                  {"GET", "example.com", "/", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask(handler, c.method, c.host, c.target)
			if c.want == "" {
				if r.StatusCode != http.StatusTeapot {
					t.Errorf("status %d, want that of the next handler", r.StatusCode)
				}
				return
			}
			if got, want := body(t, r), c.want+"."+thumbprint; r.StatusCode != http.StatusOK || got != want {
				t.Errorf("got %d %q, want 200 %q", r.StatusCode, got, want)
			}
		})
	}
}

func TestHTTP01Headers(t *testing.T) {
	h := &challenge.HTTP01{Store: new(store.Memory)}
	present(t, h, httpChallenge("example.com", token))
	for _, method := range []string{"GET", "HEAD"} {
		r := ask(h.Handler(nil), method, "example.com", path+token)
		want := token + "." + thumbprint
		if got := r.Header.Get("Content-Type"); got != "application/octet-stream" {
			t.Errorf("%s: Content-Type is %q", method, got)
		}
		if got := r.Header.Get("Content-Length"); got != fmt.Sprint(len(want)) {
			t.Errorf("%s: Content-Length is %q, want %d", method, got, len(want))
		}
		if method == "HEAD" {
			want = ""
		}
		if got := body(t, r); got != want {
			t.Errorf("%s: body is %q, want %q", method, got, want)
		}
	}
	if got := ask(h.Handler(nil), "GET", "example.com", path+otherToken).StatusCode; got != http.StatusNotFound {
		t.Errorf("without a next handler the status is %d, want 404", got)
	}
}

func TestHTTP01ReadsOnlyWhatCouldBeAsked(t *testing.T) {
	s := &deafStore{t: t}
	h := &challenge.HTTP01{Store: s, Managed: func(name string) bool { return name == "example.com" }}
	for _, target := range []string{path + "a.b", path + "a/b", path, "/"} {
		ask(h.Handler(next), "GET", "example.com", target)
	}
	ask(h.Handler(next), "GET", "other.example", path+token)
	ask(h.Handler(next), "PUT", "example.com", path+token)
}

// deafStore fails the test if it is read.
type deafStore struct {
	store.Memory
	t *testing.T
}

func (s *deafStore) Get(_ context.Context, key string) ([]byte, store.Version, error) {
	s.t.Errorf("the Store was asked for %s", key)
	return nil, "", fs.ErrNotExist
}

// brokenStore cannot be read.
type brokenStore struct{ store.Memory }

func (*brokenStore) Get(context.Context, string) ([]byte, store.Version, error) {
	return nil, "", io.ErrUnexpectedEOF
}

func TestHTTP01SaysThatTheStoreCannotBeRead(t *testing.T) {
	var log strings.Builder
	h := &challenge.HTTP01{Store: new(brokenStore), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	r := ask(h.Handler(next), "GET", "example.com", path+token)
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("got %d with Retry-After %q, want 503 with one", r.StatusCode, r.Header.Get("Retry-After"))
	}
	if !strings.Contains(log.String(), io.ErrUnexpectedEOF.Error()) {
		t.Errorf("the log does not say why: %s", &log)
	}
	if err := h.CleanUp(t.Context(), httpChallenge("example.com", token)); err == nil {
		t.Error("CleanUp returned nil though the Store cannot be read")
	}
}

func TestHTTP01DistrustsTheStore(t *testing.T) {
	good := fmt.Sprintf(`{"name":"example.com","key-authorization":"%s.%s"}`, token, thumbprint)
	for name, c := range map[string]struct {
		value string
		want  int
	}{
		"a whole value is answered":                 {good, http.StatusOK},
		"fields of later versions do no harm":       {strings.Replace(good, "{", `{"later":1,`, 1), http.StatusOK},
		"a torn value is an error":                  {good[:20], http.StatusServiceUnavailable},
		"an empty value is an error":                {"", http.StatusServiceUnavailable},
		"a large value is an error":                 {good + strings.Repeat(" ", 5000), http.StatusServiceUnavailable},
		"HTML is an error":                          {strings.Replace(good, token, "<script>", 1), http.StatusServiceUnavailable},
		"a line feed is an error":                   {strings.Replace(good, thumbprint, thumbprint[1:]+`\n`, 1), http.StatusServiceUnavailable},
		"an odd name is an error":                   {strings.Replace(good, "example.com", "EXAMPLE.com", 1), http.StatusServiceUnavailable},
		"the answer for another token is not given": {strings.Replace(good, token, otherToken, 1), http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(store.Memory)
			h := &challenge.HTTP01{Store: s, Logger: slog.New(slog.DiscardHandler)}
			if _, err := s.Put(t.Context(), "challenges/http-01/"+token, []byte(c.value), store.None); err != nil {
				t.Fatal(err)
			}
			if got := ask(h.Handler(next), "GET", "example.com", path+token).StatusCode; got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

func TestCleanUpRemovesWhatCannotBeRead(t *testing.T) {
	s := new(store.Memory)
	h := &challenge.HTTP01{Store: s}
	key := "challenges/http-01/" + token
	if _, err := s.Put(t.Context(), key, []byte("garbage"), store.None); err != nil {
		t.Fatal(err)
	}
	if err := h.CleanUp(t.Context(), httpChallenge("example.com", token)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), key); err == nil {
		t.Error("garbage under the token's own key was left")
	}
}

func TestChallengesAreChecked(t *testing.T) {
	good := httpChallenge("example.com", token)
	change := func(f func(*challenge.Challenge)) challenge.Challenge {
		c := good
		f(&c)
		return c
	}
	for name, c := range map[string]challenge.Challenge{
		"another type":                        change(func(c *challenge.Challenge) { c.Type = challenge.TypeDNS01 }),
		"no name":                             change(func(c *challenge.Challenge) { c.Name = "" }),
		"a wildcard":                          change(func(c *challenge.Challenge) { c.Name = "*.example.com" }),
		"a name that is a path":               change(func(c *challenge.Challenge) { c.Name = "../x" }),
		"no token":                            change(func(c *challenge.Challenge) { c.Token = "" }),
		"a token that is a path":              change(func(c *challenge.Challenge) { c.Token = "../../domains/x" }),
		"a long token":                        change(func(c *challenge.Challenge) { c.Token = strings.Repeat("a", 129) }),
		"no key authorization":                change(func(c *challenge.Challenge) { c.KeyAuthorization = "" }),
		"a key authorization of other token":  change(func(c *challenge.Challenge) { c.KeyAuthorization = otherToken + "." + thumbprint }),
		"a key authorization with no SHA-256": change(func(c *challenge.Challenge) { c.KeyAuthorization = token + ".x" }),
	} {
		t.Run(name, func(t *testing.T) {
			s := new(store.Memory)
			h := &challenge.HTTP01{Store: s}
			if err := h.Present(t.Context(), c); err == nil {
				t.Error("Present takes it")
			} else if strings.Contains(err.Error(), thumbprint) {
				t.Errorf("the error tells the key authorization: %v", err)
			}
			if err := h.CleanUp(t.Context(), c); err == nil {
				t.Error("CleanUp takes it")
			}
			for item := range s.List(t.Context(), "") {
				t.Errorf("%s was stored", item.Key)
			}
		})
	}
}

func TestWithoutAStore(t *testing.T) {
	for _, c := range []challenge.Challenger{new(challenge.HTTP01), new(challenge.TLSALPN01)} {
		ch := httpChallenge("example.com", token)
		ch.Type = c.Types()[0]
		for _, err := range []error{c.Present(t.Context(), ch), c.CleanUp(t.Context(), ch)} {
			if err == nil || !strings.Contains(err.Error(), "set its Store field") {
				t.Errorf("%T: error is %v, want one that names the Store field", c, err)
			}
		}
	}
	if got := ask(new(challenge.HTTP01).Handler(next), "GET", "example.com", path+token).StatusCode; got != http.StatusTeapot {
		t.Errorf("without a Store the status is %d, want that of the next handler", got)
	}
}

// replacingStore puts another answer just before the first Delete.
type replacingStore struct {
	store.Memory
	once sync.Once
	put  func()
}

func (s *replacingStore) Delete(ctx context.Context, key string, old store.Version) error {
	s.once.Do(s.put)
	return s.Memory.Delete(ctx, key, old)
}

func TestCleanUpLeavesWhatWasPutMeanwhile(t *testing.T) {
	for name, renewed := range map[string]bool{"another answer stays": true, "the same answer goes": false} {
		t.Run(name, func(t *testing.T) {
			s := new(replacingStore)
			a := &challenge.TLSALPN01{Store: s}
			first := tlsChallenge("example.com", token)
			second := tlsChallenge("example.com", otherToken)
			present(t, a, first)
			s.put = func() {
				if renewed {
					present(t, a, second)
				} else {
					present(t, a, first)
				}
			}
			if err := a.CleanUp(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			_, _, err := s.Get(t.Context(), "challenges/tls-alpn-01/example.com")
			if got := err == nil; got != renewed {
				t.Errorf("an answer is left: %v, want %v", got, renewed)
			}
		})
	}
}
