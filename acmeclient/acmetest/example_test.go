package acmetest_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// An application that gets its certificates over ACME, here by autocert, is
// tested with the CA in memory: no ports, no DNS, no waiting.
func Example() {
	ca := &acmetest.CA{}
	defer ca.Close()
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS,
		Client: &acme.Client{HTTPClient: ca.Client(), DirectoryURL: ca.DirectoryURL()},
	}
	ca.HTTP = m.HTTPHandler(nil) // what the CA finds at port 80 of every name
	ca.TLS = m.TLSConfig()       // what it finds at port 443

	cert, err := m.GetCertificate(&tls.ClientHelloInfo{
		ServerName:        "app.example.com",
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedVersions: []uint16{tls.VersionTLS13},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	between := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			fmt.Println(err)
			return
		}
		between.AddCert(issuer)
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{DNSName: "app.example.com", Roots: ca.Roots(), Intermediates: between})
	fmt.Println("verified:", err == nil)
	for _, v := range ca.Validations() {
		fmt.Println(v.Name, "by", v.Type)
	}
	// Output:
	// verified: true
	// app.example.com by tls-alpn-01
}

// Fault breaks requests by their number, kind or object. Here the CA has an
// answer to the third request, but the client does not get it.
func ExampleCA_fault() {
	ca := &acmetest.CA{Fault: func(op acmetest.Op) acmetest.Fault {
		if op.N == 3 {
			return acmetest.FaultAfter
		}
		return acmetest.FaultNone
	}}
	defer ca.Close()
	for range 4 {
		res, err := ca.Client().Get(ca.DirectoryURL())
		if err == nil {
			res.Body.Close()
		}
	}
	for _, line := range ca.Trace() {
		fmt.Println(line)
	}
	// Output:
	// 1 directory → 200 OK
	// 2 directory → 200 OK
	// 3 directory → lost (fault: after)
	// 4 directory → 200 OK
}

// Faults draws unfairness by seed. A client that keeps trying gets through.
func ExampleFaults() {
	ca := &acmetest.CA{Seed: 1, Faults: acmetest.Faults{ServerError: 1}}
	defer ca.Close()
	for range 3 {
		res, err := ca.Client().Get(ca.DirectoryURL())
		if err != nil {
			fmt.Println(err)
			return
		}
		res.Body.Close()
		fmt.Println(res.StatusCode == http.StatusOK)
	}
	// Output:
	// false
	// false
	// true
}
