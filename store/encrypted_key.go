package store

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// SealKeySize is the length in bytes of a SealKey.
const SealKeySize = 32

// SealKey is a secret that [Encrypted] seals values with. It never prints: not
// by fmt, log/slog or encoding/json, nor as part of what is printed. The zero
// SealKey is none, and no Keyring takes it. Two are the same key if they have
// the same ID.
type SealKey struct {
	s *sealSecret
}

// sealSecret is what a SealKey is made of. The secret stands behind a second
// pointer: where a SealKey is in an unexported field, fmt does not ask its
// methods, and follows one pointer, though only for verbs that it does not know.
type sealSecret struct {
	id     string
	secret *[SealKeySize]byte
}

// NewSealKey returns a random key. Write its Secret where it outlives the
// process: without it, what it has sealed is lost.
func NewSealKey() SealKey {
	var secret [SealKeySize]byte
	_, _ = rand.Read(secret[:]) // never fails
	return sealKey(secret)
}

// SealKeyFrom returns the key made of 32 secret bytes, which must be random:
// those of a key management service, say, and not a password.
func SealKeyFrom(secret []byte) (SealKey, error) {
	if len(secret) != SealKeySize {
		return SealKey{}, fmt.Errorf("store: a SealKey has %d bytes, not %d", SealKeySize, len(secret))
	}
	return sealKey([SealKeySize]byte(secret)), nil
}

// ParseSealKey reads a key as 32 bytes in base64, which is what
//
//	openssl rand -base64 32
//
// writes. White space around it is ignored. The error does not quote text.
func ParseSealKey(text string) (SealKey, error) {
	text = strings.TrimSpace(text)
	if len(text) > 2*SealKeySize {
		return SealKey{}, fmt.Errorf("store: the text of a SealKey is too long: it has %d bytes", len(text))
	}
	secret, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		// What base64 says of it may tell a byte of it.
		return SealKey{}, errors.New("store: the text of a SealKey is not base64; make one with: openssl rand -base64 32")
	}
	return SealKeyFrom(secret)
}

func sealKey(secret [SealKeySize]byte) SealKey {
	id, err := hkdf.Expand(sha256.New, secret[:], "md store: id of a sealing key", sealIDSize/2)
	if err != nil {
		panic(err) // it fails only for absurd lengths
	}
	return SealKey{&sealSecret{id: hex.EncodeToString(id), secret: &secret}}
}

// Secret returns the key's 32 bytes, to be kept somewhere safe; nil for the
// zero SealKey. What ParseSealKey reads is their standard base64.
func (k SealKey) Secret() []byte {
	if k.s == nil {
		return nil
	}
	return append([]byte(nil), k.s.secret[:]...)
}

// ID returns the name of the key that stands in what it seals: 16 hex digits
// that are derived from it and tell nothing of it. It is empty for the zero
// SealKey.
func (k SealKey) ID() string {
	if k.s == nil {
		return ""
	}
	return k.s.id
}

const redacted = "***"

// String returns "***".
func (k SealKey) String() string { return redacted }

// GoString returns "***".
func (k SealKey) GoString() string { return redacted }

// Format writes "***", whatever the verb.
func (k SealKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer: "***".
func (k SealKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "***". Nothing reads it back.
func (k SealKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "***" in quotes. Nothing reads it back.
func (k SealKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// maxSealKeys bounds a Keyring. Keys that seal nothing any more belong out of it.
const maxSealKeys = 64

// Keyring is the keys of one or more [Encrypted] Stores: the newest, which
// seals, and older ones, which only open. Its methods may be called
// concurrently, and while the Stores are used. The zero Keyring is empty:
// with it, no value can be put or opened. It must not be copied after first
// use.
type Keyring struct {
	keys atomic.Pointer[[]SealKey] // newest first; never changed in place
}

// NewKeyring returns a Keyring that seals with newest and opens with all. A
// key that is none, or there twice, is an error.
func NewKeyring(newest SealKey, older ...SealKey) (*Keyring, error) {
	r := new(Keyring)
	if err := r.Replace(newest, older...); err != nil {
		return nil, err
	}
	return r, nil
}

// Replace gives the Keyring other keys, all at once. What is being sealed or
// opened meanwhile uses the former or these. After an error, the former remain.
func (r *Keyring) Replace(newest SealKey, older ...SealKey) error {
	keys := append([]SealKey{newest}, older...)
	if len(keys) > maxSealKeys {
		return fmt.Errorf("store: a Keyring has %d keys, more than %d", len(keys), maxSealKeys)
	}
	seen := make(map[string]bool)
	for i, k := range keys {
		switch {
		case k.s == nil:
			return fmt.Errorf("store: key %d of the Keyring is the zero SealKey; read one with ParseSealKey", i+1)
		case seen[k.ID()]:
			return fmt.Errorf("store: the key %s is twice in the Keyring", k.ID())
		}
		seen[k.ID()] = true
	}
	r.keys.Store(&keys)
	return nil
}

// IDs returns the IDs of the keys, newest first.
func (r *Keyring) IDs() []string {
	var ids []string
	for _, k := range r.all() {
		ids = append(ids, k.ID())
	}
	return ids
}

// String lists the IDs of the keys, which are no secret.
func (r *Keyring) String() string { return fmt.Sprintf("store.Keyring%q", r.IDs()) }

// GoString does as String does.
func (r *Keyring) GoString() string { return r.String() }

func (r *Keyring) all() []SealKey {
	if r == nil {
		return nil
	}
	if keys := r.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

func (r *Keyring) newest() *sealSecret {
	if keys := r.all(); len(keys) > 0 {
		return keys[0].s
	}
	return nil
}

func (r *Keyring) find(id string) *sealSecret {
	for _, k := range r.all() {
		if k.s.id == id {
			return k.s
		}
	}
	return nil
}
