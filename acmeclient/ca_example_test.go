package acmeclient_test

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/manageddomains/md/acmeclient"
)

// ExampleCA_Resolve_eab shows a CA that needs an external account binding.
func ExampleCA_Resolve_eab() {
	ca := acmeclient.CA{Name: "ZeroSSL"}
	_, err := ca.Resolve()
	fmt.Println(err)

	ca.EAB = acmeclient.EAB{KeyID: "kid-1", HMAC: acmeclient.NewSecret("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")}
	ca, err = ca.Resolve()
	fmt.Println(ca, ca.EAB, err)
	// Output:
	// the CA zerossl: it needs an external account binding (EAB): it is made at https://app.zerossl.com/developer
	// zerossl https://acme.zerossl.com/v2/DV90 {kid-1 *** } <nil>
}

func ExampleCA_Rehearsal() {
	test, ok := acmeclient.CA{}.Rehearsal()
	fmt.Println(test, ok)
	// Output: letsencrypt-staging https://acme-staging-v02.api.letsencrypt.org/directory true
}

func ExampleKnownCAs() {
	for _, known := range acmeclient.KnownCAs() {
		if known.IPProfile != "" && known.Rehearsal != "" {
			fmt.Println(known.Title, "needs the profile", known.IPProfile, "for IP addresses")
		}
	}
	// Output: Let's Encrypt needs the profile shortlived for IP addresses
}

func ExampleSecret() {
	secret := acmeclient.NewSecret("never to be seen")
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("configured", "hmac", secret)
	fmt.Printf("%v %q %x\n", secret, secret, secret)
	// Output:
	// level=INFO msg=configured hmac=***
	// *** *** ***
}
