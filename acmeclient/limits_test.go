package acmeclient

import (
	"testing"
	"time"
)

func TestAllowed(t *testing.T) {
	const day = 24 * time.Hour
	letsEncrypt := Limits{Rate{300, 3 * time.Hour}, Rate{5, time.Hour}, Rate{5, 7 * day}}
	staging := Limits{Rate{1500, 3 * time.Hour}, Rate{200, time.Hour}, Rate{30_000, 7 * day}}
	for _, test := range []struct {
		name string
		ca   CA
		want Limits
	}{
		{"nothing is Let's Encrypt", CA{}, letsEncrypt},
		{"Let's Encrypt by URL", CA{URL: letsEncryptURL}, letsEncrypt},
		{"staging by name", CA{Name: "LetsEncrypt-Staging"}, staging},
		{"staging by mod_md's name", CA{Name: "letsencrypt-test"}, staging},
		{"staging by URL", CA{Name: "mine", URL: letsEncryptStagingURL}, staging},
		{"another CA limits no certificates", CA{URL: "https://ca.example/"},
			Limits{letsEncrypt.Orders, letsEncrypt.Failures, Rate{-1, 7 * day}}},
		{"Google's are its own", CA{Name: "google", EAB: anEAB()},
			Limits{Rate{100, time.Hour}, letsEncrypt.Failures, Rate{-1, 7 * day}}},
		{"a known CA whose limits are not", CA{Name: "zerossl", EAB: anEAB()},
			Limits{letsEncrypt.Orders, letsEncrypt.Failures, Rate{-1, 7 * day}}},
		{"a CA that cannot be", CA{Name: "nobody"}, letsEncrypt},
		{"what is said stays", CA{Limits: Limits{Orders: Rate{100, time.Hour}, Failures: Rate{Count: -1}}},
			Limits{Rate{100, time.Hour}, Rate{-1, time.Hour}, Rate{5, 7 * day}}},
		{"a count alone", CA{Name: "letsencrypt-staging", Limits: Limits{Orders: Rate{Count: 7}}},
			Limits{Rate{7, 3 * time.Hour}, staging.Failures, staging.Certificates}},
		{"a period alone", CA{Limits: Limits{Certificates: Rate{Per: day}}},
			Limits{letsEncrypt.Orders, letsEncrypt.Failures, Rate{5, day}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.ca.Allowed()
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if again := (CA{Name: test.ca.Name, URL: test.ca.URL, EAB: test.ca.EAB, Limits: got}).Allowed(); again != got {
				t.Errorf("of what is allowed: got %v, want %v", again, got)
			}
		})
	}
	if unlimited := (Rate{Count: -1}); !unlimited.Unlimited() || (Rate{}).Unlimited() {
		t.Error("only a negative Count is unlimited")
	}
}

func TestLimitsThatCannotBeMeant(t *testing.T) {
	for _, limits := range []Limits{{Orders: Rate{Per: -1}}, {Failures: Rate{1, -1}}, {Certificates: Rate{-1, -1}}} {
		_, err := CA{Limits: limits}.Resolve()
		wantText(t, err, "which is negative")
	}
	if err := (Limits{Orders: Rate{Count: -1}}).Check(); err != nil {
		t.Errorf("no limit: %v", err)
	}
}
