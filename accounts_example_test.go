package md_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/store"
)

// A CA that binds accounts to a contract gives out a key identifier and a key.
func ExampleEAB() {
	m := &md.Manager{
		Domains: []md.Domain{{
			Names: []string{"example.com"},
			CAs: []md.CA{{
				Name: "google",
				EAB:  md.EAB{KeyID: "4bf92f3577b34da6", HMAC: md.NewSecret("dGhpcyBpcyBhIGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzLg")},
			}, {
				Name: "zerossl",
				EAB:  md.EAB{File: "/etc/myserver/zerossl.json"}, // {"kid": "…", "hmac": "…"}
			}},
		}},
		AcceptTerms: true,
	}
	fmt.Println(m.Check())
	fmt.Println(m.Domains[0].CAs[0].EAB.HMAC)
	// Output:
	// <nil>
	// ***
}

// An account moves to another Store, and gets another key there. None of this
// needs Run.
func ExampleManager_ImportAccount() {
	ca := new(acmetest.CA)
	defer ca.Close()
	at := md.CA{URL: ca.DirectoryURL()}
	manager := func() *md.Manager {
		return &md.Manager{
			Domains:    []md.Domain{{Names: []string{"example.com"}, CAs: []md.CA{at}}},
			HTTPClient: ca.Client(),
			Store:      new(store.Memory),
		}
	}
	ctx := context.Background()
	former, m := manager(), manager()
	ca.HTTP, ca.TLS = former.HTTPHandler(nil), former.TLSConfig()
	if err := former.Renew(ctx, "example.com"); err != nil { // which registers an account
		log.Fatal(err)
	}

	account, err := former.ExportAccount(ctx, at) // keep it to yourself: it has the private key
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.ImportAccount(ctx, at, account, false))
	fmt.Println(m.RollAccountKey(ctx, at))
	fmt.Println(errors.Is(m.ImportAccount(ctx, at, account, false), md.ErrTaken)) // it is another by now
	fmt.Println(len(ca.Accounts()), "account")
	// Output:
	// <nil>
	// <nil>
	// true
	// 1 account
}
