package e2e_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// Nobody gets certificates for these Domains but who is asked to.
func TestReadySaysWhoseHelpIsNeeded(t *testing.T) {
	for name, d := range map[string]md.Domain{
		"manual": {Names: []string{"example.test"}, RenewMode: md.RenewManual},
		"held":   {Names: []string{"example.test"}, HoldActivation: md.On},
		"files":  {Names: []string{"example.test"}, CertFiles: []string{"/nowhere/c"}, KeyFiles: []string{"/nowhere/k"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.start(w.manager(d))
				defer n.stopped()
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				began := time.Now()
				err := n.m.Ready(ctx)
				if took := time.Since(began); took > time.Minute || !errors.Is(err, md.ErrNotReady) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}
