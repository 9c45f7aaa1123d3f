package acmeclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

// authzBody is an authorization for a.example with these challenges.
func authzBody(status string, challenges ...string) string {
	return fmt.Sprintf(`{"status": %q, "identifier": {"type": "dns", "value": "a.example"}, "expires": "2026-11-21T12:00:00Z", "challenges": [%s]}`,
		status, strings.Join(challenges, ","))
}

func TestAuthorizationReadsChallenges(t *testing.T) {
	thumbprint, err := acme.JWKThumbprint(testKey(t, P256).Public())
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("t", maxToken)
	for _, test := range []struct {
		name, challenge string
		wantToken       string
		wantProblem     string
	}{
		{"a fair one", `{"type": "http-01", "token": "Abc-_9", "status": "pending"}`, "Abc-_9", ""},
		{"the longest token", `{"type": "dns-01", "token": "` + long + `"}`, long, ""},
		{"a longer one", `{"type": "dns-01", "token": "t` + long + `"}`, "", "base64url"},
		{"a path", `{"type": "http-01", "token": "../../etc/passwd"}`, "", "base64url"},
		{"padding", `{"type": "tls-alpn-01", "token": "YQ=="}`, "", "base64url"},
		{"a line break", `{"type": "http-01", "token": "a\nb"}`, "", "base64url"},
		{"none where there must be one", `{"type": "dns-account-01"}`, "", "base64url"},
		{"one that is a number", `{"type": "http-01", "token": 7}`, "", "base64url"},
		{"none where there need not be one", `{"type": "dns-persist-01", "issuer-domain-names": ["ca.test"]}`, "", ""},
		{"a bad one where there need not be one", `{"type": "x-01", "token": "/"}`, "", "base64url"},
		{"one that failed", `{"type": "http-01", "token": "abc", "status": "invalid", "error": ` + problemBody("connection", "refused") + `}`, "abc", "connection: refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeCA()
			good := `{"type": "http-01", "url": "https://ca.test/good", "token": "good"}`
			f.mux.HandleFunc("/authz", answer(200, authzBody(StatusPending, test.challenge, good)))
			a, err := f.session(t).Authorization(t.Context(), fakeBase+"/authz")
			if err != nil {
				t.Fatal(err)
			}
			if a.Name != "a.example" || !a.Expires.Equal(testNow) || len(a.Challenges) != 2 {
				t.Fatalf("got %+v", a)
			}
			c := a.Challenges[0]
			wantKeyAuthorization := ""
			if test.wantToken != "" {
				wantKeyAuthorization = test.wantToken + "." + thumbprint
			}
			if c.Token != test.wantToken || c.KeyAuthorization != wantKeyAuthorization {
				t.Errorf("got token %q and key authorization %q, want %q and %q", c.Token, c.KeyAuthorization, test.wantToken, wantKeyAuthorization)
			}
			if test.wantProblem == "" && c.Problem != nil {
				t.Errorf("got %v, want no problem", c.Problem)
			}
			if test.wantProblem != "" {
				wantText(t, c.Problem, test.wantProblem)
			}
			if c := a.Challenges[1]; c.Token != "good" || c.Problem != nil {
				t.Errorf("the other challenge: got %+v, want it untouched", c)
			}
		})
	}
}

func TestUnusableAuthorizationsAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"garbage":              {"<html>", "not JSON"},
		"no name":              {`{"status": "pending"}`, "no status or no name"},
		"no status":            {`{"identifier": {"value": "a.example"}}`, "no status or no name"},
		"very many challenges": {authzBody(StatusPending, strings.Split(strings.Repeat("{} ", maxChallenges)+"{}", " ")...), "more than 50"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/authz", answer(200, test.body))
				_, err := f.session(t).Authorization(t.Context(), fakeBase+"/authz")
				wantText(t, err, test.want)
				wantProblem(t, err)
			})
		})
	}
}

func TestAcceptRefusesAChallengeWithoutToken(t *testing.T) {
	f := newFakeCA()
	s := f.session(t)
	err := s.Accept(t.Context(), Challenge{Type: "http-01", URL: fakeBase + "/challenge"})
	wantText(t, err, "no token")
	f.mux.HandleFunc("/authz", answer(200, authzBody(StatusPending, `{"type": "http-01", "token": "/", "url": "https://ca.test/challenge"}`)))
	a, err := s.Authorization(t.Context(), fakeBase+"/authz")
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, s.Accept(t.Context(), a.Challenges[0]), "for a.example: the CA's token")
	if got := f.count("POST /challenge"); got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
}

