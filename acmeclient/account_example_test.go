package acmeclient_test

import (
	"context"
	"crypto"
	"fmt"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/acmetest"
)

// A key is changed in two steps that survive a crash in between: the candidate is kept first, beside the key in use. Whoever comes next
// asks the CA which of the two it is, and goes on from there.
func ExampleSession_ChangeKey() {
	ca := &acmetest.CA{}
	defer ca.Close()
	ctx := context.Background()
	client, err := acmeclient.New(acmeclient.CA{URL: ca.DirectoryURL()}, ca.Client(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	inUse, err := acmeclient.P256.Generate(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	account, err := client.Register(ctx, inUse, nil, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	candidate, err := acmeclient.P384.Generate(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	// Here both keys are written to where they are kept.
	for _, attempt := range []string{"first", "after a crash"} {
		changed, err := changeKey(ctx, client, account.URL, inUse, candidate)
		fmt.Println(attempt, changed, err)
	}
	// Here the candidate is written in place of the key that was in use.

	// Output:
	// first true <nil>
	// after a crash false <nil>
}

func changeKey(ctx context.Context, client *acmeclient.Client, url string, inUse, candidate crypto.Signer) (changed bool, err error) {
	key, err := client.KeyOf(ctx, url, candidate, inUse)
	if err != nil || key == candidate {
		return false, err
	}
	return true, client.Session(key, url).ChangeKey(ctx, candidate)
}

func ExampleIdentifiers() {
	fmt.Println(acmeclient.Identifiers([]string{"*.Example.com", "www.example.com", "example.com", "2001:DB8:0::1"}))
	// Output: [*.example.com example.com 2001:db8::1]
}
