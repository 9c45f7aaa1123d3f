package live_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/manageddomains/md/internal/live"
)

// A server serves its Domains from a Table, and a fallback where there is no
// certificate yet.
func Example() {
	var table live.Table
	var fallback live.Fallback
	table.Put([]string{"example.com", "*.example.com"}, &live.Site{Domain: "example.com"})

	config := &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate, site := table.Certificate(hello)
			switch {
			case certificate != nil:
				return certificate, nil
			case site != nil:
				return fallback.Certificate(site.Domain, time.Now())
			}
			return nil, errors.New("unknown name")
		},
	}
	_, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: "WWW.example.com"})
	fmt.Println(err)
	_, err = config.GetCertificate(&tls.ClientHelloInfo{ServerName: "example.org"})
	fmt.Println(err)
	// Output:
	// <nil>
	// unknown name
}

// When a certificate arrives, a new Site takes the place of the one before.
func ExampleTable_Put() {
	var table live.Table
	var chains live.Chains
	names := []string{"example.com", "www.example.com"}
	table.Put(names, &live.Site{Domain: "example.com"})

	credential, err := chains.NewCredential(issue(names))
	if err != nil {
		fmt.Println(err)
		return
	}
	table.Put(names, &live.Site{Domain: "example.com", Credentials: []*live.Credential{credential}})

	site := table.Lookup("www.example.com")
	fmt.Println(site.Domain, len(site.Credentials))
	// Output: example.com 1
}

// issue stands for a CA: a Fallback's certificate is one like any other.
func issue(names []string) ([][]byte, *ecdsa.PrivateKey) {
	var ca live.Fallback
	certificate, err := ca.Certificate(names[0], time.Now())
	if err != nil {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return nil, key
	}
	return certificate.Certificate, certificate.PrivateKey.(*ecdsa.PrivateKey)
}