func TestAcceptSucceedsWhateverTheReplySays(t *testing.T) {
	for _, reply := range []reading{{200, `{"status": "processing"}`, nil}, {202, "", nil}, {200, "<html>", nil}, {204, "", nil}} {
		f := newFakeCA()
		f.mux.HandleFunc("/challenge", func(w http.ResponseWriter, r *http.Request) {
			if got := payload(t, r); got != "{}" {
				t.Errorf("got payload %s, want {}", got)
			}
			answers(reply)(w, r)
		})
		if err := f.session(t).Accept(t.Context(), Challenge{Type: "http-01", Token: "abc", URL: fakeBase + "/challenge"}); err != nil {
			t.Errorf("%v: %v", reply, err)
		}
	}
	f := newFakeCA()
	f.mux.HandleFunc("/challenge", answer(400, problemBody("malformed", "too late")))
	err := f.session(t).Accept(t.Context(), Challenge{Type: "dns-persist-01", URL: fakeBase + "/challenge"})
	wantText(t, err, "cannot accept the dns-persist-01 challenge: malformed: too late")
}

func TestAcceptFindsOutWhetherTheCAHasTakenIt(t *testing.T) {
	malformed := reading{400, problemBody("malformed", "not pending"), nil}
	for _, test := range []struct {
		name    string
		replies []reading
		want    string // in the error; empty: none
		posts   int
	}{
		{"a lost reply", []reading{{}, {200, `{"status": "processing"}`, nil}}, "", 2},
		{"a lost request", []reading{{}, {200, `{"status": "pending"}`, nil}}, errLost.Error(), 2},
		{"a challenge that is decided", []reading{malformed, {200, `{"status": "invalid"}`, nil}}, "", 2},
		{"a challenge that is being looked at", []reading{malformed, {200, `{"status": "processing"}`, nil}}, "", 2},
		{"a challenge that is pending", []reading{malformed, {200, `{"status": "pending"}`, nil}}, "not pending", 2},
		{"a challenge that cannot be read", []reading{malformed, {200, `<html>`, nil}}, "not pending", 4},
		{"a challenge that cannot be looked at", []reading{malformed, {500, ``, nil}}, "not pending", 4},
		{"a limit", []reading{{429, problemBody("rateLimited", "slow down"), nil}}, "slow down", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/challenge", answers(test.replies...))
				err := f.session(t).Accept(t.Context(), Challenge{Type: "http-01", Token: "abc", URL: fakeBase + "/challenge", Status: StatusPending})
				if test.want != "" {
					wantText(t, err, test.want)
					wantProblem(t, err)
				} else if err != nil {
					t.Error(err)
				}
				if got := f.count("POST /challenge"); got != test.posts {
					t.Errorf("got %d requests, want %d", got, test.posts)
				}
			})
		})
	}
	for _, status := range []string{StatusProcessing, StatusValid} {
		f := newFakeCA()
		if err := f.session(t).Accept(t.Context(), Challenge{Type: "http-01", Token: "abc", URL: fakeBase + "/challenge", Status: status}); err != nil {
			t.Errorf("%s: %v", status, err)
		}
		if got := f.trace(); len(got) != 0 {
			t.Errorf("%s: got requests %q, want none", status, got)
		}
	}
}

func TestWaitAuthorizationGivesTheCATimeToLook(t *testing.T) {
	for _, test := range []struct {
		name   string
		accept reading
		want   time.Duration
	}{
		{"a moment if it says nothing", reading{200, `{"status": "pending"}`, nil}, firstPause},
		{"a moment if its reply is empty", reading{202, ``, nil}, firstPause},
		{"as long as it says", reading{200, `{"status": "processing"}`, []string{"Retry-After: 7"}}, 7 * time.Second},
		{"none if it has looked", reading{200, `{"status": "valid"}`, nil}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/challenge", answers(test.accept))
				f.mux.HandleFunc("/authz", answer(200, authzBody(StatusValid)))
				s := f.session(t)
				if err := s.Accept(t.Context(), Challenge{Type: "http-01", Token: "abc", URL: fakeBase + "/challenge"}); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				for range 2 { // the second finds that time has passed
					if _, err := s.WaitAuthorization(t.Context(), fakeBase+"/authz"); err != nil {
						t.Fatal(err)
					}
				}
				if got := time.Since(start); got != test.want {
					t.Errorf("got %v, want %v", got, test.want)
				}
				if got := f.count("POST /authz"); got != 2 {
					t.Errorf("got %d requests, want 2", got)
				}
			})
		})
	}
}

