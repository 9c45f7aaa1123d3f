package md_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store"
)

// Customers point their names at your server, and get certificates in the first
// handshake.
func Example_onDemand() {
	ca := new(acmetest.CA)
	defer ca.Close()
	customers := map[string]bool{"shop.example": true} // in your database

	m := &md.Manager{
		Default:    md.Domain{CAs: []md.CA{{URL: ca.DirectoryURL()}}},
		HTTPClient: ca.Client(),
		Store:      new(store.Memory),
		Logger:     slog.New(slog.DiscardHandler),
		OnDemand: func(ctx context.Context, name string, hello *tls.ClientHelloInfo) (md.Domain, error) {
			if !customers[name] {
				return md.Domain{}, md.ErrNotManaged
			}
			return md.Domain{}, nil // with this name alone, and all else as Default says
		},
	}
	ca.HTTP, ca.TLS = m.HTTPHandler(nil), m.TLSConfig()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()

	for _, name := range []string{"shop.example", "stranger.example"} {
		cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if errors.Is(err, md.ErrNotManaged) {
			fmt.Println(name, "is not ours")
			continue
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		fmt.Println(name, leaf.DNSNames, err)
	}
	stop()
	fmt.Println(<-done)
	// Unordered output:
	// shop.example [shop.example] <nil>
	// stranger.example is not ours
	// <nil>
}

// Two key types, a short-lived certificate if the CA has it, and a rehearsal
// at its test endpoint first. The second CA wants accounts to be bound to one
// at its web site.
func ExampleDomain() {
	m := &md.Manager{
		Domains: []md.Domain{{
			Names:    []string{"example.com", "192.0.2.1"},
			KeyTypes: []md.KeyType{md.P256, md.RSA2048},
			Profile:  "shortlived",
			Rehearse: md.On,
			CAs: []md.CA{
				{Name: "letsencrypt"},
				{Name: "zerossl", EAB: md.EAB{KeyID: "given-by-the-ca", HMAC: md.NewSecret("dGhlIGtleSB0aGF0IHRoZSBDQSBoYXMgZ2l2ZW4")}},
			},
			RenewWindow:     md.Window{Percent: 40},
			ActivationDelay: time.Hour,
		}},
		AcceptTerms: true,
		Store:       new(store.Memory),
	}
	fmt.Println(m.Check())
	fmt.Println(m.Domains[0].CAs[1].EAB.HMAC)
	// Output:
	// <nil>
	// ***
}

// A certificate that somebody else looks after is served, read again when its
// files change, and warned of before it expires.
func ExampleDomain_certFiles() {
	m := &md.Manager{
		Domains: []md.Domain{
			{Names: []string{"intranet.example"}, CertFiles: []string{"/etc/pki/intranet.pem"}, KeyFiles: []string{"/etc/pki/intranet.key"}},
			{Names: []string{"www.example.com"}},
		},
		AcceptTerms: true,
	}
	if err := m.ListenAndServe(context.Background(), app); err != nil {
		log.Fatal(err)
	}
}

// Moving from certbot: nothing is ordered for what is there.
func ExampleManager_Import() {
	m := &md.Manager{
		Domains:     []md.Domain{{Names: []string{"example.com", "www.example.com"}}},
		AcceptTerms: true,
		Store:       store.NewDir("/var/lib/myserver/md"),
	}
	report, err := m.Import(context.Background(), "/etc/letsencrypt", md.ImportOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range report.Rows {
		fmt.Println(row.What, row.Name, row.Taken, row.Why)
	}
}

// Clients that send no name, or one that is in no Domain, are served the
// certificate of another.
func ExampleManager_fallbackName() {
	m := &md.Manager{
		Domains:      []md.Domain{{Names: []string{"www.example.com"}}},
		FallbackName: "www.example.com",
		AcceptTerms:  true,
	}
	if err := m.ListenAndServe(context.Background(), app); err != nil {
		log.Fatal(err)
	}
}
