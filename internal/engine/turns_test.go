package engine

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// A CA that has another turn is asked for what it did not deliver in the one
// before, if that can still be of use, and nothing else.
func TestReclaim(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	good, _ := newSet(t, 80*24*time.Hour)
	ready := `{"status": "ready", "identifiers": [{"type": "dns", "value": "example.com"}],
		"authorizations": [], "finalize": "https://ca.test/finalize"}`
	for name, test := range map[string]struct {
		but  func(is *acmeIssuer, c *record.Credential)
		want bool
	}{
		"it was given up":            {func(*acmeIssuer, *record.Credential) {}, true},
		"it is the first turn":       {func(is *acmeIssuer, _ *record.Credential) { is.job.Trials[is.ca.URL] = record.Trial{Turns: 1} }, false},
		"what is staged is its own":  {func(is *acmeIssuer, _ *record.Credential) { is.staged.Credentials[0].CA = is.ca.URL }, false},
		"what is staged was dropped": {func(is *acmeIssuer, _ *record.Credential) { is.staged = nil }, true},
		"what it led to was dropped": {func(is *acmeIssuer, c *record.Credential) {
			issued := *c
			issued.Chain = good.Credentials[0].Chain
			is.keeps(t, one(issued))
		}, false},
		"what it led to is in use":       {func(is *acmeIssuer, c *record.Credential) { is.active = one(*c) }, false},
		"it is of another CA":            {func(_ *acmeIssuer, c *record.Credential) { c.CA = otherCA }, false},
		"it is of another account":       {func(_ *acmeIssuer, c *record.Credential) { c.Account = "other" }, false},
		"it is for another key type":     {func(_ *acmeIssuer, c *record.Credential) { c.KeyType = "RSA-2048" }, false},
		"it was ordered over a week ago": {func(_ *acmeIssuer, c *record.Credential) { c.When = now.Add(-8 * 24 * time.Hour) }, false},
		"its key is to be replaced": {func(is *acmeIssuer, c *record.Credential) {
			is.active, _ = newSet(t, 80*24*time.Hour)
			is.active.Credentials[0].Key, is.task.revoke = c.Key, new(acmeclient.Reason)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			is := asks(t, fakeCA{"/order/P-256": {ready}})
			c := ordered(t, "P-256")
			c.CA, c.Account, c.When = is.ca.URL, is.account.url, now.Add(-time.Hour)
			staged := ordered(t, "P-256")
			staged.CA, staged.Account, staged.Order = otherCA, is.account.url, otherCA+"/order"
			is.stages(t, one(staged))
			is.job.Trials = map[string]record.Trial{is.ca.URL: {Turns: 2}}
			test.but(is, &c)
			is.keeps(t, one(c))
			got, order, err := is.reclaim(t.Context(), "P-256")
			if err != nil || (order != nil) != test.want || test.want && got.Order != c.Order {
				t.Errorf("reclaim = %v, %v, want an order: %v", order, err, test.want)
			}
		})
	}
}

// Nothing is given up for an order with a CA that is not there; with one that
// is, an order of which a CA says that it leads nowhere is not kept.
func TestGiveUpOnlyForAnOrder(t *testing.T) {
	is := asks(t, nil)
	c := ordered(t, "P-256") // whose account nobody knows any more
	c.CA, c.Account = otherCA, "other"
	is.stages(t, one(c))
	is.ca.URL = "https://away.test"
	is.e.cfg.HTTPClient.Transport = away{is.e.cfg.HTTPClient.Transport.(fakeCA)}
	if _, ok, err := is.giveUp(t.Context(), "P-256"); ok || err == nil {
		t.Errorf("giveUp = %v, %v, want the error of the CA that is away", ok, err)
	}
	is.wantArchived(t)
	is.ca.URL = is.def.CAs[0].URL
	if _, ok, err := is.giveUp(t.Context(), "P-256"); ok || err != nil {
		t.Errorf("giveUp = %v, %v, want that it is given up", ok, err)
	}
	is.wantArchived(t, one(c))
}

