package challenge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/store"
)

// Any process that shares the Store answers what another has presented.
func ExampleHTTP01() {
	http01 := &challenge.HTTP01{Store: new(store.Memory)}
	app := http.NotFoundHandler()
	server := httptest.NewServer(http01.Handler(app))
	defer server.Close()

	c := challenge.Challenge{
		Type:             challenge.TypeHTTP01,
		Name:             "127.0.0.1",
		Token:            "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA",
		KeyAuthorization: "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI",
	}
	if err := http01.Present(context.Background(), c); err != nil {
		fmt.Println(err)
		return
	}
	response, err := http.Get(server.URL + "/.well-known/acme-challenge/" + c.Token)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.Status, response.ContentLength)
	// Output: 200 OK 87
}

// The callback goes into the server's TLS configuration, before anything else
// that chooses by name.
func ExampleTLSALPN01_ConfigForClient() {
	alpn := &challenge.TLSALPN01{Store: new(store.Memory)}

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Protocols: &protocols,
		TLSConfig: &tls.Config{GetConfigForClient: alpn.ConfigForClient},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			challenge.ALPNProto: challenge.CloseNextProto,
		},
	}

	// Browsers are not its business.
	config, err := server.TLSConfig.GetConfigForClient(&tls.ClientHelloInfo{
		ServerName:      "example.com",
		SupportedProtos: []string{"h2", "http/1.1"},
	})
	fmt.Println(config, err)
	// Output: <nil> <nil>
}

func ExampleChallenge_TXTValue() {
	c := challenge.Challenge{
		Type:             challenge.TypeDNS01,
		Name:             "www.example.org",
		KeyAuthorization: "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI",
	}
	fmt.Println(c.TXTName(), c.TXTValue())
	// Output: _acme-challenge.www.example.org lCM7cZyQXcVHK2nnW3jjAhNT3Fvm18UN-kWZZknKoYM
}
