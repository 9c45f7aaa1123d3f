package acmeclient

import (
	"bufio"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// site answers http-01 and dns-01 challenges, whatever the name.
type site struct {
	mu  sync.Mutex
	key map[string]string   // key authorization by token
	txt map[string][]string // records by name
}

func newSite() *site { return &site{key: map[string]string{}, txt: map[string][]string{}} }

// dial connects a validator with the site. The connection takes one request.
func (s *site) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() { // ends when the validator closes its end, which it does
		defer server.Close()
		req, err := http.ReadRequest(bufio.NewReader(server))
		if err != nil {
			return
		}
		s.mu.Lock()
		body := s.key[strings.TrimPrefix(req.URL.Path, "/.well-known/acme-challenge/")]
		s.mu.Unlock()
		fmt.Fprintf(server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}()
	return client, nil
}

func (s *site) lookupTXT(_ context.Context, name string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.txt[name]), nil
}

// dnsValue is what a TXT record has to say (RFC 8555 §8.4).
func dnsValue(keyAuthorization string) string {
	sum := sha256.Sum256([]byte(keyAuthorization))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *site) present(a *Authorization, c Challenge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key[c.Token] = c.KeyAuthorization
	record := "_acme-challenge." + a.Name
	s.txt[record] = append(s.txt[record], dnsValue(c.KeyAuthorization))
}

// user orders certificates as an engine would: it keeps its keys and the URLs of account and order, and forgets all else.
type user struct {
	client   *Client
	site     *site
	account  crypto.Signer
	key      crypto.Signer
	names    []string
	replaces string
	want     OrderRequest // beyond names and replaces
	root     string       // of the chain to prefer
	warnings []string

	url      string // of the account; empty: not known
	order    string // URL; empty: none
	attempts int
	orders   int // that were asked for
	errs     []error
}

// attempt does what can be done and returns a chain, or why it stopped.
func (u *user) attempt(ctx context.Context) ([][]byte, error) {
	u.attempts++
	if u.url == "" {
		account, err := u.client.Register(ctx, u.account, nil, true)
		if err != nil {
			return nil, err
		}
		u.url = account.URL
	}
	s := u.client.Session(u.account, u.url)
	o, err := u.look(ctx, s)
	if err != nil {
		return nil, err
	}
	if o.Status == StatusPending {
		if err := u.authorize(ctx, s, o); err != nil {
			return nil, err
		}
		if o, err = s.WaitReady(ctx, o.URL); err != nil {
			return nil, err
		}
	}
	o, warnings, err := s.FinalizeFor(ctx, o, u.request(), u.key)
	if err != nil {
		return nil, err
	}
	chain, odd, err := s.ChainTo(ctx, o, u.root)
	if err != nil {
		return nil, err
	}
	u.warnings = append(append(u.warnings, warnings...), odd...)
	if _, err := CheckChain(chain, u.key.Public(), u.names, time.Now()); err != nil {
		u.order = "" // what was issued is of no use
		return nil, &Problem{Op: "use the certificate", Err: err}
	}
	return chain, nil
}

// look returns the order that was begun, or a fresh one.
func (u *user) look(ctx context.Context, s *Session) (*Order, error) {
	if u.order != "" {
		o, err := s.Order(ctx, u.order)
		if err != nil || o.Status != StatusInvalid {
			return o, err
		}
		u.order = ""
	}
	u.orders++
	o, err := s.NewOrder(ctx, u.request())
	if err == nil {
		u.order = o.URL
		u.warnings = append(u.warnings, o.Warnings...)
	}
	return o, err
}

func (u *user) request() OrderRequest {
	r := u.want
	r.Names, r.Replaces = u.names, u.replaces
	return r
}

