package md_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// app stands for what your server is there for.
var app = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello from", r.Host) })

// A whole server, on ports 80 and 443.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com", "www.example.com"}}},
		AcceptTerms: true, // of the CA: Let's Encrypt, if you name no other
	}
	if err := m.ListenAndServe(ctx, app); err != nil { // nil after ctx ends
		log.Fatal(err)
	}
}

// The parts of ListenAndServe, for servers of your own.
func Example_ownServers() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com"}}},
		AcceptTerms: true,
		Store:       store.NewDir("/var/lib/myserver/md"),
	}
	// What is stored is served from the first handshake on.
	if err := m.Load(ctx); err != nil {
		log.Fatal(err)
	}
	plain := &http.Server{Addr: ":80", Handler: m.HTTPHandler(app)}
	secure := &http.Server{Addr: ":443", Handler: m.HTTPSHandler(app), TLSConfig: m.TLSConfig()}
	go func() { log.Print(plain.ListenAndServe()) }()
	go func() { log.Print(secure.ListenAndServeTLS("", "")) }()

	// Certificates are got and renewed here, until ctx ends.
	if err := m.Run(ctx); err != nil {
		log.Fatal(err)
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(plain.Shutdown(closing), secure.Shutdown(closing)); err != nil {
		log.Print(err)
	}
}

// Let's Encrypt has a second CA for trying things out. No browser trusts its
// certificates.
func Example_staging() {
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com"}}},
		Default:     md.Domain{CAs: []md.CA{{Name: "letsencrypt-staging"}}},
		AcceptTerms: true,
	}
	if err := m.ListenAndServe(context.Background(), app); err != nil {
		log.Fatal(err)
	}
}

// An application is tested with a CA in the same process. It validates names
// by asking the Manager's own handlers, so all is as it is outside.
func Example_testing() {
	ca := new(acmetest.CA)
	defer ca.Close()
	m := &md.Manager{
		Domains:    []md.Domain{{Names: []string{"example.com"}}},
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	if err := m.Ready(ctx); err != nil {
		fmt.Println(err)
		return
	}

	// A server with the certificate, and a client that trusts the CA.
	server := httptest.NewUnstartedServer(m.HTTPSHandler(app))
	server.TLS = m.TLSConfig()
	server.StartTLS()
	defer server.Close()
	transport := server.Client().Transport.(*http.Transport)
	transport.TLSClientConfig.RootCAs = ca.Roots()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, server.Listener.Addr().String())
	}
	answer, err := server.Client().Get("https://example.com/")
	if err != nil {
		fmt.Println(err)
		return
	}
	answer.Body.Close()
	fmt.Println(answer.Status, answer.TLS.PeerCertificates[0].DNSNames)

	stop()
	fmt.Println(<-done)
	// Output:
	// 200 OK [example.com]
	// <nil>
}

// Check finds everything at once.
func ExampleManager_Check() {
	m := &md.Manager{
		Domains: []md.Domain{
			{Names: []string{"example.com", "exa_mple.com"}},
			{Names: []string{"www.example.com", "Example.com."}, KeyTypes: []md.KeyType{"P-123"}},
		},
	}
	fmt.Println(m.Check())
	// Output:
	// md: Domain "example.com": Names: "exa_mple.com" is not a DNS name: idna: disallowed rune U+005F
	// md: Domain "www.example.com": Names: example.com is in Domain "example.com" already; a name can be in one Domain only
	// md: Domain "www.example.com": KeyTypes: the key type "P-123" is not known; known are P-256, P-384, P-521, RSA-2048, RSA-3072 and RSA-4096
}

// A program that reads its Domains from elsewhere may want to know which of
// them cannot work, and do without them.
func ExampleConfigError() {
	m := &md.Manager{
		Domains: []md.Domain{
			{Names: []string{"example.com"}},
			{Names: []string{"under_score.example"}},
		},
	}
	if err, ok := m.Check().(interface{ Unwrap() []error }); ok {
		for _, err := range err.Unwrap() {
			var wrong *md.ConfigError
			if errors.As(err, &wrong) {
				fmt.Println("without", wrong.Domain, "because of its", wrong.Field)
				m.Domains = slices.DeleteFunc(m.Domains, func(d md.Domain) bool { return d.Names[0] == wrong.Domain })
			}
		}
	}
	fmt.Println(m.Check())
	// Output:
	// without under_score.example because of its Names
	// <nil>
}

// A server that must not be in use without a certificate waits for it.
func ExampleManager_Ready() {
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com"}}},
		AcceptTerms: true,
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	go m.Run(context.Background())

	err := m.Ready(ctx, "example.com")
	switch {
	case err == nil:
		// Tell the load balancer.
	case errors.Is(err, context.DeadlineExceeded):
		log.Print("it takes long: ", err)
	case errors.Is(err, md.ErrNotReady):
		log.Fatal("this needs you: ", err) // such as terms to be accepted
	}
}

