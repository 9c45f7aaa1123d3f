package migrate

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"

	"github.com/manageddomains/md/internal/record"
)

var errNoKey = errors.New("its private key is missing")

// pile is what the PEM files of a directory hold.
type pile struct {
	chains  []pemChain
	keys    []pemKey
	issuers []*x509.Certificate // from files that hold nothing else
}

type pemChain struct {
	path  string
	certs []*x509.Certificate
}

type pemKey struct {
	path string
	key  crypto.Signer
	used bool
}

// maxPiled bounds how many keys and chains are matched with one another.
const maxPiled = 5000

// readPEM reads PEM files of whatever names: a key belongs to the certificate
// that has its public half.
func (r *reader) readPEM() error {
	files := []string{r.only}
	if r.only == "" {
		e, err := r.dir.list(".")
		if err != nil {
			return err
		}
		files = e.files
		for _, link := range e.links {
			if isPEMFile(link) {
				r.tell(Row{Path: link, What: aCertificate, Why: "it is a symbolic link, and is not followed"})
			}
		}
	}
	p := new(pile)
	for _, file := range files {
		if r.only == "" && !isPEMFile(file) {
			continue
		}
		if err := r.pileUp(p, file); err != nil {
			return err
		}
	}
	return r.takePile(p)
}

// pileUp adds what one file holds.
func (r *reader) pileUp(p *pile, file string) error {
	data, err := r.dir.read(file)
	if err != nil {
		return r.refuse(aCertificate, file, "", err)
	}
	got, err := parsePEM(data)
	if err == nil && len(got.keys) == 0 && got.keyErr != nil {
		err = got.keyErr
	}
	if err != nil {
		return r.refuse(aCertificate, file, firstName(got.chain), err)
	}
	for _, key := range got.keys {
		p.keys = append(p.keys, pemKey{path: file, key: key})
	}
	switch {
	case len(got.chain) == 0:
	case got.chain[0].IsCA:
		p.issuers = append(p.issuers, got.chain...)
	default:
		p.chains = append(p.chains, pemChain{file, got.chain})
	}
	if len(p.chains) > maxPiled || len(p.keys) > maxPiled || len(p.issuers) > maxPiled {
		return errTooMuch
	}
	return nil
}

func (r *reader) takePile(p *pile) error {
	for i, c := range p.chains {
		if p.hasBetter(i) {
			continue
		}
		key := p.keyFor(c.certs[0])
		if key == nil {
			r.tell(Row{Path: c.path, What: aCertificate, Name: firstName(c.certs), Why: errNoKey.Error()})
			continue
		}
		if err := r.take(c.path, p.complete(c.certs), key, record.Meta{}); err != nil {
			return err
		}
	}
	for _, k := range p.keys {
		if !k.used {
			r.tell(Row{Path: k.path, What: aCertificate, Why: "it is a private key to which no certificate is found"})
		}
	}
	return nil
}

// hasBetter reports whether the certificate of chain i stands in another
// file with more of its chain, or in a former one with as much.
func (p *pile) hasBetter(i int) bool {
	this := p.chains[i].certs
	for j, other := range p.chains {
		if j == i || !bytes.Equal(other.certs[0].Raw, this[0].Raw) {
			continue
		}
		if len(other.certs) > len(this) || len(other.certs) == len(this) && j < i {
			return true
		}
	}
	return false
}

// keyFor returns the private key of a certificate, nil if there is none.
func (p *pile) keyFor(leaf *x509.Certificate) (key crypto.Signer) {
	for i := range p.keys {
		if isFor(leaf.PublicKey, p.keys[i].key) {
			p.keys[i].used = true
			key = p.keys[i].key
		}
	}
	return key
}

// complete adds to a certificate that stands alone its issuer, if it is there in
// a file of its own.
func (p *pile) complete(certs []*x509.Certificate) []*x509.Certificate {
	if len(certs) != 1 {
		return certs
	}
	for _, issuer := range p.issuers {
		alone := []*x509.Certificate{certs[0], issuer}
		if bytes.Equal(certs[0].RawIssuer, issuer.RawSubject) && checkChain(alone) == nil {
			return alone
		}
	}
	return certs
}
