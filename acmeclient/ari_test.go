package acmeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

const (
	testCertID = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" // of RFC 9773 §4.1
	testWindow = `{"suggestedWindow": {"start": "2026-12-01T00:00:00Z", "end": "2026-12-02T12:00:00+02:00"}}`
)

func TestRenewalInfoIsAskedForWithoutAnAccount(t *testing.T) {
	f := newFakeCA()
	f.mux.HandleFunc("/ari/"+testCertID, func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.Header.Get("Accept"), "application/json"; got != want {
			t.Errorf("got Accept %q, want %q", got, want)
		}
		answer(200, testWindow, "Retry-After: 21600")(w, r)
	})
	info, err := f.client(t).RenewalInfo(t.Context(), testCertID)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Start, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("got start %v, want %v", got, want)
	}
	if got, want := info.End, time.Date(2026, 12, 2, 10, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("got end %v, want %v", got, want)
	}
	if got, want := strings.Join(f.trace(), " "), "GET /directory GET /ari/"+testCertID; got != want {
		t.Errorf("got requests %q, want %q", got, want)
	}
}

func TestRenewalInfoClampsRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                              6 * time.Hour,
		"0":                             6 * time.Hour,
		"-5":                            6 * time.Hour,
		"soon":                          6 * time.Hour,
		"Sat, 21 Nov 2020 12:00:00 GMT": 6 * time.Hour,
		"1":                             time.Minute,
		"60":                            time.Minute,
		"61":                            61 * time.Second,
		"25000":                         25_000 * time.Second,
		"86401":                         24 * time.Hour,
		"999999999999999999999999":      24 * time.Hour,
	} {
		f := newFakeCA()
		f.mux.HandleFunc("/ari/", answer(200, testWindow, "Retry-After: "+header))
		info, err := f.client(t).RenewalInfo(t.Context(), testCertID)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.RetryAfter; got != want {
			t.Errorf("Retry-After %q: got %v, want %v", header, got, want)
		}
	}
}

func TestRenewalInfoKeepsOnlyExplanationsThatCanBeShown(t *testing.T) {
	for page, want := range map[string]bool{
		"https://ca.test/why?incident=7#part": true,
		"http://ca.test/why":                  true,
		"":                                    false,
		"javascript:alert(1)":                 false,
		"ftp://ca.test/why":                   false,
		"//ca.test/why":                       false,
		"https://":                            false,
		"https://user:secret@ca.test/":        false,
		"https://ca.test/\x1b[2J":             false,
		"https://ca.test/\u202egpj":           false,
		"https://ca.test/%zz":                 false,
		"https://ca.test/" + strings.Repeat("x", 2040): false,
	} {
		body, err := json.Marshal(map[string]any{
			"suggestedWindow": map[string]string{"start": "2026-12-01T00:00:00Z", "end": "2026-12-02T00:00:00Z"},
			"explanationURL":  page,
		})
		if err != nil {
			t.Fatal(err)
		}
		f := newFakeCA()
		f.mux.HandleFunc("/ari/", answer(200, string(body)))
		info, err := f.client(t).RenewalInfo(t.Context(), testCertID)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.ExplanationURL; got != "" != want || want && got != page {
			t.Errorf("%.60q: got %q, want it kept: %v", page, got, want)
		}
	}
}

