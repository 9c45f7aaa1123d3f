package e2e_test

import (
	"crypto/tls"
	"net/http"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

type (
	httpRequest  = http.Request
	httpResponse = http.Response
)

func helloFor(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256}}
}

func both(one, two *acmetest.CA) *http.Client {
	a, b := one.Client().Transport, two.Client().Transport
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "two.test" {
			return b.RoundTrip(r)
		}
		return a.RoundTrip(r)
	})}
}
