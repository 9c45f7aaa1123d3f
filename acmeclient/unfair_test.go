package acmeclient

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// unfair runs a user at an unfair CA until the certificate is there, and checks that nothing went wrong on the way.
func unfair(t *testing.T, ca *acmetest.CA) *user {
	t.Helper()
	u := newUser(t, ca, "a.example", "b.example", "*.b.example")
	chain, err := u.persist(t.Context(), 60)
	if err != nil {
		t.Errorf("seed %d: %v\n%s", ca.Seed, err, strings.Join(ca.Trace(), "\n"))
		return u
	}
	if _, err := CheckChain(chain, u.key.Public(), u.names, time.Now()); err != nil {
		t.Errorf("seed %d: %v", ca.Seed, err)
	}
	return u
}

func TestEveryKindOfUnfairnessEndsWithACertificate(t *testing.T) {
	kinds := map[string]acmetest.Faults{
		"lost requests":      {LostRequest: 0.5},
		"lost replies":       {LostReply: 0.5},
		"hanging":            {Hang: 0.3},
		"bad nonces":         {BadNonce: 0.5},
		"server errors":      {ServerError: 0.3, RetryAfter: 0.5, OddProblems: 0.5},
		"limits":             {RateLimited: 0.3, RetryAfter: 1},
		"garbage":            {Garbage: 0.3},
		"odd URLs":           {OddURLs: 1},
		"shuffled lists":     {Shuffle: 1},
		"no Location":        {NoLocation: 1},
		"odd challenges":     {OddChallenges: 1},
		"reused orders":      {ReuseOrder: 1, LostReply: 0.2},
		"slow validation":    {SlowValidation: 1, RetryAfter: 1},
		"slow finalize":      {SlowFinalize: 1, RetryAfter: 1},
		"late finalize":      {LateFinalize: 1},
		"instant finalize":   {InstantFinalize: 1},
		"finalize again":     {FinalizeAgain: 1, LateFinalize: 1, LostReply: 0.3},
		"wrong certificates": {WrongKey: 0.2, WrongName: 0.2, MissingName: 0.2, Expired: 0.2, NotYetValid: 0.2, Foreign: 0.2},
		"extra certificates": {Extra: 1},
	}
	for name, faults := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for seed := range uint64(6) {
					ca := &acmetest.CA{Seed: seed, Faults: faults}
					unfair(t, ca)
					ca.Close()
				}
			})
		})
	}
}

func TestAllUnfairnessTogetherEndsWithACertificate(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	synctest.Test(t, func(t *testing.T) {
		for seed := range seeds {
			faults := acmetest.Everything(0.1)
			faults.Huge = 0.01 // they take real time
			ca := &acmetest.CA{Seed: seed, Faults: faults, TermsOfService: "https://acme.test/terms", RenewalInfo: true}
			unfair(t, ca)
			ca.Close()
		}
	})
}

func TestHugeRepliesOfAWholeOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{Faults: acmetest.Faults{Huge: 0.2}}
		defer ca.Close()
		unfair(t, ca)
	})
}

// TestEveryRequestBrokenEitherWay runs one order to count its requests, then again with each of them lost before or after its effect.
func TestEveryRequestBrokenEitherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fair := &acmetest.CA{}
		unfair(t, fair)
		fair.Close()
		total := 0
		for _, n := range fair.Requests() {
			total += n
		}
		kinds := map[int]string{}
		for n := 1; n <= total; n++ {
			for _, fault := range []acmetest.Fault{acmetest.FaultBefore, acmetest.FaultAfter, acmetest.Fault500, acmetest.Fault429, acmetest.FaultGarbage} {
				ca := &acmetest.CA{Fault: func(op acmetest.Op) acmetest.Fault {
					if op.N == n {
						kinds[n] = op.Kind
						return fault
					}
					return acmetest.FaultNone
				}}
				u := unfair(t, ca)
				ca.Close()
				checkOneFault(t, ca, u, fmt.Sprintf("request %d (%s) %v", n, kinds[n], fault))
				if onlyLooks := slices.Contains([]string{"directory", "order", "authz", "certificate"}, kinds[n]); onlyLooks && fault != acmetest.Fault429 && u.attempts != 1 {
					t.Errorf("request %d (%s) %v: got %d attempts, want the look repeated within the first", n, kinds[n], fault, u.attempts)
				}
			}
		}
	})
}

// checkOneFault checks what one fault may cost.
func checkOneFault(t *testing.T, ca *acmetest.CA, u *user, what string) {
	t.Helper()
	trace := strings.Join(ca.Trace(), "\n")
	if u.attempts > 2 {
		t.Errorf("%s: got %d attempts, want at most 2\n%s", what, u.attempts, trace)
	}
	if got := len(ca.Accounts()); got != 1 {
		t.Errorf("%s: got %d accounts, want 1\n%s", what, got, trace)
	}
	if got := len(ca.Certificates()); got != 1 {
		t.Errorf("%s: got %d certificates issued, want 1\n%s", what, got, trace)
	}
	if got := len(ca.Orders()); got > 2 {
		t.Errorf("%s: got %d orders, want at most 2\n%s", what, got, trace)
	}
}

// TestFewFailuresFailFewAttempts orders for six names at CAs that lose one request or reply in thirty.
func TestFewFailuresFailFewAttempts(t *testing.T) {
	const seeds = 40
	synctest.Test(t, func(t *testing.T) {
		failed := 0
		for seed := range uint64(seeds) {
			ca := &acmetest.CA{Seed: seed, Faults: acmetest.Faults{LostRequest: 0.01, LostReply: 0.01, ServerError: 0.01, Garbage: 0.005}}
			var names []string
			for i := range 6 {
				names = append(names, fmt.Sprintf("n%d.example", i))
			}
			u := newUser(t, ca, names...)
			if _, err := u.attempt(t.Context()); err != nil {
				failed++
			}
			ca.Close()
		}
		if failed > seeds/5 {
			t.Errorf("%d of %d first attempts failed, want few", failed, seeds)
		}
		t.Logf("%d of %d first attempts failed", failed, seeds)
	})
}