func (u *user) authorize(ctx context.Context, s *Session, o *Order) error {
	for _, url := range o.Authorizations {
		a, err := s.Authorization(ctx, url)
		if err != nil {
			return err
		}
		if a.Status == StatusPending {
			i := slices.IndexFunc(a.Challenges, func(c Challenge) bool { return c.Type == "http-01" || c.Type == "dns-01" && a.Wildcard })
			if i < 0 {
				return &Problem{Op: "find a challenge", Detail: fmt.Sprint(a.Challenges)}
			}
			u.site.present(a, a.Challenges[i])
			if err := s.Accept(ctx, a.Challenges[i]); err != nil {
				return err
			}
		}
		if _, err := s.WaitAuthorization(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

// persist makes attempts until one succeeds, waiting as long as the CA says, or a minute.
func (u *user) persist(ctx context.Context, most int) ([][]byte, error) {
	for range most {
		chain, err := u.attempt(ctx)
		if err == nil {
			return chain, nil
		}
		u.errs = append(u.errs, err)
		var p *Problem
		if !errors.As(err, &p) {
			return nil, fmt.Errorf("not a *Problem: %w", err)
		}
		if p.Permanent() {
			return nil, err
		}
		time.Sleep(max(time.Minute, time.Until(p.RetryAt)))
	}
	return nil, fmt.Errorf("given up after %d attempts: %w", most, errors.Join(u.errs...))
}

func newUser(t testing.TB, ca *acmetest.CA, names ...string) *user {
	t.Helper()
	s := newSite()
	ca.Dial, ca.LookupTXT = s.dial, s.lookupTXT
	u := &user{site: s, account: testKey(t, P256), key: testKey(t, P384), names: names}
	u.client = caClient(t, ca)
	return u
}

func TestAFairCAIsAskedNoMoreThanNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{}
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		start := time.Now()
		chain, err := u.attempt(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
		}
		if len(chain) != 2 {
			t.Errorf("got %d certificates, want 2", len(chain))
		}
		const want = "map[authz:2 certificate:1 challenge:1 directory:1 finalize:1 newAccount:1 newOrder:1 order:2]"
		if got := fmt.Sprint(ca.Requests()); got != want {
			t.Errorf("got  %s\nwant %s\n%s", got, want, strings.Join(ca.Trace(), "\n"))
		}
		if took := time.Since(start); took > 200*time.Millisecond {
			t.Errorf("it took %v, want the CA not to be waited for", took)
		}
	})
}

func TestOrdersForManyNamesAndWildcards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{TermsOfService: "https://acme.test/terms", ChainLength: 4, AuthzReuse: 0.5, Perspectives: 3}
		defer ca.Close()
		u := newUser(t, ca, "*.a.example", "a.example", "b.example")
		chain, err := u.attempt(t.Context())
		if err != nil || len(chain) != 4 {
			t.Fatalf("got %d certificates, %v\n%s", len(chain), err, strings.Join(ca.Trace(), "\n"))
		}
	})
}

func TestAnOrderReplacesACertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, typ := range []KeyType{P256, P384, P521, RSA2048} {
			ca := &acmetest.CA{RenewalInfo: true}
			u := newUser(t, ca, "a.example")
			u.account, u.key = testKey(t, typ), testKey(t, RSA3072)
			chain, err := u.attempt(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if u.replaces, err = CertID(mustParse(t, chain[0])); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second is told that it was replaced already
				u.order = ""
				if _, err := u.attempt(t.Context()); err != nil {
					t.Fatalf("%s: %v\n%s", typ, err, strings.Join(ca.Trace(), "\n"))
				}
			}
			var got []string
			for _, o := range ca.Orders() {
				got = append(got, o.Replaces)
			}
			if want := []string{"", u.replaces, ""}; !slices.Equal(got, want) {
				t.Errorf("%s: got orders that replace %q, want %q", typ, got, want)
			}
			ca.Close()
		}
	})
}

func TestAFailedValidationIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{}
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		ca.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errLost }
		_, err := u.attempt(t.Context())
		p := wantProblem(t, err)
		if p.Name != "a.example" || p.Kind() != "connection" || p.Permanent() {
			t.Errorf("got %+v, want a connection problem of a.example", p)
		}
	})
}

func TestSessionsShareAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{Faults: acmetest.Faults{BadNonce: 0.5}}
		defer ca.Close()
		s := newSite()
		ca.Dial = s.dial
		c := caClient(t, ca)
		account := testKey(t, P256)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				u := &user{client: c, site: s, account: account, key: testKey(t, P384), names: []string{fmt.Sprintf("n%d.example", i)}}
				if _, err := u.attempt(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := ca.Requests()["directory"]; got != 1 {
			t.Errorf("got %d requests for the directory, want 1", got)
		}
		if got := len(ca.Accounts()); got != 1 {
			t.Errorf("got %d accounts, want 1", got)
		}
	})
}

func TestOverTheNetwork(t *testing.T) {
	ca := &acmetest.CA{}
	s := newSite()
	ca.Dial = s.dial
	ca.Start(t)
	c, err := New(CA{URL: ca.DirectoryURL(), Roots: ca.TLSRoots()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := &user{client: c, site: s, account: testKey(t, P256), key: testKey(t, P384), names: []string{"a.example"}}
	if _, err := u.attempt(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(ca.Trace(), "\n"))
	}
	stranger, err := New(CA{URL: ca.DirectoryURL()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Directory(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its roots: got %v, want an error about the certificate", err)
	}
	ca.SetDown(true)
	if _, err := u.attempt(t.Context()); err == nil {
		t.Error("got no error from a CA that is down, want one")
	} else if p := wantProblem(t, err); p.Permanent() || errors.Is(err, io.EOF) && p.Err == nil {
		t.Errorf("got %+v, want a network error", p)
	}
}

func BenchmarkOrder(b *testing.B) {
	ca := &acmetest.CA{}
	defer ca.Close()
	u := newUser(b, ca, "a.example")
	for b.Loop() {
		u.order = ""
		if _, err := u.attempt(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
