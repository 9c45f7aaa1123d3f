package status_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/manageddomains/md/status"
)

var update = flag.Bool("update", false, "write the golden files")

// source is a Source of what it holds.
type source []status.Domain

func (s source) Status() iter.Seq[status.Domain] { return slices.Values(s) }

var morning = time.Date(2026, 11, 21, 10, 0, 0, 0, time.FixedZone("CET", 3600))

// domains stand as badly as they can.
func domains() source {
	return source{
		{
			Name:  "example.com",
			Names: []string{"example.com", "www.example.com", "bücher.example"},
			State: status.Good,
			CA:    "https://ca.example/directory",
			Certificates: []status.Certificate{
				{
					KeyType:           "P-256",
					Names:             []string{"example.com", "www.example.com", "xn--bcher-kva.example"},
					Serial:            "0ABC",
					Issuer:            "E7",
					NotBefore:         morning.Add(-30 * day),
					NotAfter:          morning.Add(60 * day),
					SHA256Fingerprint: strings.Repeat("a1", 32),
					CA:                "https://ca.example/directory",
					URL:               "https://ca.example/cert/1",
				},
				{
					KeyType:           "RSA-2048",
					Names:             []string{"example.com", "www.example.com", "xn--bcher-kva.example"},
					Serial:            "0ABD",
					Issuer:            "R12",
					NotBefore:         morning.Add(-31 * day),
					NotAfter:          morning.Add(59 * day),
					SHA256Fingerprint: strings.Repeat("b2", 32),
				},
			},
			RenewAt: morning.Add(30 * day),
		},
		{
			Name:   "broken.example",
			Names:  []string{"broken.example", "alias.example"},
			State:  status.Pending,
			Reason: "there is no certificate yet",
			CA:     "https://ca.example/directory",
			Renewal: &status.Renewal{
				Attempts:    3,
				LastError:   "the CA said: \x1b[2Jno \u202egnp.exe\u202c\nand <b>more</b> \xff",
				LastProblem: "urn:ietf:params:acme:error:dns",
				LastAttempt: morning,
				NextAttempt: morning.Add(time.Hour),
				Log: []status.LogEntry{
					{Time: morning.Add(-time.Hour), What: "renewing"},
					{Time: morning, What: "errored", Detail: "no\tsuch\r\nname"},
				},
			},
		},
		{
			Name:    "old.example",
			Names:   []string{"old.example"},
			State:   status.Expired,
			Renewal: &status.Renewal{Running: true, Activity: "waiting for the CA"},
		},
	}
}

func get(h http.Handler, method, path string) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
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

func TestReports(t *testing.T) {
	for _, c := range []struct {
		golden string
		h      http.Handler
		path   string
	}{
		{"all.json", status.JSON(domains()), "/md-status"},
		{"one.json", status.JSON(domains()), "/md-status/broken.example"},
		{"none.json", status.JSON(source{}), "/"},
		{"all.txt", status.Text(domains()), "/md-status"},
		{"one.txt", status.Text(domains()), "/md-status/broken.example"},
		{"none.txt", status.Text(source{}), "/"},
	} {
		t.Run(c.golden, func(t *testing.T) {
			got := body(t, get(c.h, "GET", c.path))
			file := filepath.Join("testdata", c.golden)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
				t.Errorf("got\n%s\nwant\n%s\n(go test ./status -update writes it)", got, want)
			}
		})
	}
}

func TestTheListInJSON(t *testing.T) {
	for _, src := range []source{nil, domains()[:1], domains()} {
		var list struct{ Domains []status.Domain }
		text := body(t, get(status.JSON(src), "GET", "/"))
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if list.Domains == nil || len(list.Domains) != len(src) {
			t.Errorf("%d Domains, want a list of %d", len(list.Domains), len(src))
		}
		for _, d := range list.Domains {
			if d.Renewal != nil && d.Renewal.Log != nil {
				t.Errorf("the list has the log of %s", d.Name)
			}
		}
	}
}

func TestThePathSelects(t *testing.T) {
	for path, want := range map[string]string{
		"/x/example.com":                  "example.com",
		"/example.com":                    "example.com",
		"/x/EXAMPLE.com":                  "example.com",
		"/x/example.com/":                 "example.com",
		"/x/alias.example":                "broken.example",
		"/x/b%C3%BCcher.example":          "example.com",
		"/x/xn--bcher-kva.example":        "example.com", // as the log and events have it
		"/x/unknown.example":              "",
		"/x/old.example/y":                "",
		"/x":                              "",
		"/":                               "",
		"/x/%2e%2e/":                      "",
		"/x/" + strings.Repeat("a", 5000): "",
	} {
		var d status.Domain
		if err := json.Unmarshal([]byte(body(t, get(status.JSON(domains()), "GET", path))), &d); err != nil {
			t.Fatal(err)
		}
		if d.Name != want {
			t.Errorf("%s selects %q, want %q", path, d.Name, want)
		}
	}
	// The name of a Domain goes before a DNS name of another one.
	src := source{{Name: "a", Names: []string{"b"}}, {Name: "b", Names: []string{"a"}}}
	if got := body(t, get(status.Text(src), "GET", "/b")); !strings.HasPrefix(got, "b\n") {
		t.Errorf("/b selects\n%s", got)
	}
}

