package record

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/manageddomains/md/store"
)

const accountType = "MD ACCOUNT"

// DefaultAccount is the id of a CA's account that is not bound to an external
// one.
const DefaultAccount = "default"

// Account is an account at a CA. It is written twice: with its key before
// the CA is asked to register it, and with its URL after. A key without URL
// is one that the CA may or may not know.
type Account struct {
	URL      string   `json:"url,omitempty"`
	Contacts []string `json:"contacts,omitempty"`

	// Key is the private key in PKCS #8 form.
	Key []byte `json:"-"`

	unknown map[string]json.RawMessage
}

// NewAccount returns an account that is not registered yet.
func NewAccount(key crypto.Signer) (*Account, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the account key: %w", err)
	}
	return &Account{Key: der}, nil
}

// Format keeps the key out of whatever is printed.
func (a Account) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "record.Account(%q)", a.URL) }

// Signer returns the account's private key.
func (a *Account) Signer() (crypto.Signer, error) {
	key, err := parseKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("the account key: %w", err)
	}
	return key, nil
}

// Encode returns the account as PEM.
func (a *Account) Encode() ([]byte, error) {
	return encodeSections(accountType, []section{{
		meta:    a,
		unknown: a.unknown,
		blocks:  []*pem.Block{{Type: privateKeyType, Bytes: a.Key}},
	}})
}

// DecodeAccount reads what Encode wrote: the same bytes, or it is an error.
func DecodeAccount(data []byte) (*Account, error) {
	sections, err := decodeSections(data, accountType)
	if err != nil {
		return nil, err
	}
	if len(sections) != 1 || len(sections[0].blocks) != 1 || sections[0].blocks[0].Type != privateKeyType {
		return nil, errors.New("it is not one account with one private key")
	}
	a := new(Account)
	if a.unknown, err = sections[0].metadata(a); err != nil {
		return nil, err
	}
	a.Key = sections[0].blocks[0].Bytes
	if _, err := a.Signer(); err != nil {
		return nil, err
	}
	if err := checkForm(data, a.Encode); err != nil {
		return nil, err
	}
	return a, nil
}

// Account reads the account id at a CA, given by its directory URL. The
// error is fs.ErrNotExist if there is none, or a *BrokenError. A broken
// account is for people to look at: its key may be all that is left of it.
func (r *Records) Account(ctx context.Context, ca, id string) (*Account, store.Version, error) {
	return read(ctx, r, accountKey(ca, id), DecodeAccount)
}

// PutAccount writes an account at the Version read.
func (r *Records) PutAccount(ctx context.Context, ca, id string, a *Account, old store.Version) (store.Version, error) {
	return write(ctx, r, accountKey(ca, id), old, a.Encode, DecodeAccount)
}

// SetAsideAccount copies a broken account into the archive of the CA.
func (r *Records) SetAsideAccount(ctx context.Context, ca string, b *BrokenError) error {
	return r.SetAside(ctx, caID(ca), b)
}