// A part is activated when what is in use comes to its end: the first of what is
// staged for the key types.
func TestPartAt(t *testing.T) {
	now := time.Now()
	soon, _ := newSet(t, 5*24*time.Hour)
	late, _ := newSet(t, 20*24*time.Hour)
	over, _ := newSet(t, time.Minute)
	good, _ := newSet(t, 85*24*time.Hour)
	as := func(set *record.Set, keyType string) record.Credential {
		c := set.Credentials[0]
		c.KeyType = keyType
		return c
	}
	open := ordered(t, "EC-open")
	for name, test := range map[string]struct {
		active, staged []record.Credential
		hold           bool
		want           *record.Set
	}{
		"the first of two":          {[]record.Credential{as(soon, "P-256"), as(late, "RSA-2048")}, []record.Credential{as(good, "P-256"), as(good, "RSA-2048"), open}, false, soon},
		"the second of two":         {[]record.Credential{as(late, "P-256"), as(soon, "RSA-2048")}, []record.Credential{as(good, "P-256"), as(good, "RSA-2048"), open}, false, soon},
		"what there is nothing for": {[]record.Credential{as(soon, "P-256"), as(late, "RSA-2048")}, []record.Credential{as(good, "RSA-2048"), open}, false, late},
		"what is ordered":           {[]record.Credential{as(soon, "P-256")}, []record.Credential{ordered(t, "P-256")}, false, nil},
		"what is at its end":        {[]record.Credential{as(over, "P-256")}, []record.Credential{as(good, "P-256"), open}, false, nil},
		"all of it":                 {[]record.Credential{as(soon, "P-256")}, []record.Credential{as(good, "P-256"), as(good, "RSA-2048")}, false, nil},
		"what somebody activates":   {[]record.Credential{as(soon, "P-256")}, []record.Credential{as(good, "P-256"), open}, true, nil},
	} {
		a := newAttempt()
		a.def.KeyTypes, a.def.HoldActivation = []acmeclient.KeyType{"P-256", "RSA-2048"}, test.hold
		a.active, a.staged = &record.Set{Credentials: test.active}, &record.Set{Credentials: test.staged}
		want := time.Time{}
		if test.want != nil {
			want = latest(&test.want.Credentials[0])
		}
		if got := a.partAt(now); !got.Equal(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// What is served and not yet in the Store is not exchanged for what is older or
// worse there, also by those who look for what others have activated.
func TestTakeOver(t *testing.T) {
	sets := map[string]*record.Set{}
	for name, left := range map[string]time.Duration{"old": 20 * 24 * time.Hour, "fresh": 80 * 24 * time.Hour, "expired": -time.Hour} {
		sets[name], _ = newSet(t, left)
	}
	for _, test := range []struct {
		serves, theirs string
		at             store.Version
		want           bool
	}{
		{"old", "fresh", "1", true}, {"fresh", "old", "1", true}, {"expired", "expired", "1", true}, {"fresh", "expired", "1", false},
		{"old", "fresh", unstored, true}, {"fresh", "old", unstored, false}, {"expired", "expired", unstored, false},
		{"expired", "old", unstored, true},
	} {
		a := newAttempt()
		a.d.version, a.d.loaded = test.at, true
		a.d.certs = certificatesOf(sets[test.serves])
		got, err := a.e.takeOver(t.Context(), a.d, sets[test.theirs], "2", test.at)
		if got != test.want || !got && !errors.Is(err, errWorse) {
			t.Errorf("%s at %q in place of %s: %v, %v, want %v", test.theirs, test.at, test.serves, got, err, test.want)
		}
	}
}

// Only what differs from what the Store has is looked at again.
func TestOutdated(t *testing.T) {
	for name, test := range map[string]struct {
		but  func(d *domain)
		want bool
	}{
		"it differs":                           {func(*domain) {}, true},
		"it is the same":                       {func(d *domain) { d.version = "2" }, false},
		"it was not loaded":                    {func(d *domain) { d.loaded = false }, false},
		"an attempt sees to it":                {func(d *domain) { d.state = working }, false},
		"what is served is still to be stored": {func(d *domain) { d.version, d.held = unstored, new(record.Set) }, false},
		"it could not be stored, and is lost":  {func(d *domain) { d.version = unstored }, true},
		"it is known to be unfit":              {func(d *domain) { d.unfit = unfit{true, "2"} }, false},
		"another was unfit":                    {func(d *domain) { d.unfit = unfit{true, "1"} }, true},
		"its keys are still to be opened":      {func(d *domain) { d.unopened = &unopened{version: "2"} }, false},
	} {
		d := &domain{loaded: true, version: "1"}
		test.but(d)
		if got := d.outdated("2"); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// away is a fake CA, but for a host that cannot be reached.
type away struct{ fakeCA }

func (a away) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "away.test" {
		return nil, errors.New("no route to host")
	}
	return a.fakeCA.RoundTrip(r)
}
