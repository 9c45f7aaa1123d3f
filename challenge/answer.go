package challenge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/manageddomains/md/store"
)

// maxAnswer bounds what is decoded: a name and a key authorization take less
// than a quarter of it.
const maxAnswer = 4 << 10

// answer is what the Store keeps of a challenge: enough for any process to
// answer it, and nothing that is secret. A key authorization is published to
// whoever asks (RFC 8555 §8.3), the account key cannot be had from it.
type answer struct {
	Name             string `json:"name"`
	KeyAuthorization string `json:"key-authorization"`
}

// newAnswer takes from c what is to be recorded. It checks all of it again,
// because what comes from a CA becomes part of a key.
func newAnswer(c Challenge, typ string) (answer, error) {
	if c.Type != typ {
		return answer{}, fmt.Errorf("challenge: %s cannot answer a challenge of type %q", typ, c.Type)
	}
	name, ok := canonicalName(c.Name)
	if !ok {
		return answer{}, fmt.Errorf("challenge: %s: %.300q is neither a DNS name in ASCII nor an IP address", typ, c.Name)
	}
	if !validToken(c.Token) {
		return answer{}, fmt.Errorf("challenge: %s for %s: the CA's token is not 1 to %d characters of base64url (RFC 8555 §8.1)", typ, name, maxToken)
	}
	if !validKeyAuthorization(c.KeyAuthorization) || !strings.HasPrefix(c.KeyAuthorization, c.Token+".") {
		return answer{}, fmt.Errorf("challenge: %s for %s: the key authorization is not token.thumbprint (RFC 8555 §8.1)", typ, name)
	}
	return answer{Name: name, KeyAuthorization: c.KeyAuthorization}, nil
}

// decodeAnswer reads what the Store holds, trusting none of it.
func decodeAnswer(value []byte) (answer, error) {
	if len(value) > maxAnswer {
		return answer{}, fmt.Errorf("it has %d bytes, more than %d", len(value), maxAnswer)
	}
	var a answer
	if err := json.Unmarshal(value, &a); err != nil {
		return answer{}, err
	}
	if name, ok := canonicalName(a.Name); !ok || name != a.Name {
		return answer{}, errors.New("it has no usable name")
	}
	if !validKeyAuthorization(a.KeyAuthorization) {
		return answer{}, errors.New("it has no usable key authorization")
	}
	return a, nil
}

// put records a under key, in place of whatever is there.
func (a answer) put(ctx context.Context, s store.Store, key string) error {
	value, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err := s.Put(ctx, key, value, store.Any); err != nil {
		return fmt.Errorf("challenge: the answer for %s could not be stored: %w", a.Name, err)
	}
	return nil
}

// remove deletes key if it holds a. Another challenge's answer stays; what
// does not decode answers nothing, so nobody misses it.
func (a answer) remove(ctx context.Context, s store.Store, key string) error {
	var err error
	for range 4 {
		var value []byte
		var version store.Version
		value, version, err = s.Get(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			break
		}
		if there, err := decodeAnswer(value); err == nil && there != a {
			return nil
		}
		// The version sees to it that an answer put meanwhile stays.
		err = s.Delete(ctx, key, version)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	return fmt.Errorf("challenge: the answer for %s could not be removed: %w", a.Name, err)
}