func TestRenewalInfoErrorsSayWhenToAskAgain(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer reading
		want   string
		pause  time.Duration
	}{
		{"a server error", reading{500, problemBody("serverInternal", "oops"), nil}, "oops", time.Minute},
		{"an overloaded CA", reading{503, "", []string{"Retry-After: 600"}}, "503", 10 * time.Minute},
		{"an overloaded CA that asks for little", reading{503, "", []string{"Retry-After: 1"}}, "503", time.Minute},
		{"a limit", reading{429, problemBody("rateLimited", "slow down"), []string{"Retry-After: 3600"}}, "slow down", time.Hour},
		{"a limit without a time", reading{429, problemBody("rateLimited", "slow down"), nil}, "slow down", 6 * time.Hour},
		{"a limit for ever", reading{429, "", []string{"Retry-After: 99999999"}}, "429", 24 * time.Hour},
		{"an unknown certificate", reading{404, problemBody("malformed", "no such certificate"), nil}, "no such certificate", 6 * time.Hour},
		{"a redirect", reading{302, "", []string{"Location: https://elsewhere.test/"}}, "redirects", 6 * time.Hour},
		{"an empty success", reading{204, "", nil}, "No Content", 6 * time.Hour},
		{"a lost reply", reading{}, "connection reset", 6 * time.Hour},
		{"what is not JSON", reading{200, "<html>", nil}, "not JSON", 6 * time.Hour},
		{"nothing", reading{200, "{}", nil}, "has no window", 6 * time.Hour},
		{"a window without end", reading{200, `{"suggestedWindow": {"start": "2026-12-01T00:00:00Z"}}`, nil}, "has no window", 6 * time.Hour},
		{"a window of numbers", reading{200, `{"suggestedWindow": {"start": 1, "end": 2}}`, nil}, "has no window", 6 * time.Hour},
		{"a window that ends before its start", reading{200, `{"suggestedWindow": {"start": "2026-12-02T00:00:00Z", "end": "2026-12-01T00:00:00Z"}}`, []string{"Retry-After: 60"}},
			"does not end after its start", 6 * time.Hour},
		{"a window that ends at its start", reading{200, `{"suggestedWindow": {"start": "2026-12-02T00:00:00Z", "end": "2026-12-02T02:00:00+02:00"}}`, nil},
			"does not end after its start", 6 * time.Hour},
		{"a huge reply", reading{200, testWindow + strings.Repeat(" ", maxBody), nil}, "larger than", 6 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no time passes between the reply and its use
				f := newFakeCA()
				f.mux.HandleFunc("/ari/", answers(test.answer))
				info, err := f.client(t).RenewalInfo(t.Context(), testCertID)
				wantText(t, err, test.want)
				wantText(t, err, "cannot read the renewal information")
				if p := wantProblem(t, err); p.URL != fakeBase+"/ari/"+testCertID {
					t.Errorf("got URL %q", p.URL)
				}
				if want := (RenewalInfo{RetryAfter: test.pause}); info != want {
					t.Errorf("got %+v, want %+v", info, want)
				}
			})
		})
	}
}

func TestRenewalInfoTimeOutsAreTemporary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		hang := roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/ari/") {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return f.RoundTrip(r)
		})
		c, err := New(CA{URL: fakeBase + "/directory"}, &http.Client{Transport: hang, Timeout: time.Minute}, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := c.RenewalInfo(t.Context(), testCertID)
		wantText(t, err, "no complete answer within 1m0s")
		if got, want := info.RetryAfter, time.Minute; got != want {
			t.Errorf("the CA's time-out: got RetryAfter %v, want %v", got, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		info, err = c.RenewalInfo(ctx, testCertID)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want the context's", err)
		}
		if got, want := info.RetryAfter, time.Minute; got != want {
			t.Errorf("the caller's time-out: got RetryAfter %v, want %v", got, want)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRenewalInfoThatIsNotOffered(t *testing.T) {
	f := &fakeCA{mux: http.NewServeMux()}
	f.mux.HandleFunc("/directory", answer(200, `{"newNonce": "https://ca.test/n", "newAccount": "https://ca.test/a", "newOrder": "https://ca.test/o", "renewalInfo": "http://ca.test/plain"}`))
	info, err := f.client(t).RenewalInfo(t.Context(), testCertID)
	if !errors.Is(err, ErrNoRenewalInfo) {
		t.Errorf("got error %v, want ErrNoRenewalInfo", err)
	}
	if got, want := info.RetryAfter, 6*time.Hour; got != want {
		t.Errorf("got RetryAfter %v, want %v", got, want)
	}
}

func TestRenewalInfoOfAnUnreachableCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{mux: http.NewServeMux()}
		f.mux.HandleFunc("/directory", answer(503, ""))
		info, err := f.client(t).RenewalInfo(t.Context(), testCertID)
		wantText(t, err, "503")
		if got, want := info.RetryAfter, time.Minute; got != want {
			t.Errorf("got RetryAfter %v, want %v", got, want)
		}
	})
}