func TestHeaders(t *testing.T) {
	for want, h := range map[string]http.Handler{
		"application/json":          status.JSON(domains()),
		"text/plain; charset=utf-8": status.Text(domains()),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := get(h, method, "/")
			for name, want := range map[string]string{
				"Content-Type":           want,
				"Cache-Control":          "no-store",
				"X-Content-Type-Options": "nosniff",
			} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", method, name, got, want)
				}
			}
			if text := body(t, r); method == "HEAD" && text != "" {
				t.Errorf("HEAD has a body: %s", text)
			}
		}
		r := get(h, "POST", "/")
		if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: status %d, Allow %q; want 405 and GET, HEAD", r.StatusCode, r.Header.Get("Allow"))
		}
	}
}

// hostile is a Domain each of whose texts is s, and whose times cannot be
// written as RFC 3339 has it.
func hostile(s string) status.Domain {
	when := time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600))
	return status.Domain{
		Name: s, Names: []string{s}, State: status.State(s), Reason: s, CA: s, RenewAt: when,
		Certificates: []status.Certificate{{
			KeyType: s, Names: []string{s}, Serial: s, Issuer: s, SHA256Fingerprint: s, CA: s, URL: s, NotBefore: when, NotAfter: when,
		}},
		Renewal: &status.Renewal{
			Running: true, Activity: s, Attempts: 1, LastError: s, LastProblem: s, LastAttempt: when, NextAttempt: when,
			Log: []status.LogEntry{{Time: when, What: s, Detail: s}},
		},
	}
}

func checkPrintable(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029') {
			t.Errorf("%U is printed in\n%q", r, text)
			return
		}
	}
}

func FuzzReports(f *testing.F) {
	for _, s := range []string{"example.com", "\x1b[31mred", "a\u202eb", "\u2066x\u2069", "a\nb\r\n", "\xff\xfe", "</script>", "\u0085\u009b", "\U000e0041", strings.Repeat("long ", 1000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src := source{hostile(s)}
		for _, path := range []string{"/", "/name"} {
			src[0].Names = append(src[0].Names[:1], "name")
			text := body(t, get(status.Text(src), "GET", path))
			checkPrintable(t, text)
			// However long the words are, a report has as many lines as facts.
			if got := strings.Count(text, "\n"); got > 40 {
				t.Errorf("%q makes %d lines", s, got)
			}
			text = body(t, get(status.JSON(src), "GET", path))
			checkPrintable(t, text)
			if !json.Valid([]byte(text)) {
				t.Errorf("%q makes bad JSON: %s", s, text)
			}
		}
	})
}

func TestTextIsCut(t *testing.T) {
	d := status.Domain{Name: "x", Renewal: &status.Renewal{LastError: strings.Repeat("ä", 5000)}}
	text := body(t, get(status.Text(source{d}), "GET", "/"))
	if got := strings.Count(text, "ä"); got != 1000 || !strings.Contains(text, "ä…\n") {
		t.Errorf("%d characters of an error are shown, want 1000 and an ellipsis", got)
	}
}

// A report does not change what it is about.
func TestReportsLeaveTheirSourceAlone(t *testing.T) {
	src := domains()
	for _, h := range []http.Handler{status.JSON(src), status.Text(src)} {
		get(h, "GET", "/")
		get(h, "GET", "/broken.example")
	}
	before, _ := json.Marshal(domains())
	after, _ := json.Marshal(src)
	if string(after) != string(before) {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// goneWriter is a client that has gone after some bytes.
type goneWriter struct {
	http.ResponseWriter
	left int
}

func (w *goneWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errors.New("gone")
	}
	return w.ResponseWriter.Write(b)
}

// countedSource counts what it yields.
type countedSource struct{ yielded int }

func (s *countedSource) Status() iter.Seq[status.Domain] {
	return func(yield func(status.Domain) bool) {
		for range 1_000_000 {
			s.yielded++
			if !yield(status.Domain{Name: "a.example", State: status.Good}) {
				return
			}
		}
	}
}

func TestReportsEndWithTheirClient(t *testing.T) {
	for name, handler := range map[string]func(status.Source) http.Handler{"JSON": status.JSON, "Text": status.Text} {
		src := new(countedSource)
		handler(src).ServeHTTP(&goneWriter{httptest.NewRecorder(), 10_000}, httptest.NewRequest("GET", "/", nil))
		if src.yielded > 1000 {
			t.Errorf("%s: %d Domains were asked for after the client had gone", name, src.yielded)
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	h := status.JSON(domains())
	for b.Loop() {
		get(h, "GET", "/")
	}
}
