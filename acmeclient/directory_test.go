package acmeclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDirectoryIsReadAndKeptForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/dir", answer(200, `{
			"newNonce": "https://ca.test/nonce", "newAccount": "https://ca.test/account", "newOrder": "https://ca.test/new-order",
			"renewalInfo": "https://ca.test/ari", "keyChange": "http://ca.test/plain",
			"meta": {"termsOfService": "data:text/plain,Do%20what", "website": "https://ca.test/\u202e", "caaIdentities": ["ca.test"],
				"externalAccountRequired": true, "profiles": {"short": "six days", "b\u0007d": "x"}}
		}`))
		c, err := New(CA{URL: fakeBase + "/dir"}, &http.Client{Transport: f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			d, err := c.Directory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprint(d), "{data:text/plain,Do%20what https://ca.test/? [ca.test] true map[short:six days] https://ca.test/ari}"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			d.Profiles["short"], d.CAAIdentities[0] = "changed", "changed" // does not change the cached one
		}
		if got := f.count("GET /dir"); got != 1 {
			t.Errorf("got %d requests, want 1", got)
		}
		time.Sleep(directoryAge)
		if _, err := c.Directory(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.count("GET /dir"); got != 2 {
			t.Errorf("after an hour: got %d requests, want 2", got)
		}
	})
}

func TestDirectoryIsFetchedAgainWhenItsURLsDoNotWork(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer reading
		want   int // requests for the directory
	}{
		{"an outage", reading{503, "", nil}, 2},
		{"a URL that is gone", reading{404, "", nil}, 2},
		{"a URL that is for something else", reading{405, "", nil}, 2},
		{"a lost reply", reading{}, 2},
		{"a refusal says nothing about it", reading{403, problemBody("rejectedIdentifier", "no"), nil}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/new-order", answers(test.answer))
				f.mux.HandleFunc("/order", answers(test.answer))
				s := f.session(t)
				if _, err := s.Order(t.Context(), fakeBase+"/order"); err == nil {
					t.Fatal("got no error, want one")
				}
				if _, err := s.client.Directory(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := f.count("GET /directory"); got != 1 {
					t.Errorf("after an order that cannot be looked at: got %d requests, want 1", got)
				}
				if _, err := s.NewOrder(t.Context(), OrderRequest{Names: []string{"a.example"}}); err == nil {
					t.Fatal("got no error, want one")
				}
				if _, err := s.client.Directory(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := f.count("GET /directory"); got != test.want {
					t.Errorf("got %d requests, want %d", got, test.want)
				}
			})
		})
	}
}

func TestDirectoryIsFetchedOnceForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			answer(200, fakeDirectory)(w, r)
		})
		c, err := New(CA{URL: fakeBase + "/slow"}, &http.Client{Transport: f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error)
		for range 10 {
			go func() {
				_, err := c.Directory(t.Context())
				results <- err
			}()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		synctest.Wait()
		if _, err := c.Directory(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the impatient caller's own deadline", err)
		}
		for range 10 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := f.count("GET /slow"); got != 1 {
			t.Errorf("got %d requests, want 1", got)
		}
	})
}

func TestDirectoryFetchThatIsCanceledIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(time.Second):
				answer(200, fakeDirectory)(w, r)
			case <-r.Context().Done():
				panic(r.Context().Err())
			}
		})
		c, err := New(CA{URL: fakeBase + "/slow"}, &http.Client{Transport: f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		first, cancel := context.WithCancel(t.Context())
		firstErr, secondErr := make(chan error), make(chan error)
		go func() { _, err := c.Directory(first); firstErr <- err }()
		synctest.Wait()
		go func() { _, err := c.Directory(t.Context()); secondErr <- err }()
		synctest.Wait()
		cancel()
		if err := <-firstErr; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v from the first, want context.Canceled", err)
		}
		if err := <-secondErr; err != nil {
			t.Errorf("got %v from the second, want none", err)
		}
		if got := f.count("GET /slow"); got != 2 {
			t.Errorf("got %d requests, want 2", got)
		}
	})
}

func TestDirectoryErrorIsSharedByAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			answer(503, "maintenance", "Retry-After: 120")(w, r)
		})
		c, err := New(CA{URL: fakeBase + "/down"}, &http.Client{Transport: f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error)
		for range 5 {
			go func() { _, err := c.Directory(t.Context()); results <- err }()
		}
		for range 5 {
			p := wantProblem(t, <-results)
			if got := time.Until(p.RetryAt); got != 2*time.Minute || p.Status != 503 || p.Detail != "maintenance" {
				t.Errorf("got %v (in %v), want status 503 and two minutes", p, got)
			}
		}
		if got := f.count("GET /down"); got != 1 {
			t.Errorf("got %d requests, want 1", got)
		}
	})
}

func TestUnusableDirectoriesAreRefused(t *testing.T) {
	for _, test := range []struct{ name, body, want string }{
		{"one of ACMEv1", `{"new-reg": "https://ca.test/a", "new-cert": "https://ca.test/b"}`, "ACMEv1"},
		{"a web page", `<html>Welcome</html>`, "is the URL the one of an ACME directory?"},
		{"nothing", ``, "not JSON"},
		{"an empty object", `{}`, "lacks newNonce"},
		{"a list", `[]`, "lacks newNonce"},
		{"null", `null`, "lacks newNonce"},
		{"URLs that are numbers", `{"newNonce": 1, "newAccount": 2, "newOrder": 3}`, "lacks newNonce"},
		{"a plain http URL", strings.Replace(fakeDirectory, "https://ca.test/new-order", "http://ca.test/new-order", 1), "newOrder URL"},
		{"a relative URL", strings.Replace(fakeDirectory, "https://ca.test/account", "/account", 1), "newAccount URL"},
		{"a loopback http URL", strings.Replace(fakeDirectory, "https://ca.test/nonce", "http://127.0.0.1/nonce", 1), "PlainLoopback"},
		{"a very long URL", strings.Replace(fakeDirectory, "/nonce", "/"+strings.Repeat("n", maxURL), 1), "longer than"},
		{"what is no URL", strings.Replace(fakeDirectory, "https://ca.test/nonce", "https://%zz", 1), "not a URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCA()
				f.mux.HandleFunc("/dir", answer(200, test.body))
				c, err := New(CA{URL: fakeBase + "/dir"}, &http.Client{Transport: f}, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Directory(t.Context())
				wantText(t, err, test.want)
				p := wantProblem(t, err)
				if got, want := p.Permanent(), strings.Contains(test.want, "ACMEv1"); got != want {
					t.Errorf("got permanent %v, want %v", got, want)
				}
				if _, err := c.Session(testKey(t, P256), fakeBase+"/account/1").Order(t.Context(), fakeBase+"/order"); err == nil || err.Error() != p.Error() {
					t.Errorf("a session: got %v, want the same error", err)
				}
			})
		})
	}
}

func TestDirectoryIsBounded(t *testing.T) {
	profiles := map[string]string{}
	for i := range 3 * maxDirectoryValues {
		profiles[fmt.Sprintf("p%03d", i)] = strings.Repeat("x", 2*maxDirectoryText)
	}
	body, err := json.Marshal(map[string]any{
		"newNonce": fakeBase, "newAccount": fakeBase, "newOrder": fakeBase,
		"meta": map[string]any{"profiles": profiles, "caaIdentities": slices.Collect(maps.Keys(profiles))},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDirectory(body, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(d.Meta.Profiles); got != maxDirectoryValues {
		t.Errorf("got %d profiles, want %d", got, maxDirectoryValues)
	}
	if got := len(d.Meta.CAAIdentities); got != maxDirectoryValues {
		t.Errorf("got %d CAA identities, want %d", got, maxDirectoryValues)
	}
	if got := len(d.Meta.Profiles["p000"]); got != maxDirectoryText {
		t.Errorf("got a description of %d bytes, want %d", got, maxDirectoryText)
	}
}

func FuzzDirectory(f *testing.F) {
	f.Add([]byte(fakeDirectory))
	f.Add([]byte(`{"new-reg": "https://ca.test"}`))
	f.Add([]byte(`{"newNonce": "http://127.0.0.1", "newAccount": "https://a", "newOrder": "https://b", "meta": {"profiles": []}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, err := parseDirectory(body, false)
		if err != nil {
			if doc != nil {
				t.Error("got a directory with the error")
			}
			return
		}
		for _, u := range []string{doc.NewNonce, doc.NewAccount, doc.NewOrder} {
			if !strings.HasPrefix(strings.ToLower(u), "https://") {
				t.Errorf("got the URL %q, want https", u)
			}
		}
		again, err := parseDirectory(doc.reply().body, false) // what x/crypto gets
		if err != nil {
			t.Fatalf("cannot read what it wrote: %v", err)
		}
		if got, want := again.reply().body, doc.reply().body; !bytes.Equal(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