func TestRenewalInfoRefusesWhatIsNoCertID(t *testing.T) {
	for _, id := range []string{"", ".", "a.", ".b", "a", "a.b.c", "a/../b.c", "a.b?c", "ä.b", "a.b=", strings.Repeat("a", 512) + ".b"} {
		f := newFakeCA()
		_, err := f.client(t).RenewalInfo(t.Context(), id)
		wantText(t, err, "is not the ID of a certificate")
		if got, want := strings.Join(f.trace(), " "), "GET /directory"; got != want {
			t.Errorf("%q: got requests %q, want %q", id, got, want)
		}
	}
}

func TestRenewalInfoURLMayEndInASlash(t *testing.T) {
	f := &fakeCA{mux: http.NewServeMux()}
	f.mux.HandleFunc("/directory", answer(200, strings.Replace(fakeDirectory, "/ari", "/ari/", 1)))
	f.mux.HandleFunc("/ari/"+testCertID, answer(200, testWindow))
	if _, err := f.client(t).RenewalInfo(t.Context(), testCertID); err != nil {
		t.Error(err)
	}
}

func TestRenewalInfoFromAcmetest(t *testing.T) {
	ca := &acmetest.CA{RenewalInfo: true}
	defer ca.Close()
	u := newUser(t, ca, "a.example")
	chain, err := u.attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leaf := mustParse(t, chain[0])
	id, err := CertID(leaf)
	if err != nil {
		t.Fatal(err)
	}
	info, err := u.client.RenewalInfo(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Start.After(leaf.NotBefore) || !info.End.Before(leaf.NotAfter) {
		t.Errorf("got %+v, want a window within %v and %v", info, leaf.NotBefore, leaf.NotAfter)
	}
	ca.SetRenewalInfo(leaf, acmetest.RenewalInfo{Start: leaf.NotBefore, End: leaf.NotBefore.Add(time.Hour), ExplanationURL: "https://ca.test/why", RetryAfter: time.Hour})
	want := RenewalInfo{leaf.NotBefore, leaf.NotBefore.Add(time.Hour), "https://ca.test/why", time.Hour}
	if got, err := u.client.RenewalInfo(t.Context(), id); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func FuzzRenewalInfo(f *testing.F) {
	for _, body := range []string{
		testWindow, "{}", "null", "[]", "", `{"suggestedWindow": [], "explanationURL": 7}`,
		`{"suggestedWindow": {"start": "0000-01-01T00:00:00Z", "end": "9999-12-31T23:59:59Z"}, "explanationURL": "https://ca.test/\u001b"}`,
		`{"suggestedWindow": {"start": "2026-12-02T00:00:00Z", "end": "2026-12-01T00:00:00Z"}}`,
	} {
		f.Add([]byte(body), "21600")
	}
	f.Add([]byte(testWindow), "Sat, 21 Nov 2026 12:00:00 GMT")
	f.Fuzz(func(t *testing.T, body []byte, retry string) {
		r := &reply{url: fakeBase + "/ari/x.y", status: 200, header: http.Header{"Retry-After": {retry}}, body: body, at: testNow}
		info, p := parseRenewalInfo("read the renewal information", r)
		if p != nil {
			if info != (RenewalInfo{}) {
				t.Errorf("got %+v with error %v", info, p)
			}
			if text := p.Error(); clean(text, len(text)) != text {
				t.Errorf("the error cannot be printed: %q", text)
			}
			return
		}
		if !info.End.After(info.Start) || info.Start.IsZero() {
			t.Errorf("got the window %v to %v", info.Start, info.End)
		}
		if info.RetryAfter < minRenewalInfoPause || info.RetryAfter > maxRenewalInfoPause {
			t.Errorf("got RetryAfter %v", info.RetryAfter)
		}
		if page := info.ExplanationURL; page != "" && (clean(page, maxURL) != page || !strings.HasPrefix(strings.ToLower(page), "http")) {
			t.Errorf("got ExplanationURL %q", page)
		}
	})
}

func ExampleClient_RenewalInfo() {
	ca := &acmetest.CA{}
	defer ca.Close()
	client, err := New(CA{URL: ca.DirectoryURL()}, ca.Client(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := client.RenewalInfo(context.Background(), testCertID)
	fmt.Println(errors.Is(err, ErrNoRenewalInfo), info.RetryAfter)
	// Output: true 6h0m0s
}
