package status_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/manageddomains/md/status"
)

func ExampleParseWindow() {
	window, err := status.ParseWindow("33%")
	if err != nil {
		fmt.Println(err)
		return
	}
	issued := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	expires := issued.AddDate(0, 0, 100)
	fmt.Println(window.Before(issued, expires).Format(time.DateOnly))

	_, err = status.ParseWindow("2m")
	fmt.Println(err)
	// Output:
	// 2027-01-07
	// "2m" is not a window such as "33%" or "21d": "m" is no unit; units are %, d, h, mi, s and ms
}

// A Manager is a Source; here one that has a single Domain stands for it.
func ExampleText() {
	mux := http.NewServeMux()
	mux.Handle("/certificates/", status.Text(source{{
		Name:    "example.com",
		Names:   []string{"example.com"},
		State:   status.Pending,
		Reason:  "there is no certificate yet",
		Renewal: &status.Renewal{Running: true, Activity: "waiting for the CA"},
	}}))

	// Anyone who may ask: put your own authorization in front.
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/certificates/", nil))
	fmt.Print(w.Body)
	// Output:
	// STATE       EXPIRES               RENEWAL               DOMAIN
	// pending     -                     -                     example.com
	// total 1  pending 1
	//
	// example.com
	//   state        pending
	//   reason       there is no certificate yet
	//   names        example.com
	//   renewal      running
	//   activity     waiting for the CA
}

// Nothing is renewed while there is work on the servers.
func ExampleNotifierFunc() {
	maintenance := true
	notifier := status.NotifierFunc(func(ctx context.Context, e status.Event) error {
		if e.Kind == status.Renewing && maintenance {
			return fmt.Errorf("%s: maintenance: %w", e.Domain, status.ErrVeto)
		}
		return nil
	})
	err := notifier.Notify(context.Background(), status.Event{Kind: status.Renewing, Domain: "example.com"})
	fmt.Println(err)
	// Output: example.com: maintenance: vetoed
}
