package record

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	credentialType  = "MD CREDENTIAL"
	privateKeyType  = "PRIVATE KEY"
	certificateType = "CERTIFICATE"
)

// Set is all that a Domain serves, as one value: a credential for each key
// type, first choice first. It is written and read as one PEM text, so that
// it is replaced as a whole or not at all.
type Set struct {
	Credentials []Credential
}

// Credential is a private key, or a reference to one, with what a CA has
// certified about it. In
// staging its Chain may be empty: then Order names an order in progress.
type Credential struct {
	Meta
	// Key is the private key in PKCS #8 form.
	Key []byte `json:"-"`
	// Reference stands in the place of Key for a key that is kept elsewhere,
	// else it is nil.
	Reference *KeyReference `json:"-"`
	// Chain is the certificate chain in DER, leaf first.
	Chain [][]byte
	// Other holds the blocks behind the chain that this version does not
	// know. They are kept.
	Other []*pem.Block

	unknown map[string]json.RawMessage
}

// Meta tells where a credential comes from.
type Meta struct {
	KeyType     string    `json:"key-type"`
	CA          string    `json:"ca,omitempty"`          // directory URL
	Account     string    `json:"account,omitempty"`     // account URL
	Order       string    `json:"order,omitempty"`       // order URL
	Certificate string    `json:"certificate,omitempty"` // certificate URL
	Profile     string    `json:"profile,omitempty"`
	When        time.Time `json:"when"` // when the chain came, or the order was made
}

// Complete reports whether the credential has its certificate.
func (c *Credential) Complete() bool { return len(c.Chain) > 0 }

// Format keeps the key out of whatever is printed.
func (c Credential) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "record.Credential(%.40q)", c.KeyType)
}

// Signer returns the private key, unless it is kept elsewhere.
func (c *Credential) Signer() (crypto.Signer, error) {
	if c.Reference != nil {
		return nil, fmt.Errorf("the private key of the %.40q certificate is kept elsewhere: %s", c.KeyType, c.Reference)
	}
	key, err := parseKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("the private key of the %.40q certificate: %w", c.KeyType, err)
	}
	return key, nil
}

// Public returns the public half of the private key, wherever that is kept.
func (c *Credential) Public() (crypto.PublicKey, error) {
	if c.Reference != nil {
		public, err := c.Reference.publicKey()
		if err != nil {
			return nil, fmt.Errorf("the public key of the %.40q certificate (%s): %w", c.KeyType, c.Reference, err)
		}
		return public, nil
	}
	key, err := c.Signer()
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// Leaf returns the parsed leaf certificate.
func (c *Credential) Leaf() (*x509.Certificate, error) {
	if !c.Complete() {
		return nil, fmt.Errorf("the %.40q certificate is missing", c.KeyType)
	}
	leaf, err := x509.ParseCertificate(c.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("the %.40q certificate: %w", c.KeyType, err)
	}
	return leaf, nil
}

// Complete reports whether the Set has credentials and all of them have
// their certificates.
func (s *Set) Complete() bool {
	for i := range s.Credentials {
		if !s.Credentials[i].Complete() {
			return false
		}
	}
	return len(s.Credentials) > 0
}

// Credential returns the credential of a key type, nil if there is none.
func (s *Set) Credential(keyType string) *Credential {
	if s == nil {
		return nil
	}
	for i := range s.Credentials {
		if s.Credentials[i].KeyType == keyType {
			return &s.Credentials[i]
		}
	}
	return nil
}

// Replace puts c in the place of the credential of its key type, or at the end.
func (s *Set) Replace(c Credential) {
	if old := s.Credential(c.KeyType); old != nil {
		*old = c
		return
	}
	s.Credentials = append(s.Credentials, c)
}

// When is the moment of the newest credential.
func (s *Set) When() time.Time {
	var t time.Time
	for i := range s.Credentials {
		if s.Credentials[i].When.After(t) {
			t = s.Credentials[i].When
		}
	}
	return t
}

// Encode returns the Set as PEM. What DecodeSet has accepted encodes to the
// same bytes.
func (s *Set) Encode() ([]byte, error) {
	sections := make([]section, 0, len(s.Credentials))
	for i := range s.Credentials {
		c := &s.Credentials[i]
		key, err := c.keyBlock()
		if err != nil {
			return nil, err
		}
		blocks := make([]*pem.Block, 0, 1+len(c.Chain)+len(c.Other))
		blocks = append(blocks, key)
		for _, der := range c.Chain {
			blocks = append(blocks, &pem.Block{Type: certificateType, Bytes: der})
		}
		blocks = append(blocks, c.Other...)
		sections = append(sections, section{meta: c.Meta, unknown: c.unknown, blocks: blocks})
	}
	return encodeSections(credentialType, sections)
}

// keyBlock returns the private key, or what stands for it.
func (c *Credential) keyBlock() (*pem.Block, error) {
	if c.Reference == nil {
		return &pem.Block{Type: privateKeyType, Bytes: c.Key}, nil
	}
	if len(c.Key) > 0 {
		return nil, fmt.Errorf("the %.40q credential has both a private key and a reference to one", c.KeyType)
	}
	text, err := c.Reference.encode()
	if err != nil {
		return nil, fmt.Errorf("the %.40q credential: %w", c.KeyType, err)
	}
	return &pem.Block{Type: referenceType, Bytes: text}, nil
}

// DecodeSet reads what Encode wrote: the same bytes, or it is an error.
func DecodeSet(data []byte) (*Set, error) {
	set, err := decodeUnchecked(data)
	if err != nil {
		return nil, err
	}
	if err := checkForm(data, set.Encode); err != nil {
		return nil, err
	}
	return set, nil
}

// decodeUnchecked reads what DecodeSet has accepted before.
func decodeUnchecked(data []byte) (*Set, error) {
	sections, err := decodeSections(data, credentialType)
	if err != nil {
		return nil, err
	}
	if len(sections) == 0 {
		return nil, errors.New("it is empty")
	}
	set := new(Set)
	for _, s := range sections {
		c, err := s.credential()
		if err != nil {
			return nil, err
		}
		if set.Credential(c.KeyType) != nil {
			return nil, fmt.Errorf("it has two credentials of type %.40q", c.KeyType)
		}
		set.Credentials = append(set.Credentials, c)
	}
	return set, nil
}

func (s rawSection) credential() (Credential, error) {
	var c Credential
	unknown, err := s.metadata(&c.Meta)
	if err != nil {
		return c, err
	}
	c.unknown = unknown
	blocks := s.blocks
	switch {
	case len(blocks) > 0 && blocks[0].Type == privateKeyType:
		c.Key = blocks[0].Bytes
	case len(blocks) > 0 && blocks[0].Type == referenceType:
		if c.Reference, err = decodeKeyReference(blocks[0].Bytes); err != nil {
			return c, fmt.Errorf("the key reference of the %.40q credential: %w", c.KeyType, err)
		}
	default:
		return c, fmt.Errorf("the private key of the %.40q credential is missing: behind its metadata is no block %q or %q", c.KeyType, privateKeyType, referenceType)
	}
	for blocks = blocks[1:]; len(blocks) > 0 && blocks[0].Type == certificateType; blocks = blocks[1:] {
		c.Chain = append(c.Chain, blocks[0].Bytes)
	}
	c.Other = blocks
	return c, nil
}

// Hash names the content of the Set: 16 hex digits.
func (s *Set) Hash() (string, error) {
	data, err := s.Encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}
