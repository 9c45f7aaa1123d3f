package acmeclient_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// Example orders a certificate and proves control of the name by DNS.
func Example() {
	records := map[string][]string{} // a name server
	ca := &acmetest.CA{LookupTXT: func(_ context.Context, name string) ([]string, error) { return records[name], nil }}
	defer ca.Close()

	ctx := context.Background()
	client, err := acmeclient.New(acmeclient.CA{URL: ca.DirectoryURL()}, ca.Client(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	chain, err := order(ctx, client, records, "*.example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	leaf, err := x509.ParseCertificate(chain[0])
	fmt.Println(leaf.DNSNames, err)
	// Output: [*.example.com] <nil>
}

func order(ctx context.Context, client *acmeclient.Client, records map[string][]string, name string) ([][]byte, error) {
	// Keys must be kept before they are used: the account's, and the certificate's with the order's URL.
	accountKey, err := acmeclient.P256.Generate(ctx)
	if err != nil {
		return nil, err
	}
	key, err := acmeclient.P256.Generate(ctx)
	if err != nil {
		return nil, err
	}
	account, err := client.Register(ctx, accountKey, []string{"admin@example.com"}, true)
	if err != nil {
		return nil, err
	}
	session := client.Session(accountKey, account.URL)
	request := acmeclient.OrderRequest{Names: []string{name}}
	o, err := session.NewOrder(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, url := range o.Authorizations {
		if err := prove(ctx, session, records, url); err != nil {
			return nil, err
		}
	}
	if o, err = session.WaitReady(ctx, o.URL); err != nil {
		return nil, err
	}
	if o, _, err = session.FinalizeFor(ctx, o, request, key); err != nil {
		return nil, err
	}
	chain, _, err := session.Certificate(ctx, o)
	if err != nil {
		return nil, err
	}
	_, err = acmeclient.CheckChain(chain, key, []string{name}, time.Now())
	return chain, err
}

// prove answers the dns-01 challenge of an authorization.
func prove(ctx context.Context, session *acmeclient.Session, records map[string][]string, url string) error {
	a, err := session.Authorization(ctx, url)
	if err != nil || a.Status == acmeclient.StatusValid {
		return err
	}
	i := slices.IndexFunc(a.Challenges, func(c acmeclient.Challenge) bool { return c.Type == "dns-01" })
	if i < 0 {
		return errors.New("the CA does not offer dns-01")
	}
	sum := sha256.Sum256([]byte(a.Challenges[i].KeyAuthorization))
	records["_acme-challenge."+a.Name] = []string{base64.RawURLEncoding.EncodeToString(sum[:])}
	if err := session.Accept(ctx, a.Challenges[i]); err != nil {
		return err
	}
	_, err = session.WaitAuthorization(ctx, url)
	return err
}

// ExampleProblem shows what to do about an error.
func ExampleProblem() {
	client, err := acmeclient.New(acmeclient.CA{URL: "https://ca.invalid/directory"}, (&acmetest.CA{}).Client(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = client.Directory(ctx)
	var p *acmeclient.Problem
	if errors.As(err, &p) {
		switch {
		case errors.Is(err, context.Canceled):
			fmt.Println("we were told to stop:", p.Op)
		case p.Permanent():
			fmt.Println("somebody has to change something:", p)
		default:
			fmt.Println("try again, but not before", p.RetryAt)
		}
	}
	// Output: we were told to stop: read the CA's directory
}

func ExampleCA_Resolve() {
	ca, err := acmeclient.CA{}.Resolve()
	fmt.Println(ca.Name, ca.URL, err)
	_, err = acmeclient.CA{Name: "buypass"}.Resolve()
	fmt.Println(err != nil)
	// Output:
	// letsencrypt https://acme-v02.api.letsencrypt.org/directory <nil>
	// true
}

func ExampleParseKeyType() {
	t, err := acmeclient.ParseKeyType("secp384r1")
	fmt.Println(t, err)
	// Output: P-384 <nil>
}
