package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
)

// tried returns an attempt that has chosen the first of its CAs, of which it is
// known how it went there.
func tried(t record.Trial, cas ...string) *attempt {
	a := newAttempt()
	a.e.knobs.Store(&Knobs{Jitter: func() float64 { return 0.5 }})
	a.e.cfg.RetryDelay, a.e.cfg.Failover = 30*time.Second, 13
	a.def.CAs = nil
	for _, url := range cas {
		a.def.CAs = append(a.def.CAs, acmeclient.CA{URL: url})
	}
	a.ca = a.def.CAs[0]
	a.job.CA = a.ca.URL
	a.job.Trials = map[string]record.Trial{a.ca.URL: t}
	return a
}

const oneCA, otherCA = "https://one.test", "https://other.test"

func problem(kind string) *acmeclient.Problem {
	return &acmeclient.Problem{Status: 400, Type: "urn:ietf:params:acme:error:" + kind}
}

// What is the CA's own fault brings the next CA nearer; what is about a name
// shows that the CA works; and what has not come to the CA says nothing of it.
func TestWhoseFaultItIs(t *testing.T) {
	now := time.Now()
	began := now.Add(-30 * time.Minute)
	for name, test := range map[string]struct {
		err      error
		failures int
		failing  time.Time
	}{
		"a server error":               {problem("serverInternal"), 3, began},
		"a certificate of no use":      {fmt.Errorf("%w: wrong key", errBadCertificate), 3, began},
		"an EAB that cannot be read":   {&eabError{errors.New("no such file")}, 3, began},
		"a name that is not validated": {&acmeclient.Problem{Type: "urn:ietf:params:acme:error:unauthorized", Name: "example.com"}, 2, time.Time{}},
		"a challenger":                 {errors.New("no such zone"), 2, began},
	} {
		t.Run(name, func(t *testing.T) {
			a := tried(record.Trial{Since: began, Failures: 2, Failing: began, Turns: 1}, oneCA)
			a.fail(t.Context(), test.err, now)
			got := a.job.Trials[a.ca.URL]
			if got.Failures != test.failures || !got.Failing.Equal(test.failing) {
				t.Errorf("%d failures, failing since %v, want %d, %v", got.Failures, got.Failing, test.failures, test.failing)
			}
		})
	}
}

// As long as there is one turn only, a CA's failures are its own count; from the
// second on, each CA's share of all failures is counted, too.
func TestCountOfFailures(t *testing.T) {
	for turns, want := range map[int]int{1: 3, 2: 20} {
		a := tried(record.Trial{Failures: 2, Turns: turns}, oneCA, otherCA)
		a.job.Errors = 40
		if got := a.countFailure(time.Now()); got != want {
			t.Errorf("in turn %d the back-off goes by %d, want %d", turns, got, want)
		}
	}
}

// What stands of a CA is what it has said last: how long it lets wait, and
// whether it has an order.
func TestWhatACAHasSaid(t *testing.T) {
	now := time.Now()
	moreTime := &acmeclient.Problem{Err: acmeclient.ErrWait, RetryAt: now.Add(time.Hour)}
	for name, test := range map[string]struct {
		happens func(a *attempt)
		blocked time.Time
		slow    bool
	}{
		"it asks for more time":                {func(a *attempt) { a.wait(moreTime) }, now.Add(time.Hour), true},
		"it asks for more time once too often": {func(a *attempt) { a.fail(t.Context(), moreTime, now) }, now.Add(time.Hour), true},
		"it refuses":                           {func(a *attempt) { a.fail(t.Context(), problem("malformed"), now) }, time.Time{}, false},
		"it issues what is of no use":          {func(a *attempt) { a.fail(t.Context(), errBadCertificate, now) }, time.Time{}, false},
		"a challenger fails":                   {func(a *attempt) { a.fail(t.Context(), errors.New("no such zone"), now) }, now.Add(time.Minute), true},
		"its limits end for all at once":       {func(a *attempt) { a.wait(&blockedError{until: now.Add(time.Hour)}) }, now.Add(time.Hour), false},
		"its limits end for one after the other": {func(a *attempt) { a.wait(&blockedError{until: now.Add(time.Hour), each: time.Hour}) },
			now.Add(2 * time.Hour), false},
	} {
		a := tried(record.Trial{Since: now, Blocked: now.Add(time.Minute), Slow: true}, oneCA)
		test.happens(a)
		if got := a.job.Trials[oneCA]; !got.Blocked.Equal(test.blocked) || got.Slow != test.slow {
			t.Errorf("%s: blocked until %v, slow %v, want %v, %v", name, got.Blocked, got.Slow, test.blocked, test.slow)
		}
	}
}

