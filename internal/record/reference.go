package record

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// referenceType is the PEM block that stands in the place of a private key
// which is kept elsewhere.
const referenceType = "MD KEY REFERENCE"

// Bounds on a KeyReference. The longest IDs in use are the URIs of PKCS #11
// (RFC 7512) and the resource names of clouds, of some hundred bytes.
const (
	maxProvider = 64
	maxKeyID    = 2048
)

// KeyReference stands for a private key that does not leave the place where it
// is kept, such as a KMS or an HSM. It is no secret.
type KeyReference struct {
	// Provider and ID are what the key is found again by.
	Provider string `json:"provider"`
	ID       string `json:"id"`
	// Public is the public key (SubjectPublicKeyInfo in DER). With it, what
	// was issued for the key can be checked while the key is out of reach, and
	// the key is known to be the right one when it is found again.
	Public []byte `json:"public-key"`
}

// NewKeyReference returns the reference to a key that has the public key
// given. What cannot be kept is refused.
func NewKeyReference(provider, id string, public crypto.PublicKey) (*KeyReference, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	ref := &KeyReference{Provider: provider, ID: id, Public: der}
	return ref, ref.check()
}

// String names the key for people.
func (r *KeyReference) String() string { return fmt.Sprintf("%s key %q", r.Provider, r.ID) }

// Is reports whether public is the public key of the key that r names.
func (r *KeyReference) Is(public crypto.PublicKey) bool {
	der, err := x509.MarshalPKIXPublicKey(public)
	return err == nil && bytes.Equal(der, r.Public)
}

func (r *KeyReference) publicKey() (crypto.PublicKey, error) {
	if len(r.Public) > maxKey {
		return nil, fmt.Errorf("its public key has %d bytes, more than %d", len(r.Public), maxKey)
	}
	return x509.ParsePKIXPublicKey(r.Public)
}

func (r *KeyReference) check() error {
	if err := checkWord(r.Provider, maxProvider); err != nil {
		return fmt.Errorf("the provider of the key %w", err)
	}
	if err := checkWord(r.ID, maxKeyID); err != nil {
		return fmt.Errorf("the ID of the key %w", err)
	}
	if len(r.Public) == 0 {
		return errors.New("the public key is missing")
	}
	return nil
}

// checkWord refuses what cannot be shown to people in one line.
func checkWord(s string, most int) error {
	odd := func(c rune) bool { return !unicode.IsPrint(c) }
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > most:
		return fmt.Errorf("has %d bytes, more than %d", len(s), most)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, odd):
		return fmt.Errorf("has characters that cannot be printed: %.80q", s)
	}
	return nil
}

// encode returns the content of the PEM block.
func (r *KeyReference) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func decodeKeyReference(data []byte) (*KeyReference, error) {
	r := new(KeyReference)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	return r, r.check()
}