// The Domains of a running Manager are replaced as a whole.
func ExampleManager_Update() {
	m := &md.Manager{
		Domains: []md.Domain{{Names: []string{"a.example"}}, {Names: []string{"b.example"}}},
		Store:   new(store.Memory),
	}
	show := func(err error) {
		for d := range m.Status() {
			fmt.Print(d.Names, " ")
		}
		fmt.Println(err)
	}
	show(m.Load(context.Background()))

	show(m.Update(context.Background(), []md.Domain{
		{Names: []string{"b.example", "www.b.example"}}, // as Names[0] is the same, it is the same Domain
		{Names: []string{"c.example"}},
	}))
	show(m.Update(context.Background(), []md.Domain{{Names: []string{"d_.example"}}}))
	// Output:
	// [a.example] [b.example] <nil>
	// [b.example www.b.example] [c.example] <nil>
	// [b.example www.b.example] [c.example] md: Domain "d_.example": Names: "d_.example" is not a DNS name: idna: disallowed rune U+005F
}

// Renew orders at once, here because the CA has revoked a certificate. It
// needs no Run.
func ExampleManager_Renew() {
	ca := new(acmetest.CA)
	defer ca.Close()
	ca.Policy = func(name string) error {
		if name == "b.example" {
			return errors.New("this name is on our list")
		}
		return nil
	}
	m := &md.Manager{
		Domains:    []md.Domain{{Names: []string{"a.example"}}, {Names: []string{"b.example"}}},
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()

	fmt.Println(m.Renew(context.Background(), "a.example"))

	err := m.Renew(context.Background(), "b.example")
	var problem *md.Problem
	if errors.As(err, &problem) {
		fmt.Println(problem.Kind(), problem.Permanent())
	}
	fmt.Println(errors.Is(m.Renew(context.Background(), "c.example"), md.ErrNotManaged))
	// Output:
	// <nil>
	// rejectedIdentifier true
	// true
}

// byHost is a transport to several CAs in the same process.
type byHost map[string]*acmetest.CA

func (cas byHost) RoundTrip(r *http.Request) (*http.Response, error) {
	return cas[r.URL.Host].Client().Transport.RoundTrip(r)
}

// With several CAs, the next is asked when one fails. In earnest they are, for
// example, {Name: "letsencrypt"} and the URL of another, and what is tried
// here by hand is done by Run.
func Example_failover() {
	one := &acmetest.CA{BaseURL: "https://one.test"}
	two := &acmetest.CA{BaseURL: "https://two.test"}
	defer one.Close()
	defer two.Close()
	m := &md.Manager{
		Domains:       []md.Domain{{Names: []string{"example.com"}}},
		Default:       md.Domain{CAs: []md.CA{{URL: one.DirectoryURL()}, {URL: two.DirectoryURL()}}},
		RetryFailover: 2, // zero: 13
		HTTPClient:    &http.Client{Transport: byHost{"one.test": one, "two.test": two}},
		Store:         new(store.Memory),
	}
	for _, ca := range []*acmetest.CA{one, two} {
		ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	}

	one.SetDown(true)
	for range 3 {
		err := m.Renew(context.Background(), "example.com")
		fmt.Println("done:", err == nil)
	}
	for d := range m.Status() {
		fmt.Println(d.Certificates[0].CA)
	}
	// Output:
	// done: false
	// done: false
	// done: true
	// https://two.test/directory
}

// A program is told what happens: "/usr/local/bin/certs --mail renewed example.com".
// If it ends with a status other than zero for "renewing", nothing is renewed
// for the time being.
func Example_program() {
	args, err := status.ParseCommand("/usr/local/bin/certs --mail")
	if err != nil {
		log.Fatal(err)
	}
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com"}}},
		AcceptTerms: true,
		Notifier:    &status.Command{Args: args, Logger: slog.Default()},
	}
	if err := m.ListenAndServe(context.Background(), app); err != nil {
		log.Fatal(err)
	}
}

