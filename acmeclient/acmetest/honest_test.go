package acmetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// honest is a client that tries again: each request a few times, and the
// whole attempt as often as it takes. It believes nothing unchecked.
type honest struct {
	wire
	ca       *CA
	site     *site
	contact  string
	attempts int
	waits    []string // the Retry-After headers it met
}

func newHonest(t testing.TB, ca *CA, s *site, contact string) *honest {
	return &honest{wire: wire{hc: ca.Client(), key: ecdsaKey(t)}, ca: ca, site: s, contact: contact}
}

// again tries a request until it is answered with one of the statuses.
func (h *honest) again(request func() (*answer, error), want ...int) (*answer, error) {
	var last error
	for range 10 {
		a, err := request()
		if err == nil {
			h.wait(a)
			for _, status := range want {
				if a.status == status {
					return a, nil
				}
			}
			err = fmt.Errorf("got %d %s", a.status, a.problem())
		}
		last = err
	}
	return nil, last
}

// wait sleeps as told, but for no longer than a minute.
func (h *honest) wait(a *answer) {
	text := a.header.Get("Retry-After")
	if text == "" {
		return
	}
	h.waits = append(h.waits, text)
	d := time.Second
	if n, err := strconv.Atoi(text); err == nil {
		d = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = time.Until(at)
	}
	time.Sleep(min(max(d, 0), time.Minute))
}

func (h *honest) signed(ctx context.Context, url string, payload any, want ...int) (*answer, error) {
	return h.again(func() (*answer, error) { return h.try(ctx, url, payload, alter{}) }, want...)
}

// obtain gets a right certificate in at most so many attempts.
func (h *honest) obtain(ctx context.Context, most int, names ...string) error {
	var last error
	for range most {
		h.attempts++
		if last = h.attempt(ctx, names); last == nil {
			return nil
		}
		time.Sleep(time.Minute)
	}
	return fmt.Errorf("no certificate after %d attempts: %w", h.attempts, last)
}

func (h *honest) attempt(ctx context.Context, names []string) error {
	if _, err := h.again(func() (*answer, error) {
		return &answer{status: 200}, h.discover(ctx, h.ca)
	}, 200); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	if h.kid == "" {
		a, err := h.signed(ctx, h.url("newAccount"), map[string]any{"contact": []string{h.contact}}, 200, 201)
		if err != nil {
			return fmt.Errorf("newAccount: %w", err)
		}
		h.kid = a.location()
	}
	o, err := h.signed(ctx, h.url("newOrder"), orderFor(names...), 201)
	if err != nil {
		return fmt.Errorf("newOrder: %w", err)
	}
	url := o.location()
	if url == "" || len(o.doc.Authorizations) != len(names) {
		return errors.New("newOrder: not an order")
	}
	for _, u := range o.doc.Authorizations {
		if err := h.authorize(ctx, u); err != nil {
			return fmt.Errorf("authorization: %w", err)
		}
	}
	if o, err = h.poll(ctx, url, ready, valid); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	key, err := newKey(false, "", "")
	if err != nil {
		return err
	}
	return h.finish(ctx, url, o, key.(*ecdsa.PrivateKey), names)
}

// poll looks until something is in one of the states.
func (h *honest) poll(ctx context.Context, url string, states ...string) (*answer, error) {
	for range 30 {
		a, err := h.signed(ctx, url, nil, 200)
		if err != nil {
			return nil, err
		}
		for _, state := range states {
			if a.is(state) {
				return a, nil
			}
		}
		time.Sleep(time.Second)
	}
	return nil, errors.New("it does not become " + strings.Join(states, " or "))
}

func (h *honest) authorize(ctx context.Context, url string) error {
	a, err := h.poll(ctx, url, pending, valid)
	if err != nil || a.is(valid) {
		return err
	}
	var doc struct{ Identifier struct{ Value string } }
	if err := decodeJSON(a.body, &doc); err != nil {
		return err
	}
	for _, c := range a.doc.Challenges {
		if c.Type != typeDNS01 || c.Token == "" {
			continue
		}
		h.site.setTXT(doc.Identifier.Value, digestOf(c.Token+"."+thumbprint(h.key.Public())))
		if _, err := h.signed(ctx, c.URL, map[string]any{}, 200); err != nil {
			return err
		}
	}
	_, err = h.poll(ctx, url, valid)
	return err
}

// finish finalizes an order and downloads what it gives.
func (h *honest) finish(ctx context.Context, url string, o *answer, key *ecdsa.PrivateKey, names []string) error {
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		return err
	}
	csr := map[string]any{"csr": base64.RawURLEncoding.EncodeToString(der)}
	if o.is(ready) {
		// Whatever comes back, the order tells how it stands.
		_, _ = h.signed(ctx, o.doc.Finalize, csr, 200, 403)
	}
	if o, err = h.poll(ctx, url, valid); err != nil {
		return fmt.Errorf("finalized order: %w", err)
	}
	var bad error
	for range 5 {
		a, err := h.signed(ctx, o.doc.Certificate, nil, 200)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		if bad = h.accept(a.body, key, names); bad == nil {
			return nil
		}
	}
	return bad
}

// accept checks a chain as a careful client does.
func (h *honest) accept(text []byte, key *ecdsa.PrivateKey, names []string) error {
	between := x509.NewCertPool()
	var leaf *x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if leaf == nil {
			leaf = cert
		}
		between.AddCert(cert)
	}
	switch {
	case leaf == nil:
		return errors.New("there is no certificate")
	case !sameKey(leaf.PublicKey, key.Public()):
		return errors.New("the certificate is for another key")
	}
	for _, name := range names {
		opts := x509.VerifyOptions{Roots: h.ca.Roots(), Intermediates: between, DNSName: name, CurrentTime: time.Now()}
		if _, err := leaf.Verify(opts); err != nil {
			return err
		}
	}
	return nil
}
