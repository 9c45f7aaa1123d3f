package e2e_test

import (
	"context"
	"crypto"
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// withoutKeys gives d a NewKey that makes no keys of a type as long as that is
// refused.
func withoutKeys(d md.Domain, of md.KeyType, refused *atomic.Bool) md.Domain {
	d.NewKey = func(ctx context.Context, t md.KeyType) (crypto.Signer, error) {
		if t == of && refused.Load() {
			return nil, errors.New("the HSM has no such keys")
		}
		return t.Generate(ctx)
	}
	d.OpenKey = func(context.Context, string, string) (crypto.Signer, error) { return nil, fs.ErrNotExist }
	return d
}

// A part of the Set is in use, and the rest of it does not come for months: the
// part is renewed in its time all the same, and not taken for its own successor.
func TestAPartOfTheSetIsRenewedInTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.Lifetime = 90 * day
		var refused atomic.Bool
		refused.Store(true)
		d := withoutKeys(md.Domain{Names: []string{"example.com"}, KeyTypes: []md.KeyType{md.P256, md.P384}}, md.P384, &refused)
		n := w.startIn(hourly(), w.manager(d))
		defer n.stopped()
		for month := range 3 {
			time.Sleep(62 * day)
			if got := len(w.ca.Certificates()); got != month+2 {
				t.Errorf("%d certificates after %d days, want one in 60", got, 62*(month+1))
			}
		}
		if leaf := leafOf(t, n.m, "example.com"); !time.Now().Before(leaf.NotAfter) {
			t.Errorf("what is served has expired at %v", leaf.NotAfter)
		}
	})
}