// A CA that works on an order shows that what had failed is over: the errors of
// the Store, and what somebody had to act on.
func TestWaitForgetsWhatIsOver(t *testing.T) {
	a := tried(record.Trial{}, oneCA)
	a.job.StoreErrors, a.job.Permanent, a.job.LastError, a.job.LastProblem = 3, true, "CAA forbids it", "caa"
	a.wait(&acmeclient.Problem{Err: acmeclient.ErrWait})
	if j := a.job; j.StoreErrors != 0 || j.Permanent || j.LastError != "" || j.LastProblem != "" || j.Waits != 1 {
		t.Errorf("the job is %+v, want nothing left of the former error", j)
	}
}

// An order that is under way is looked at before the certificates in use end,
// however long the CA lets wait; what else it lets wait for is waited for.
func TestLooksBeforeItIsTooLate(t *testing.T) {
	now := time.Now()
	a := tried(record.Trial{}, oneCA)
	a.active, _ = newSet(t, 24*time.Hour)
	a.activeVersion = "1"
	p := &acmeclient.Problem{Status: 429, RetryAt: now.Add(40 * time.Hour)}
	if got := a.retryAt(p, now); !got.Equal(p.RetryAt) {
		t.Errorf("its limits: %v, want when it says", got)
	}
	p = &acmeclient.Problem{Err: acmeclient.ErrWait, RetryAt: p.RetryAt}
	if got := a.retryAt(p, now); got.After(now.Add(13 * time.Hour)) {
		t.Errorf("an order: in %v, want in half of the day that is left", got.Sub(now))
	}
}

// The next attempt comes no later than the next CA's turn, no earlier than that
// may be asked, and not at once.
func TestInTimeForTheNextCA(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) time.Time { return now.Add(d) }
	asked := record.Trial{Since: in(-time.Hour), Next: in(2 * time.Hour), Turns: 1}
	for name, test := range map[string]struct {
		one   record.Trial
		other *record.Trial
		at    time.Duration
		want  time.Duration
	}{
		"its turn is to come":                      {record.Trial{Since: in(-time.Hour), Failing: in(-50 * time.Minute)}, nil, 5 * time.Hour, 10 * time.Minute},
		"its turn is to come, but later":           {record.Trial{Since: in(-time.Hour), Failing: in(-50 * time.Minute)}, nil, 5 * time.Minute, 5 * time.Minute},
		"its turn has come":                        {record.Trial{Since: in(-time.Hour), Failures: 13}, nil, 5 * time.Hour, 30 * time.Second},
		"its turn has come, but it lets wait":      {record.Trial{Since: in(-time.Hour), Failures: 13}, &asked, 5 * time.Hour, 2 * time.Hour},
		"its turn has come, but it is asked later": {record.Trial{Since: in(-time.Hour), Failures: 13}, &asked, time.Hour, time.Hour},
		"its turn does not come":                   {record.Trial{Since: in(-time.Hour)}, nil, 5 * time.Hour, 5 * time.Hour},
	} {
		a := tried(test.one, oneCA, otherCA)
		if test.other != nil {
			a.job.Trials[otherCA] = *test.other
		}
		if got := a.inTime(in(test.at), now).Sub(now); got != test.want {
			t.Errorf("%s: in %v, want %v", name, got, test.want)
		}
		if got := a.job.Trials[oneCA].Next; !got.Equal(in(test.at)) {
			t.Errorf("%s: the CA is noted for %v, want %v", name, got.Sub(now), test.at)
		}
	}
}

// What the Store could not do is no reason to ask the CA later.
func TestStoreErrorsAreNoCAs(t *testing.T) {
	a := tried(record.Trial{Since: time.Now(), Failing: time.Now().Add(-time.Hour)}, oneCA, otherCA)
	a.fail(t.Context(), &storeError{errors.New("disk full")}, time.Now())
	if got := a.job.Trials[oneCA].Next; !got.IsZero() || a.job.StoreErrors != 1 {
		t.Errorf("the CA is asked at %v after %d errors of the Store", got, a.job.StoreErrors)
	}
}
