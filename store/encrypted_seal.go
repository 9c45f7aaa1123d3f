package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"slices"
)

// A sealed value is a line that says so, the nonce, what AES-GCM made of the
// value, and its tag:
//
//	md sealed 1 0123456789abcdef\n   form, and ID of the key
//	12 bytes                         nonce, random
//	as many as the value has
//	16 bytes                         tag
//
// The AES key is derived with HKDF-Expand (RFC 5869) from the SealKey and the
// key of the Store; the additional data are the line and the key of the Store.
// Either makes a value open where it was put and nowhere else; the first also
// bounds what one AES key seals by what is put at one key of the Store.
const (
	sealForm   = "md sealed "    // any version of it
	sealPrefix = sealForm + "1 " // the one that is written
	sealIDSize = 16
	sealLine   = len(sealPrefix) + sealIDSize + 1
	sealNonce  = 12
	sealTag    = 16
)

// SealOverhead is how many bytes longer a value is sealed.
const SealOverhead = sealLine + sealNonce + sealTag

// cipherFor returns the AEAD for one key of the Store. It makes its nonces
// itself and keeps them before the ciphertext.
func (s *sealSecret) cipherFor(key string) (cipher.AEAD, error) {
	derived, err := hkdf.Expand(sha256.New, s.secret[:], "md store: value of "+key, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// line is what a value sealed with s begins with.
func (s *sealSecret) line() []byte { return []byte(sealPrefix + s.id + "\n") }

// additional is the data that is authenticated with a value and not kept in it.
// The line has always the same length, so that it cannot be taken for a part of
// key.
func (s *sealSecret) additional(key string) []byte { return append(s.line(), key...) }

func (s *sealSecret) seal(key string, value []byte) ([]byte, error) {
	aead, err := s.cipherFor(key)
	if err != nil {
		return nil, fmt.Errorf("store: sealing %q: %w", key, err)
	}
	sealed := slices.Grow(s.line(), SealOverhead-sealLine+len(value))
	return aead.Seal(sealed, nil, value, s.additional(key)), nil
}

// open opens a value that says it is sealed with s.
func (s *sealSecret) open(key string, sealed []byte) ([]byte, error) {
	if len(sealed) > MaxValue || len(sealed) < SealOverhead {
		return nil, ErrAltered
	}
	aead, err := s.cipherFor(key)
	if err != nil {
		return nil, fmt.Errorf("store: opening %q: %w", key, err)
	}
	value, err := aead.Open(nil, nil, sealed[sealLine:], s.additional(key))
	if err != nil {
		return nil, ErrAltered // all that is known
	}
	return value, nil
}

// sealedWith returns the ID of the key that a value says it is sealed with,
// or ErrNotSealed.
func sealedWith(sealed []byte) (string, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealPrefix))
	if !ok || len(rest) <= sealIDSize || rest[sealIDSize] != '\n' {
		return "", ErrNotSealed
	}
	id := rest[:sealIDSize]
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", ErrNotSealed
		}
	}
	return string(id), nil
}
