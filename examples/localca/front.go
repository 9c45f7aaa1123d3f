package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
)

// oneAtATime lets one request in at a time: Pebble v2.10.1 takes its locks in
// different orders in different handlers, and hangs when many requests come
// at once.
//
// The request that finalizes an order also waits for the certificate, since
// the goroutine that issues it may otherwise meet a handler that locks the
// order twice for reading, and both hang. The answer to the client was
// "processing" all the same.
func oneAtATime(pebble http.Handler, memory *db.MemoryStore) http.Handler {
	const finalize = "/finalize-order/"
	var mu sync.Mutex // one request at a time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		pebble.ServeHTTP(w, r)
		if id, ok := strings.CutPrefix(r.URL.Path, finalize); ok {
			if order := memory.GetOrderByID(id); order != nil {
				awaitIssued(order)
			}
		}
	})
}

// awaitIssued waits until the order's certificate is there, or, should
// issuing have failed, for a second.
func awaitIssued(order *core.Order) {
	for range 10_000 {
		order.RLock()
		done := !order.BeganProcessing || order.CertificateObject != nil
		order.RUnlock()
		if done {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// serverCertificate makes the certificate of the CA's own server, which is
// its own root.
func serverCertificate() (*tls.Config, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "local CA server"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, certificate, nil
}
