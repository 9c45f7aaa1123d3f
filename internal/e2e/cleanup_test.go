package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient/acmetest"
	"github.com/manageddomains/md/internal/record"
)

// TestRenewTakesItsAnswersAway asks without Run, so that nobody is there who
// would clean up behind it.
func TestRenewTakesItsAnswersAway(t *testing.T) {
	tests := []struct {
		name  string
		fault func(op acmetest.Op) acmetest.Fault
		blind bool // the CA does not see the record
		works bool
	}{
		{name: "when it has its certificate", works: true},
		{name: "when the CA does not see them", blind: true},
		{name: "when the CA hangs while it looks", fault: faultOn("order", acmetest.FaultHang, nil)},
		{name: "when the CA does not want to look", fault: faultOn("challenge", acmetest.Fault500, nil)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				var z zone
				w.ca.Fault = test.fault
				w.ca.LookupTXT = func(ctx context.Context, name string) ([]string, error) {
					if test.blind {
						return nil, nil
					}
					return z.lookup(ctx, name)
				}
				m := w.manager(md.Domain{Names: []string{"example.com", "*.example.com"}, Challengers: []md.Challenger{&z}})
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				if err := m.Renew(ctx, "example.com"); (err == nil) != test.works {
					t.Errorf("Renew: %v", err)
				}
				if got := z.count(); got > 0 {
					t.Errorf("%d TXT records are left behind", got)
				}
				job, _, err := (&record.Records{Store: w.store}).Job(context.Background(), "example.com")
				if err != nil || len(job.SetUps) > 0 {
					t.Errorf("the Job: %v; it still records %d answers", err, len(job.SetUps))
				}
			})
		})
	}
}
