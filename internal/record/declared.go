package record

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/manageddomains/md/store"
)

const declaredPrefix = "declared/"

func declaredKey(name string) string { return declaredPrefix + name }

// maxDeclaredNames bounds the names of a remembered Domain: no CA takes more in
// one certificate.
const maxDeclaredNames = 1000

// Declared is what is remembered of a Domain that nobody has declared, but
// that was allowed on demand: enough to serve it after a restart, and to know
// whether anybody still wants it.
type Declared struct {
	Names []string  `json:"names"` // in ASCII
	Since time.Time `json:"since"`
	// Used is when a client asked for one of the names last, as far as that
	// has been written down.
	Used time.Time `json:"used"`
}

func (d *Declared) encode() ([]byte, error) { return json.MarshalIndent(d, "", "  ") }

func decodeDeclared(data []byte) (*Declared, error) {
	d := new(Declared)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, err
	}
	if len(d.Names) == 0 || len(d.Names) > maxDeclaredNames {
		return nil, errors.New("it has no names, or too many")
	}
	return d, nil
}

// Declared reads what is remembered of a Domain. The error is fs.ErrNotExist
// if nothing is, or a *BrokenError.
func (r *Records) Declared(ctx context.Context, name string) (*Declared, store.Version, error) {
	return read(ctx, r, declaredKey(name), decodeDeclared)
}

// PutDeclared writes it at the Version read.
func (r *Records) PutDeclared(ctx context.Context, name string, d *Declared, old store.Version) (store.Version, error) {
	return write(ctx, r, declaredKey(name), old, d.encode, decodeDeclared)
}

// AllDeclared yields the names of the Domains that are remembered, in order.
func (r *Records) AllDeclared(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for item, err := range r.Store.List(ctx, declaredPrefix) {
			if !yield(strings.TrimPrefix(item.Key, declaredPrefix), err) || err != nil {
				return
			}
		}
	}
}

// Forget deletes what is remembered of a Domain that was allowed on demand.
// With all, its certificates and its Job go as well, which is for those that
// have expired; without, they stay for when it comes back. The archive stays
// in either case. It may be repeated.
func (r *Records) Forget(ctx context.Context, name string, all bool) error {
	keys := []string{declaredKey(name)}
	if all {
		keys = []string{stagingKey(name), activeKey(name), jobKey(name), declaredKey(name)}
	}
	for _, key := range keys {
		if err := r.Store.Delete(ctx, key, store.Any); err != nil {
			return err
		}
	}
	return nil
}
