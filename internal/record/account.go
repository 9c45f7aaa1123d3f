package record

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/manageddomains/md/store"
)

const (
	accountType = "MD ACCOUNT"
	// candidateType is a private key as well, but must not be taken for the
	// account's.
	candidateType = "MD CANDIDATE PRIVATE KEY"
)

// DefaultAccount is the id of a CA's account that is not bound to an external
// one.
const DefaultAccount = "default"

// Account is an account at a CA. It is written twice: with its key before
// the CA is asked to register it, and with its URL after. A key without URL
// is one that the CA may or may not know.
type Account struct {
	URL      string   `json:"url,omitempty"`
	Contacts []string `json:"contacts,omitempty"` // as the CA was told them last
	// ContactsTried is when the CA was last to be told other contacts.
	ContactsTried time.Time `json:"contacts-tried,omitzero"`
	// CA is the directory URL, in an account that stands outside of a Store.
	CA string `json:"ca,omitempty"`
	// KeyElsewhere: the key is kept by somebody else, and there is none here.
	KeyElsewhere bool `json:"key-elsewhere,omitempty"`

	// Key is the private key in PKCS #8 form.
	Key []byte `json:"-"`
	// Candidate is a private key that the CA has been, or was about to be,
	// asked to put in the place of Key: only the CA knows which of the two is
	// the account's. Nil: Key is.
	Candidate []byte `json:"-"`

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
	if a.KeyElsewhere {
		return nil, errors.New("the account key is not kept here")
	}
	key, err := parseKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("the account key: %w", err)
	}
	return key, nil
}

// SetCandidate keeps a key beside the one in use.
func (a *Account) SetCandidate(key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the account key: %w", err)
	}
	a.Candidate = der
	return nil
}

// CandidateSigner returns the key beside the one in use, nil if there is none.
func (a *Account) CandidateSigner() (crypto.Signer, error) {
	if a.Candidate == nil {
		return nil, nil
	}
	key, err := parseKey(a.Candidate)
	if err != nil {
		return nil, fmt.Errorf("the candidate for the account key: %w", err)
	}
	return key, nil
}

// Promote puts the candidate in the place of the key.
func (a *Account) Promote() { a.Key, a.Candidate = a.Candidate, nil }

// Encode returns the account as PEM.
func (a *Account) Encode() ([]byte, error) {
	var blocks []*pem.Block
	if !a.KeyElsewhere {
		blocks = append(blocks, &pem.Block{Type: privateKeyType, Bytes: a.Key})
	}
	if a.Candidate != nil {
		blocks = append(blocks, &pem.Block{Type: candidateType, Bytes: a.Candidate})
	}
	return encodeSections(accountType, []section{{meta: a, unknown: a.unknown, blocks: blocks}})
}

// DecodeAccount reads what Encode wrote: the same bytes, or it is an error.
func DecodeAccount(data []byte) (*Account, error) {
	sections, err := decodeSections(data, accountType)
	if err != nil {
		return nil, err
	}
	if len(sections) != 1 {
		return nil, errNotOneAccount
	}
	a := new(Account)
	if a.unknown, err = sections[0].metadata(a); err != nil {
		return nil, err
	}
	if err := a.takeKeys(sections[0].blocks); err != nil {
		return nil, err
	}
	if err := checkForm(data, a.Encode); err != nil {
		return nil, err
	}
	return a, nil
}

var errNotOneAccount = errors.New("it is not one account with one private key")

// takeKeys takes the keys that follow the metadata.
func (a *Account) takeKeys(blocks []*pem.Block) error {
	types := []string{privateKeyType, candidateType}
	switch {
	case a.KeyElsewhere && len(blocks) == 0:
		return nil
	case a.KeyElsewhere || len(blocks) == 0 || len(blocks) > len(types):
		return errNotOneAccount
	}
	for i, b := range blocks {
		if b.Type != types[i] {
			return errNotOneAccount
		}
	}
	a.Key = blocks[0].Bytes
	if len(blocks) == len(types) {
		a.Candidate = blocks[1].Bytes
	}
	if _, err := a.Signer(); err != nil {
		return err
	}
	_, err := a.CandidateSigner()
	return err
}

// ParseAccount reads an account that comes from outside: what Encode wrote,
// also with other ends of lines, or a private key in PEM, of which the CA has
// to be asked for the URL.
func ParseAccount(text []byte) (*Account, error) {
	text = append(bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))), '\n')
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	if block.Type == accountType {
		a, err := DecodeAccount(text)
		if err == nil && a.KeyElsewhere {
			return nil, errNotOneAccount
		}
		return a, err
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("there is something behind the private key")
	}
	key, err := parsePEMKey(block)
	if err != nil {
		return nil, err
	}
	return NewAccount(key)
}

// parsePEMKey reads a private key in any of its usual forms.
func parsePEMKey(block *pem.Block) (crypto.Signer, error) {
	if len(block.Bytes) > maxKey {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(block.Bytes), maxKey)
	}
	switch block.Type {
	case privateKeyType:
		return parseKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("a block %.40q is neither an account nor a private key", block.Type)
}

// Equal reports whether two accounts have the same keys and URL.
func (a *Account) Equal(b *Account) bool {
	return a.URL == b.URL && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Candidate, b.Candidate)
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

// DeleteAccount removes an account at the Version read.
func (r *Records) DeleteAccount(ctx context.Context, ca, id string, old store.Version) error {
	key := accountKey(ca, id)
	if err := r.Store.Delete(ctx, key, old); err != nil {
		return fmt.Errorf("removing %s: %w", store.Locate(r.Store, key), err)
	}
	return nil
}

// AccountByURL finds the id of the account at a CA that has a URL. The error is
// fs.ErrNotExist if none has it. Broken accounts are passed over.
func (r *Records) AccountByURL(ctx context.Context, ca, url string) (id string, err error) {
	prefix := accountKey(ca, "")
	for item, err := range r.Store.List(ctx, prefix) {
		if err != nil {
			return "", fmt.Errorf("looking for the account %s: %w", url, err)
		}
		id := item.Key[len(prefix):]
		a, _, err := r.Account(ctx, ca, id)
		switch {
		case errors.As(err, new(*BrokenError)), errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", err
		case a.URL == url:
			return id, nil
		}
	}
	return "", fmt.Errorf("the account %.200q is not kept here any more: %w", url, fs.ErrNotExist)
}

// KeepAccount copies an account that is about to be written over into the
// archive of the CA: its key may be what somebody looks for. It may be
// repeated; of what is kept there, only some is.
func (r *Records) KeepAccount(ctx context.Context, ca, id string, a *Account) error {
	data, err := a.Encode()
	if err != nil {
		return err
	}
	return r.SetAside(ctx, caID(ca), &BrokenError{Place: "account " + id, value: data})
}

// SetAsideAccount copies a broken account into the archive of the CA.
func (r *Records) SetAsideAccount(ctx context.Context, ca string, b *BrokenError) error {
	return r.SetAside(ctx, caID(ca), b)
}
