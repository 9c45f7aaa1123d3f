package acmeclient

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

const (
	maxChain      = 10 // certificates
	maxAlternates = 8  // chains that are looked at, besides the default one
)

// Certificate downloads the certificate of a valid order and its chain (RFC 8555 §7.4.2), in DER, leaf first.
// Warnings tell what was left out because it was not a certificate. Nothing is said about the certificates themselves: see CheckChain.
func (s *Session) Certificate(ctx context.Context, o *Order) (chain [][]byte, warnings []string, err error) {
	return s.ChainTo(ctx, o, "")
}

// ChainTo is like Certificate, but prefers the chain to the root with that common name, in any case: the CA's default chain, or the first of
// at most eight alternates (RFC 8555 §7.4.2). What counts is who has issued the last certificate of a chain; the root need not be in it.
// If none leads there, or none that can be downloaded, it is the default chain and a warning that names the roots there are.
// An empty root is as good as any.
func (s *Session) ChainTo(ctx context.Context, o *Order, root string) (chain [][]byte, warnings []string, err error) {
	const op = "download the certificate"
	if o.Certificate == "" {
		return nil, nil, &Problem{Op: op, URL: o.URL, Err: fmt.Errorf("the order has none, it is %q", clean(o.Status, 32))}
	}
	chain, warnings, r, err := s.download(ctx, op, o.Certificate)
	if err != nil || root == "" {
		return chain, warnings, err
	}
	found := []string{rootOf(chain)}
	if sameName(found[0], root) {
		return chain, warnings, nil
	}
	alternates := r.alternates()
	for _, url := range alternates[:min(len(alternates), maxAlternates)] {
		other, otherWarnings, _, err := s.download(ctx, "download an alternate chain", url)
		var p *Problem
		switch {
		case ctx.Err() != nil:
			return nil, nil, err // the certificate stays where it is, for the next attempt
		case err != nil:
			warnings = append(warnings, clean(err.Error(), maxDetail))
		case !bytes.Equal(other[0], chain[0]):
			warnings = append(warnings, "the alternate chain at "+clean(url, maxURL)+" is for another certificate (RFC 8555 §7.4.2)")
		case sameName(rootOf(other), root):
			return other, otherWarnings, nil
		default:
			found = append(found, rootOf(other))
		}
		if errors.As(err, &p) && p.Status == http.StatusTooManyRequests {
			break // it will not be different for the others
		}
	}
	return chain, append(warnings, noRoot(root, found, len(alternates))), nil
}

// noRoot says that a root was not found, but others were, the default chain's first.
func noRoot(root string, found []string, alternates int) string {
	text := fmt.Sprintf("no chain leads to the root %q; the CA's default chain is used, which leads to %q", clean(root, maxShort), found[0])
	if len(found) > 1 {
		text += fmt.Sprintf("; others lead to %q", found[1:])
	}
	if alternates > maxAlternates {
		text += fmt.Sprintf("; only %d of %d alternates were looked at", maxAlternates, alternates)
	}
	return text
}

func sameName(a, b string) bool { return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b)) }

// rootOf returns the common name of whoever has issued the last certificate of chain that is linked with its leaf, or "" if it has none.
// Signatures are not checked here.
func rootOf(chain [][]byte) string {
	var top *x509.Certificate
	for _, der := range chain {
		cert, err := parseCertificate(der)
		switch {
		case err != nil:
		case top == nil, bytes.Equal(top.RawIssuer, cert.RawSubject):
			top = cert
		}
	}
	if top == nil {
		return ""
	}
	return clean(top.Issuer.CommonName, maxShort)
}

// download fetches one chain. One that breaks off behind a certificate is asked for again; if that does not help, it is used as it is.
func (s *Session) download(ctx context.Context, op, url string) (chain [][]byte, warnings []string, r *reply, err error) {
	err = s.look(ctx, op, url, func(ctx context.Context) error {
		chain = nil // of the try before
		_, err := s.acme.FetchCert(ctx, url, true)
		return err
	}, func(answer *reply) (err error) {
		r = answer
		chain, warnings, err = parseChain(r.body)
		switch {
		case err != nil:
			return r.garbled(op, err.Error())
		case breaksOff(r.body):
			return r.garbled(op, "breaks off within a certificate")
		}
		return nil
	})
	if err != nil && (len(chain) == 0 || ctx.Err() != nil) {
		return nil, nil, nil, err
	}
	return chain, warnings, r, nil
}

// breaksOff reports whether the last PEM block of text, or what looks like the begin of one, cannot be read.
func breaksOff(text []byte) bool {
	i := bytes.LastIndex(text, []byte("-----B"))
	if i < 0 {
		return false
	}
	block, _ := pem.Decode(text[i:])
	return block == nil
}

// parseChain reads a PEM chain (RFC 8555 §9.1). The error is the rest of a sentence about it.
func parseChain(text []byte) (chain [][]byte, warnings []string, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		switch {
		case block.Type != "CERTIFICATE":
			if len(warnings) < maxChain {
				warnings = append(warnings, fmt.Sprintf("ignored a PEM block %q in the certificate chain", clean(block.Type, 64)))
			}
		case len(chain) == maxChain:
			return nil, nil, fmt.Errorf("has more than %d certificates", maxChain)
		default:
			chain = append(chain, block.Bytes)
		}
	}
	if len(chain) == 0 {
		return nil, nil, errors.New("has no certificate in it")
	}
	if len(bytes.TrimSpace(text)) > 0 {
		warnings = append(warnings, "ignored what follows the last certificate of the chain")
	}
	return chain, warnings, nil
}
