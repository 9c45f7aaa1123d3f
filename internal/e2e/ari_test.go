package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/internal/record"
)

// TestTheMomentIsDrawnOnce looks each day which moment was drawn from the
// CA's window: if it were drawn again and again, all would be renewed at the
// beginning of their windows, which is what windows are to prevent.
func TestTheMomentIsDrawnOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.ca.RenewalInfo = true
		domain := md.Domain{Names: []string{"example.com"}}
		n := w.start(w.manager(domain))
		n.ready(time.Minute)
		time.Sleep(time.Hour)
		first := w.drawn("example.com")
		for i := range 30 {
			time.Sleep(day)
			if i == 15 {
				n.stopped()
				n = w.start(w.manager(domain))
			}
			if got := w.drawn("example.com"); !got.Equal(first) {
				t.Errorf("after %d days the moment to renew is %v, want %v as it was drawn first", i+1, got, first)
				break
			}
		}
		n.stopped()
		if got := w.ca.Requests()["renewalInfo"]; got < 30 {
			t.Errorf("the CA was asked %d times in 30 days, want once a day or more", got)
		}
	})
}

// drawn is the moment that was drawn for the one certificate of a Domain.
func (w *world) drawn(name string) time.Time {
	w.t.Helper()
	job, _, err := (&record.Records{Store: w.store}).Job(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(job.ARI) != 1 {
		w.t.Fatalf("the Job has renewal information about %d certificates, want 1", len(job.ARI))
	}
	for _, info := range job.ARI {
		if info.At.IsZero() {
			w.t.Fatal("no moment was drawn")
		}
		return info.At
	}
	return time.Time{}
}
