package md_test

import (
	"context"
	"slices"
	"testing"

	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/challenge/challengetest"
)

// The Challenger of the example keeps the promises that it is to show.
func TestExampleChallenger(t *testing.T) {
	z := new(zone)
	challengetest.Run(t, z, func(t *testing.T, ctx context.Context, c challenge.Challenge) bool {
		values, err := z.LookupTXT(ctx, c.TXTName())
		if err != nil {
			t.Errorf("looking at %s: %v", c.TXTName(), err)
		}
		return slices.Contains(values, c.TXTValue())
	})
}
