package acmeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

const urn = "urn:ietf:params:acme:error:"

func TestPermanent(t *testing.T) {
	sub := func(kinds ...string) (subs []Subproblem) {
		for _, k := range kinds {
			subs = append(subs, Subproblem{Type: urn + k})
		}
		return subs
	}
	for _, test := range []struct {
		name string
		p    Problem
		want bool
	}{
		// What only somebody can change.
		{"agreementRequired", Problem{Status: 403, Type: urn + "agreementRequired"}, true},
		{"userActionRequired", Problem{Status: 403, Type: urn + "userActionRequired"}, true},
		{"externalAccountRequired", Problem{Status: 403, Type: urn + "externalAccountRequired"}, true},
		{"invalidContact", Problem{Status: 400, Type: urn + "invalidContact"}, true},
		{"unsupportedContact", Problem{Status: 400, Type: urn + "unsupportedContact"}, true},
		{"badCSR", Problem{Status: 400, Type: urn + "badCSR"}, true},
		{"badPublicKey", Problem{Status: 400, Type: urn + "badPublicKey"}, true},
		{"badSignatureAlgorithm", Problem{Status: 400, Type: urn + "badSignatureAlgorithm"}, true},
		{"invalidProfile", Problem{Status: 400, Type: urn + "invalidProfile"}, true},
		{"rejectedIdentifier", Problem{Status: 403, Type: urn + "rejectedIdentifier"}, true},
		{"unsupportedIdentifier", Problem{Status: 400, Type: urn + "unsupportedIdentifier"}, true},
		{"malformed", Problem{Status: 400, Type: urn + "malformed"}, true},
		{"alreadyRevoked", Problem{Status: 400, Type: urn + "alreadyRevoked"}, true},
		{"badRevocationReason", Problem{Status: 400, Type: urn + "badRevocationReason"}, true},
		{"another prefix and case", Problem{Status: 403, Type: "urn:acme:error:RejectedIdentifier"}, true},
		{"a paused name", Problem{Status: 429, Type: urn + "rateLimited", Detail: "Your account is temporarily prevented from requesting certificates for x. Please visit: https://…"}, true},
		{"compound of permanent ones", Problem{Status: 403, Type: urn + "compound", Subproblems: sub("rejectedIdentifier", "unsupportedIdentifier")}, true},
		{"terms", Problem{Err: fmt.Errorf("%w: url", ErrTerms)}, true},
		{"a closed account", Problem{Err: fmt.Errorf("%w: deactivated", ErrAccountClosed)}, true},
		{"ACMEv1", Problem{Err: errACMEv1}, true},

		// What may pass.
		{"badNonce", Problem{Status: 400, Type: urn + "badNonce"}, false},
		{"rateLimited", Problem{Status: 429, Type: urn + "rateLimited"}, false},
		{"paused until a time", Problem{Status: 429, Type: urn + "rateLimited", Detail: "temporarily prevented from requesting certificates", RetryAt: testNow}, false},
		{"serverInternal", Problem{Status: 500, Type: urn + "serverInternal"}, false},
		{"unauthorized", Problem{Status: 403, Type: urn + "unauthorized"}, false},
		{"caa", Problem{Status: 403, Type: urn + "caa"}, false},
		{"dns", Problem{Status: 400, Type: urn + "dns"}, false},
		{"connection", Problem{Status: 400, Type: urn + "connection"}, false},
		{"tls", Problem{Status: 400, Type: urn + "tls"}, false},
		{"incorrectResponse", Problem{Status: 403, Type: urn + "incorrectResponse"}, false},
		{"orderNotReady", Problem{Status: 403, Type: urn + "orderNotReady"}, false},
		{"alreadyReplaced", Problem{Status: 409, Type: urn + "alreadyReplaced"}, false},
		{"accountDoesNotExist", Problem{Status: 400, Type: urn + "accountDoesNotExist"}, false},
		{"an unknown type", Problem{Status: 400, Type: "https://ca.example/problems/tired"}, false},
		{"no type", Problem{Status: 400}, false},
		{"about:blank", Problem{Status: 403, Type: "about:blank"}, false},
		{"malformed for a forgotten order", Problem{Status: 404, Type: urn + "malformed"}, false},
		{"malformed from a broken server", Problem{Status: 502, Type: urn + "malformed"}, false},
		{"compound with one that may pass", Problem{Status: 403, Type: urn + "compound", Subproblems: sub("rejectedIdentifier", "dns")}, false},
		{"compound of nothing", Problem{Status: 403, Type: urn + "compound"}, false},
		{"a network error", Problem{Err: errLost}, false},
		{"waiting", Problem{Err: ErrWait}, false},
		{"no account", Problem{Err: ErrNoAccount, Type: urn + "malformed"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.p.Permanent(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestProblemPrintsWhatFailedAndWhatToDo(t *testing.T) {
	for _, test := range []struct {
		p    Problem
		want string
	}{
		{
			Problem{Op: "create the order", Name: "a.example", URL: "https://ca.test/o", Status: 429, Type: urn + "rateLimited", Detail: "too many", RetryAt: testNow, Help: "https://ca.test/limits"},
			"cannot create the order for a.example: rateLimited: too many (at https://ca.test/o); ask again after 2026-11-21T12:00:00Z; see https://ca.test/limits",
		},
		{Problem{Op: "look at the order", Status: 503, Detail: "Service Unavailable"}, "cannot look at the order: HTTP status 503: Service Unavailable"},
		{Problem{Op: "look at the order", Err: errLost}, "cannot look at the order: connection reset by test"},
		{Problem{Op: "register an account", Type: urn + "userActionRequired", Instance: "https://ca.test/agree", Help: "https://ca.test/help"}, "cannot register an account: userActionRequired; see https://ca.test/agree"},
		{Problem{Op: "x", Detail: "a\nb\x1b[31m\u202ec\u200b"}, "cannot x: a b?[31m?c?"},
		{Problem{Op: "x", Detail: "y", Subproblems: []Subproblem{{Name: "b.example", Type: urn + "caa", Detail: "no"}}}, "cannot x: y; b.example: caa: no"},
		{Problem{Op: "x", Detail: "y", Subproblems: make([]Subproblem, 7)}, "cannot x: y" + strings.Repeat("; a name", 5) + "; and 2 more"},
	} {
		if got := test.p.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestProblemsUnwrap(t *testing.T) {
	var err error = fmt.Errorf("attempt: %w", &Problem{Op: "x", Err: fmt.Errorf("dial: %w", context.Canceled)})
	if !errors.Is(err, context.Canceled) {
		t.Error("errors.Is does not find context.Canceled")
	}
	if errors.Is(&Problem{Op: "x", Detail: "y"}, context.Canceled) {
		t.Error("errors.Is finds context.Canceled where there is none")
	}
}

func TestParseProblemReadsWhateverCAsSend(t *testing.T) {
	hostile, err := json.Marshal(map[string]any{"type": urn + "dns\x00\u202e", "detail": strings.Repeat("é\x1b\u2066", 4000), "instance": strings.Repeat("i", 5000)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		status     int
		body       string
		wantType   string
		wantDetail string // beginning
	}{
		{"a document", 403, problemBody("caa", "CAA forbids"), urn + "caa", "CAA forbids"},
		{"a status that is text", 403, `{"status": "403", "type": "urn:x:caa", "detail": "d"}`, "urn:x:caa", "d"},
		{"a status that lies", 500, `{"status": 200, "detail": "d"}`, "", "d"},
		{"text", 502, "Bad gateway\n", "", "Bad gateway"},
		{"HTML", 502, "<html>\n<b>x</b>", "", "<html> <b>x</b>"},
		{"nothing", 503, "", "", "Service Unavailable"},
		{"nothing and no known status", 599, "", "", ""},
		{"a list", 400, "[1]", "", "Bad Request"},
		{"null", 400, "null", "", "Bad Request"},
		{"a detail that is a number", 400, `{"type": "urn:x:dns", "detail": 7}`, "urn:x:dns", "Bad Request"},
		{"control characters and bidi marks", 400, string(hostile), urn + "dns??", "é??é??"},
		{"invalid UTF-8", 400, "\xff\xfe", "", "??"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := parseProblem(&reply{status: test.status, body: []byte(test.body), at: testNow})
			if p.Status != test.status || p.Type != test.wantType || !strings.HasPrefix(p.Detail, test.wantDetail) {
				t.Errorf("got %d %q %q, want %d %q %q…", p.Status, p.Type, p.Detail, test.status, test.wantType, test.wantDetail)
			}
			checkProblem(t, p)
		})
	}
}

// checkProblem checks what is promised of the text in every Problem.
func checkProblem(t *testing.T, p *Problem) {
	t.Helper()
	if len(p.Detail) > maxDetail || len(p.Subproblems) > maxSubproblems || len(p.Instance) > maxURL || len(p.Help) > maxURL || len(p.Type) > maxShort {
		t.Errorf("the problem exceeds its bounds: %d %d %d %d %d", len(p.Detail), len(p.Subproblems), len(p.Instance), len(p.Help), len(p.Type))
	}
	texts := []string{p.Type, p.Detail, p.Instance, p.Help, p.Name, p.Error()}
	for _, s := range p.Subproblems {
		texts = append(texts, s.Name, s.Type, s.Detail)
	}
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("the text cannot be printed as it is: %q", s)
		}
		if got := clean(s, len(s)); got != strings.TrimSpace(s) {
			t.Errorf("cleaned again: got %q, want %q", got, s)
		}
	}
	if !p.RetryAt.IsZero() && p.RetryAt.Sub(testNow) > maxRetryAfter {
		t.Errorf("got a retry at %v, want it within two days", p.RetryAt)
	}
	_ = p.Permanent()
}

func TestSubproblemsAreBoundedAndNamed(t *testing.T) {
	one := `{"type": "urn:x:caa", "detail": "no", "identifier": {"type": "dns", "value": "*.a.example"}}`
	p := parseProblem(&reply{status: 403, body: []byte(`{"type": "urn:x:compound", "subproblems": [` + one + `]}`)})
	if got, want := fmt.Sprint(p.Subproblems, " ", p.Name), "[{*.a.example urn:x:caa no}] *.a.example"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := p.Subproblems[0].Kind(); got != "caa" {
		t.Errorf("got kind %q, want caa", got)
	}
	p = parseProblem(&reply{status: 403, body: []byte(`{"subproblems": [` + strings.Repeat(one+",", 1000) + one + `]}`)})
	if got := len(p.Subproblems); got != maxSubproblems || p.Name != "" {
		t.Errorf("got %d subproblems and name %q, want %d and none", got, p.Name, maxSubproblems)
	}
}

func TestLink(t *testing.T) {
	for value, want := range map[string]string{
		`<https://ca.test/help>;rel="help"`:           "https://ca.test/help",
		`<https://ca.test/help>; title="x"; REL=help`: "https://ca.test/help",
		`<https://ca.test/dir>;rel="index"`:           "",
		`https://ca.test/help;rel="help"`:             "",
		`<https://ca.test/help`:                       "",
		`<https://ca.test/a;b=1,2>;rel="help"`:        "https://ca.test/a;b=1,2",
		``:                                            "",
	} {
		if got := link(http.Header{"Link": {value}}, "help"); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
	both := http.Header{"Link": {`<https://ca.test/dir>;rel="index"`, `<https://ca.test/help>;rel="help"`}}
	if got := link(both, "help"); got != "https://ca.test/help" {
		t.Errorf("in a second header: got %q", got)
	}
}

func TestCleanCutsBetweenCharacters(t *testing.T) {
	for limit := range 12 {
		got := clean("ä€😀z!", limit)
		if len(got) > limit || !strings.HasPrefix("ä€😀z!", got) {
			t.Errorf("limit %d: got %q", limit, got)
		}
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(400, []byte(problemBody("dns", "x")), "120", `<https://ca.test>;rel="help"`)
	f.Add(500, []byte("<html>"), "Sat, 21 Nov 2026 12:00:00 GMT", "")
	f.Add(403, []byte(`{"subproblems":[{"identifier":{"value":"a"}}]}`), "-1", ">;<")
	f.Add(429, []byte("{\"detail\":\"\u202e\\u0000\"}"), "99999999999999999999", `<>;rel=help`)
	f.Fuzz(func(t *testing.T, status int, body []byte, retryAfter, link string) {
		h := http.Header{"Retry-After": {retryAfter}, "Link": {link}}
		checkProblem(t, parseProblem(&reply{status: status, body: body, header: h, at: testNow}))
	})
}

func TestRetryAtIsCountedFromTheReply(t *testing.T) {
	p := parseProblem(&reply{status: 429, header: http.Header{"Retry-After": {"90"}}, at: testNow})
	if got, want := p.RetryAt, testNow.Add(90*time.Second); !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