// A key has become known to others: the certificate is replaced, and then
// revoked. Nobody is without one in between.
func ExampleManager_Revoke() {
	ca := new(acmetest.CA)
	defer ca.Close()
	m := &md.Manager{
		Domains:    []md.Domain{{Names: []string{"example.com"}}},
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	fmt.Println(m.Renew(context.Background(), "example.com"))

	fmt.Println(m.Revoke(context.Background(), "example.com", acmeclient.KeyCompromise))
	for _, c := range ca.Certificates() {
		fmt.Println("revoked:", !c.Revoked.IsZero())
	}
	// Output:
	// <nil>
	// <nil>
	// revoked: true
	// revoked: false
}

// With HoldActivation, certificates are obtained and renewed in time, and come
// into use when you say so.
func ExampleManager_Activate() {
	ca := new(acmetest.CA)
	defer ca.Close()
	renewed := make(chan bool, 1)
	m := &md.Manager{
		Domains:    []md.Domain{{Names: []string{"example.com"}, HoldActivation: md.On}},
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
		Notifier: md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if e.Kind == status.Renewed {
				renewed <- true
			}
			return nil
		}),
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	show := func() {
		for d := range m.Status() {
			fmt.Println(d.State, len(d.Staged))
		}
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	<-renewed
	show()
	fmt.Println(m.Activate(ctx, "example.com"))
	show()

	stop()
	fmt.Println(<-done)
	// Output:
	// pending 1
	// <nil>
	// good 0
	// <nil>
}

// Clients cannot use the certificate from yesterday: the one before is still
// there.
func ExampleManager_Restore() {
	ctx := context.Background()
	m := &md.Manager{
		Domains: []md.Domain{{Names: []string{"example.com"}}},
		Store:   store.NewDir("/var/lib/myserver/md"),
	}
	former, err := m.Archived(ctx, "example.com")
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range former {
		fmt.Println(f.ID, f.Certificates[0].Issuer, f.Certificates[0].NotAfter)
	}
	if len(former) > 0 {
		if err := m.Restore(ctx, "example.com", former[0].ID); err != nil {
			log.Fatal(err)
		}
	}
}

// What fails is told, and nothing is renewed while there is work on the
// servers.
func ExampleNotifierFunc() {
	maintenance := func() bool { return false }
	mail := func(ctx context.Context, text string) error { return nil }

	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com"}}},
		AcceptTerms: true,
		Notifier: md.NotifierFunc(func(ctx context.Context, e md.Event) error {
			switch e.Kind {
			case status.Renewing:
				if maintenance() {
					return fmt.Errorf("maintenance: %w", md.ErrVeto)
				}
			case status.Errored:
				return mail(ctx, fmt.Sprintf("%s: %v; next attempt at %v", e.Domain, e.Err, e.NextAttempt))
			case status.Expiring: // nothing has helped: now it needs somebody
				return mail(ctx, fmt.Sprintf("%s ends at %v: %v", e.Domain, e.Certificates[0].NotAfter, e.Err))
			case status.Renewed: // comes again until this returns nil
				return mail(ctx, fmt.Sprintf("%s has a certificate until %v", e.Domain, e.Certificates[0].NotAfter))
			}
			return nil
		}),
	}
	if err := m.ListenAndServe(context.Background(), app); err != nil {
		log.Fatal(err)
	}
}

// zone is a Challenger for dns-01. Put the calls of your DNS provider where
// the map is.
type zone struct {
	mu  sync.Mutex // guards txt
	txt map[string][]string
}

func (z *zone) Types() []string { return []string{challenge.TypeDNS01} }

func (z *zone) Present(_ context.Context, c challenge.Challenge) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.txt == nil {
		z.txt = make(map[string][]string)
	}
	if name := c.TXTName(); !slices.Contains(z.txt[name], c.TXTValue()) {
		z.txt[name] = append(z.txt[name], c.TXTValue())
	}
	return nil
}

// CleanUp removes this value and leaves the others: a wildcard and its parent
// are proved at one name.
func (z *zone) CleanUp(_ context.Context, c challenge.Challenge) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.txt[c.TXTName()] = slices.DeleteFunc(z.txt[c.TXTName()], func(v string) bool { return v == c.TXTValue() })
	return nil
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.txt[name]), nil
}

// With a Challenger of one's own for DNS, wildcards can be had, and the server
// need not be reachable from outside.
func ExampleChallenger() {
	z := new(zone)
	ca := &acmetest.CA{LookupTXT: z.LookupTXT}
	defer ca.Close()
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com", "*.example.com"}}},
		Default:     md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		Challengers: []md.Challenger{z},
		HTTPClient:  ca.Client(),
		Store:       new(store.Memory),
	}
	fmt.Println(m.Renew(context.Background(), "example.com"))
	for d := range m.Status() {
		fmt.Println(d.Names, d.State)
	}
	// Output:
	// <nil>
	// [example.com *.example.com] good
}

// The report of all Domains names everything: put your own authorization in
// front of it.
func ExampleManager_Status() {
	m := &md.Manager{
		Domains: []md.Domain{{Names: []string{"example.com", "bücher.example"}}},
		Store:   new(store.Memory),
	}
	mux := http.NewServeMux()
	mux.Handle("/certificates", status.Text(m))
	mux.Handle("/certificates.json", status.JSON(m))

	for d := range m.Status() {
		fmt.Println(d.Name, d.Names, d.State, d.Reason)
	}
	// Output: example.com [example.com bücher.example] pending certificate (P-256): it is missing
}
