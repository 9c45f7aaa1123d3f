package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/manageddomains/md/store"
)

// Limit is what is remembered of a CA's limits for an account as a whole, or
// for one name with that account. Every process that shares the Store obeys
// it. The zero Limit forbids nothing.
type Limit struct {
	// Until is the moment before which the CA wants no order, and Said when it
	// has said that.
	Until time.Time `json:"until,omitzero"`
	Said  time.Time `json:"said,omitzero"`
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

// Still is what of the Limit forbids, or counts, anything at the moment now.
func (l Limit) Still(now time.Time) Limit {
	if !now.Before(l.Until) {
		l = Limit{Orders: l.Orders, Failures: l.Failures}
	}
	if !now.Before(l.Orders) {
		l.Orders = time.Time{}
	}
	if !now.Before(l.Failures) {
		l.Failures = time.Time{}
	}
	return l
}

// AccountLimit is the name of the Limit of an account as a whole.
const AccountLimit = "_"

const limitPrefix = "limits/"

func limitKey(ca, account, name string) string {
	return limitPrefix + caID(ca) + "/" + account + "/" + name
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

// PurgeLimits looks at as many Limits as most, from the one behind the key
// after, and removes those that mean nothing any more. It returns the key to go
// on from, "" if there is nothing behind.
func (r *Records) PurgeLimits(ctx context.Context, after string, most int, now time.Time) (last string, err error) {
	var keys []string
	for item, err := range r.Store.List(ctx, limitPrefix) {
		if err != nil {
			return after, fmt.Errorf("looking for limits that are over: %w", err)
		}
		if item.Key > after {
			keys = append(keys, item.Key)
		}
		if len(keys) == most {
			last = item.Key
			break
		}
	}
	for _, key := range keys {
		if err := r.purgeLimit(ctx, key, now); err != nil {
			return after, err
		}
	}
	return last, nil
}

func (r *Records) purgeLimit(ctx context.Context, key string, now time.Time) error {
	l, v, err := read(ctx, r, key, decodeLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(*BrokenError)): // a broken one is replaced when it is needed
		return nil
	case err != nil:
		return err
	case l.Still(now) != (Limit{}):
		return nil
	}
	if err := r.Store.Delete(ctx, key, v); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("removing a limit that is over: %w", err)
	}
	return nil
}
