package acmeclient

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
)

const maxChain = 10 // certificates

// Certificate downloads the certificate of a valid order and its chain (RFC 8555 §7.4.2), in DER, leaf first.
// Warnings tell what was left out because it was not a certificate. Nothing is said about the certificates themselves: see CheckChain.
func (s *Session) Certificate(ctx context.Context, o *Order) (chain [][]byte, warnings []string, err error) {
	const op = "download the certificate"
	if o.Certificate == "" {
		return nil, nil, &Problem{Op: op, URL: o.URL, Err: fmt.Errorf("the order has none, it is %q", clean(o.Status, 32))}
	}
	r, err := s.do(ctx, op, o.Certificate, func(ctx context.Context) error {
		_, err := s.acme.FetchCert(ctx, o.Certificate, true)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	chain, warnings, err = parseChain(r.body)
	if err != nil {
		return nil, nil, r.invalidReply(op, err.Error())
	}
	return chain, warnings, nil
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
