package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// What the ledger has of one limit neither hides another nor goes with it.
func TestLimitsBesideEachOther(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	a := tried(record.Trial{}, oneCA)
	l := a.ledger(a.ca)
	put := func(name string, limit record.Limit) {
		t.Helper()
		if err := l.change(t.Context(), name, func(record.Limit) (record.Limit, bool) { return limit, true }); err != nil {
			t.Fatal(err)
		}
	}

	put("example.com", record.Limit{Until: now.Add(2 * time.Hour), Said: now})
	put(record.AccountLimit, record.Limit{Until: now.Add(time.Hour), Said: now})
	var b *blockedError
	if _, err := l.open(t.Context(), a.def.Names, false); !errors.As(err, &b) || !b.until.Equal(now.Add(2*time.Hour)) {
		t.Errorf("open = %v, want the limit that lasts longest", err)
	}

	counted := record.Limit{Orders: now.Add(time.Hour), Failures: now.Add(30 * time.Minute)}
	put("example.com", record.Limit{Until: now.Add(time.Hour), Said: now.Add(-time.Hour), Orders: counted.Orders, Failures: counted.Failures})
	l.cleared(t.Context(), a.def.Names, now)
	if got := a.limitAt(t, a.ca, "example.com"); !got.Orders.Equal(counted.Orders) || !got.Failures.Equal(counted.Failures) || !got.Until.IsZero() {
		t.Errorf("after a certificate there is %+v, want what was counted", got)
	}

	put("example.com", record.Limit{Until: now.Add(parkedFor), Said: now, Parked: true})
	limited := &acmeclient.Problem{Status: 429, Type: "urn:ietf:params:acme:error:rateLimited", Name: "example.com",
		Subproblems: []acmeclient.Subproblem{{Name: "example.com", Type: "urn:ietf:params:acme:error:rateLimited"}}, RetryAt: now.Add(time.Hour)}
	l.heard(t.Context(), limited, a.def.Names)
	if got := a.limitAt(t, a.ca, "example.com"); got.Parked || !got.Until.Equal(limited.RetryAt) {
		t.Errorf("a name that the CA has taken again is parked: %+v", got)
	}

	put(record.AccountLimit, record.Limit{})
	l.heard(t.Context(), &acmeclient.Problem{Status: 503}, a.def.Names)
	if got := a.limitAt(t, a.ca, record.AccountLimit); !got.Until.IsZero() {
		t.Errorf("a CA that is only busy stops all until %v", got.Until)
	}
}

// Certificates are counted for each CA, and for the names in whatever order.
func TestIssuedKey(t *testing.T) {
	a := tried(record.Trial{}, oneCA)
	a.def.Names = []string{"b.test", "a.test"}
	key := a.issuedKey()
	if a.def.Names = []string{"a.test", "b.test"}; a.issuedKey() != key {
		t.Error("another order of the names counts apart")
	}
	if a.ca.URL = otherCA; a.issuedKey() == key {
		t.Error("another CA counts the same")
	}
}

// Of a block of slots each is used once, as long as it has not come back.
func TestSlotsAreUsedOnce(t *testing.T) {
	began := time.Now().Truncate(time.Second)
	now := began
	a := tried(record.Trial{}, oneCA)
	a.e.knobs.Store(&Knobs{Wall: func() time.Time { return now }})
	a.ca.Limits.Orders = acmeclient.Rate{Count: 40, Per: 40 * time.Hour} // blocks of two
	for i, test := range []struct{ after, want time.Duration }{
		{0, 2 * time.Hour}, {0, 2 * time.Hour}, {0, 4 * time.Hour}, {4 * time.Hour, 6 * time.Hour},
	} {
		now = began.Add(test.after)
		if err := a.ledger(a.ca).takeOrder(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := a.limitAt(t, a.ca, record.AccountLimit).Orders.Sub(began); got != test.want {
			t.Errorf("after order %d the bucket is full in %v, want %v", i+1, got, test.want)
		}
	}
}

// A part has nothing that has expired, and is activated by nobody who waits for
// the whole.
func TestPartsOfASet(t *testing.T) {
	good, _ := newSet(t, 85*24*time.Hour)
	over, _ := newSet(t, -time.Hour)
	expired := over.Credentials[0]
	expired.KeyType = "RSA-2048"
	for name, but := range map[string]func(a *attempt){
		"somebody activates":  func(a *attempt) { a.def.HoldActivation = true },
		"another is restored": func(a *attempt) { a.task.restore = "id" },
		"it is to be revoked": func(a *attempt) { a.task.revoke = new(acmeclient.Reason) },
		"it is in use":        func(a *attempt) { a.active = good },
		"":                    func(*attempt) {},
	} {
		a := newAttempt()
		a.def.KeyTypes = []acmeclient.KeyType{"P-256", "RSA-2048"}
		a.active = &record.Set{Credentials: []record.Credential{over.Credentials[0], expired}}
		a.stages(t, &record.Set{Credentials: []record.Credential{good.Credentials[0], ordered(t, "RSA-2048")}})
		but(a)
		before := a.active
		err := a.activatePart(t.Context())
		if name != "" && (err != nil || a.active != before) {
			t.Errorf("%s: activatePart = %v, want that nothing is activated", name, err)
		}
		if name == "" && (err != nil || !same(a.active, good)) {
			t.Errorf("activatePart = %v, want only what is in date active", err)
		}
	}
}
