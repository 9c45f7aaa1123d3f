package tailscale_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/tailscale"
)

// Example asks the daemon for the certificate of this machine.
func Example() {
	ca, err := acmeclient.CA{Protocol: acmeclient.Tailscale, URL: "file:///nowhere/tailscaled.sock"}.Resolve()
	if err != nil {
		fmt.Println(err)
		return
	}
	daemon := &tailscale.Daemon{Socket: ca.Socket()}
	chain, key, err := daemon.Certificate(context.Background(), "host.tail1234.ts.net", 0)
	switch {
	case errors.Is(err, tailscale.ErrNotRunning):
		fmt.Println("start it")
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	cert := tls.Certificate{Certificate: chain, PrivateKey: key}
	fmt.Println(len(cert.Certificate))
	// Output: start it
}
