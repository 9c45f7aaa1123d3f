package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/manageddomains/md/examples/localca"
)

// bare gets certificates with nothing but golang.org/x/crypto/acme: the floor
// below which no Manager can come. It keeps nothing and checks nothing.
type bare struct {
	challenge string // "http-01" or "tls-alpn-01"
	plain     net.Listener
	secure    net.Listener

	mu      sync.Mutex                  // guards answers and proofs
	answers map[string]string           // http-01: by path
	proofs  map[string]*tls.Certificate // tls-alpn-01: by name
}

// startBare begins to answer challenges on ports of its own.
func startBare(tb testing.TB, challenge string) *bare {
	tb.Helper()
	f := &bare{
		challenge: challenge,
		plain:     listen(tb), secure: listen(tb),
		answers: make(map[string]string),
		proofs:  make(map[string]*tls.Certificate),
	}
	serve(tb, &http.Server{Handler: http.HandlerFunc(f.answerHTTP)}, f.plain)
	config := &tls.Config{GetCertificate: f.proof, NextProtos: []string{acme.ALPNProto}}
	serve(tb, &http.Server{TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
		acme.ALPNProto: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { conn.Close() },
	}}, tls.NewListener(f.secure, config))
	return f
}

func (f *bare) answerHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	answer := f.answers[r.URL.Path]
	f.mu.Unlock()
	_, _ = w.Write([]byte(answer))
}

func (f *bare) proof(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if proof := f.proofs[hello.ServerName]; proof != nil {
		return proof, nil
	}
	return nil, errors.New("no challenge for this name")
}

// obtain gets one certificate for each name from ca, as many at once as there
// are workers.
func (f *bare) obtain(ctx context.Context, ca *localca.CA, names []string, workers int) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: ca.TLSRoots()},
		MaxIdleConnsPerHost: workers,
	}
	defer transport.CloseIdleConnections()
	newClient := func() *acme.Client {
		return &acme.Client{Key: key, DirectoryURL: ca.DirectoryURL(), HTTPClient: &http.Client{Transport: transport}}
	}
	account, err := newClient().Register(ctx, &acme.Account{}, acme.AcceptTOS)
	if err != nil {
		return err
	}

	todo := make(chan string, len(names))
	for _, name := range names {
		todo <- name
	}
	close(todo)
	errs := make(chan error, workers)
	for range workers {
		go func() {
			client := newClient() // one for each: it holds mutexes over the network
			client.KID = acme.KeyID(account.URI)
			var err error
			for name := range todo {
				if err = f.obtainOne(ctx, client, name); err != nil {
					break
				}
			}
			errs <- err
		}()
	}
	for range workers {
		err = errors.Join(err, <-errs)
	}
	return err
}

func (f *bare) obtainOne(ctx context.Context, client *acme.Client, name string) error {
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(name))
	if err != nil {
		return err
	}
	for _, url := range order.AuthzURLs {
		if err := f.authorize(ctx, client, url); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, order, csr, true)
	if err != nil {
		return err
	}
	_, err = x509.ParseCertificate(chain[0])
	return err
}

func (f *bare) authorize(ctx context.Context, client *acme.Client, url string) error {
	authorization, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return err
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type != f.challenge {
			continue
		}
		if err := f.present(client, challenge, authorization.Identifier.Value); err != nil {
			return err
		}
		if _, err := client.Accept(ctx, challenge); err != nil {
			return err
		}
	}
	for wait := 5 * time.Millisecond; authorization.Status != acme.StatusValid; wait *= 2 {
		if authorization.Status == acme.StatusInvalid {
			return fmt.Errorf("%s is not authorized", authorization.Identifier.Value)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		if authorization, err = client.GetAuthorization(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

func (f *bare) present(client *acme.Client, challenge *acme.Challenge, name string) error {
	if f.challenge == "tls-alpn-01" {
		proof, err := client.TLSALPN01ChallengeCert(challenge.Token, name)
		if err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.proofs[name] = &proof
		return nil
	}
	answer, err := client.HTTP01ChallengeResponse(challenge.Token)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[client.HTTP01ChallengePath(challenge.Token)] = answer
	return nil
}