func TestWaitAuthorizationFailsWithTheProblemOfTheChallenge(t *testing.T) {
	const pending = `{"type": "dns-01", "token": "abc", "status": "pending"}`
	failed := `{"type": "http-01", "token": "abc", "status": "invalid", "error": ` + problemBody("unauthorized", "wrong content\u202e") + `}`
	for _, test := range []struct{ name, body, want string }{
		{"a failed challenge", authzBody(StatusInvalid, pending, failed), "cannot prove control of the name for a.example: unauthorized: wrong content?"},
		{"no reason", authzBody(StatusInvalid, pending), `the authorization is "invalid"`},
		{"a deactivated authorization", authzBody(StatusDeactivated), `is "deactivated"`},
		{"an expired one", authzBody(StatusExpired), `is "expired"`},
		{"one in an unknown state", authzBody("confused"), `is "confused"`},
		{"a wildcard", strings.Replace(authzBody(StatusInvalid, failed), `"status": "invalid"`, `"status": "invalid", "wildcard": true`, 1), "for *.a.example: unauthorized"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/authz", answers(reading{200, authzBody(StatusPending, pending), nil}, reading{200, authzBody(StatusProcessing), nil}, reading{200, test.body, nil}))
				a, err := f.session(t).WaitAuthorization(t.Context(), fakeBase+"/authz")
				wantText(t, err, test.want)
				if p := wantProblem(t, err); p.Permanent() || p.URL != fakeBase+"/authz" || a != nil {
					t.Errorf("got %+v, want it not permanent and with the URL", p)
				}
				if got := f.count("POST /authz"); got != 3 {
					t.Errorf("got %d requests, want 3", got)
				}
			})
		})
	}
}

func TestWaitAuthorizationTellsWhatTheCAHasMetSoFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/authz", answer(200, authzBody(StatusPending, `{"type": "http-01", "token": "abc", "status": "pending", "error": `+problemBody("connection", "refused")+`}`)))
		_, err := f.session(t).WaitAuthorization(t.Context(), fakeBase+"/authz")
		wantText(t, err, "for a.example: the CA needs more time: connection: refused")
		if p := wantProblem(t, err); !errors.Is(err, ErrWait) || p.RetryAt.IsZero() || p.Permanent() {
			t.Errorf("got %+v, want ErrWait with a time", p)
		}
	})
}

func TestALongWaitAfterAcceptEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/challenge", answer(200, `{"status": "processing"}`, "Retry-After: 3600"))
		s := f.session(t)
		if err := s.Accept(t.Context(), Challenge{Type: "http-01", Token: "abc", URL: fakeBase + "/challenge"}); err != nil {
			t.Fatal(err)
		}
		_, authzErr := s.WaitAuthorization(t.Context(), fakeBase+"/authz")
		_, orderErr := s.WaitReady(t.Context(), fakeBase+"/order")
		for _, err := range []error{authzErr, orderErr} {
			if p := wantProblem(t, err); !errors.Is(err, ErrWait) || time.Until(p.RetryAt) != time.Hour {
				t.Errorf("got %v, want ErrWait for an hour", err)
			}
		}
		if got := f.count("POST /authz") + f.count("POST /order"); got != 0 {
			t.Errorf("got %d requests, want none", got)
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte(authzBody(StatusInvalid, `{"type": "http-01", "token": "abc", "error": {"detail": "x"}}`)))
	f.Add([]byte(orderBody(StatusValid)))
	f.Add([]byte(`{"status": "pending", "identifier": {"value": "\u202e"}, "challenges": [{"type": "dns-01", "token": "/"}, null]}`))
	f.Add([]byte(`{"status": {}, "challenges": {}, "authorizations": [1, "x"]}`))
	key := testKey(f, P256)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &reply{url: fakeBase, status: 200, body: body}
		if o, err := decodeOrder("look", fakeBase, r); err == nil && (o.Status == "" || len(o.Authorizations) > maxAuthorizations) {
			t.Errorf("got %+v", o)
		}
		a, err := (&Session{key: key}).decodeAuthorization("look", fakeBase, r)
		if err != nil {
			return
		}
		for _, c := range a.Challenges {
			if len(c.Token) > maxToken || !isBase64URL(c.Token) || (c.Token == "") != (c.KeyAuthorization == "") {
				t.Errorf("got the token %q", c.Token)
			}
			if c.Token == "" && needsToken(c.Type) && c.Problem == nil {
				t.Errorf("got an unusable challenge without a problem: %+v", c)
			}
		}
	})
}
