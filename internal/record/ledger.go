package record

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/manageddomains/md/store"
)

// Limit is what is remembered of a CA's limits for an account as a whole, or
// for one name with that account. Every process that shares the Store obeys
// it. The zero Limit forbids nothing.
type Limit struct {
	// Until is the moment before which the CA wants no order.
	Until time.Time `json:"until,omitzero"`
	// Parked: the CA wants no order until somebody acts. Until then only
	// Renew asks it, and the passing of Until.
	Parked bool `json:"parked,omitempty"`
	// Why and URL are the CA's words, and the page that it named.
	Why string `json:"why,omitempty"`
	URL string `json:"url,omitempty"`
	// Orders and Failures are when the buckets of new orders and of failed
	// validations will be full again.
	Orders   time.Time `json:"orders,omitzero"`
	Failures time.Time `json:"failures,omitzero"`
}

// AccountLimit is the name of the Limit of an account as a whole.
const AccountLimit = "_"

func limitKey(ca, account, name string) string {
	return "limits/" + caID(ca) + "/" + account + "/" + name
}

func decodeLimit(data []byte) (*Limit, error) {
	l := new(Limit)
	return l, json.Unmarshal(data, l)
}

func (l *Limit) encode() ([]byte, error) { return json.MarshalIndent(l, "", "  ") }

// Limit reads the Limit for name with an account at a CA; AccountLimit stands
// for the account. A missing one is zero. A broken one, too: what it said is
// learnt again.
func (r *Records) Limit(ctx context.Context, ca, account, name string) (Limit, store.Version, error) {
	l, v, err := read(ctx, r, limitKey(ca, account, name), decodeLimit)
	var broken *BrokenError
	switch {
	case err == nil:
		return *l, v, nil
	case errors.Is(err, fs.ErrNotExist):
		return Limit{}, store.None, nil
	case errors.As(err, &broken):
		return Limit{}, broken.Version, nil
	}
	return Limit{}, store.None, err
}

// ChangeLimit changes a Limit, whoever else changes it meanwhile. The change
// may be made several times over; only what the last one returns is written.
// With false nothing is.
func (r *Records) ChangeLimit(ctx context.Context, ca, account, name string, change func(Limit) (Limit, bool)) error {
	const tries = 20
	var err error
	for range tries {
		var old Limit
		var v store.Version
		if old, v, err = r.Limit(ctx, ca, account, name); err != nil {
			return err
		}
		changed, ok := change(old)
		if !ok {
			return nil
		}
		if changed == (Limit{}) {
			err = r.Store.Delete(ctx, limitKey(ca, account, name), v)
		} else {
			_, err = write(ctx, r, limitKey(ca, account, name), v, changed.encode, decodeLimit)
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}
