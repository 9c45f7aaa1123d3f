package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
)

// What is to be done beside renewals is done when its time comes, however long
// the next attempt to renew is off.
func TestErrands(t *testing.T) {
	now := time.Now()
	soon, far := now.Add(time.Hour), now.Add(12*time.Hour)
	for name, job := range map[string]record.Job{
		"Renewed is told again":        {AnnounceAt: soon},
		"answers are taken away":       {CleanUpAt: soon},
		"certificates are revoked":     {RevokeAt: soon},
		"the earliest of them decides": {AnnounceAt: soon, CleanUpAt: soon.Add(time.Hour), RevokeAt: now.Add(-time.Hour)},
	} {
		a := newAttempt()
		a.d.job = &job
		if got := a.d.errand(far, now); !got.Equal(soon) {
			t.Errorf("%s: in %v, want an hour", name, got.Sub(now))
		}
	}
	a := newAttempt()
	set, _ := newSet(t, 10*24*time.Hour)
	a.d.job, a.d.certs, a.d.version = new(record.Job), certificatesOf(set), "1"
	if got, want := a.d.errand(now.Add(3*24*time.Hour), now), now.Add(24*time.Hour); got.Sub(want).Abs() > time.Minute {
		t.Errorf("the warning: in %v, want a tenth of the life before the end", got.Sub(now))
	}
}

// A node for which nothing is due leaves alone what another one does; but not
// what is over, or what it was asked for.
func TestDueElsewhere(t *testing.T) {
	now := time.Now()
	good, _ := newSet(t, 80*24*time.Hour) // obtained ten days ago
	for name, test := range map[string]struct {
		but  func(a *attempt)
		want bool
	}{
		"another process renews":             {func(*attempt) {}, true},
		"somebody asked for it":              {func(a *attempt) { a.task.renew = true }, false},
		"the configuration is another":       {func(a *attempt) { a.reconfigured = true }, false},
		"nobody has begun":                   {func(a *attempt) { a.job.Trials = nil }, false},
		"it has come to its end":             {func(a *attempt) { a.staged = good }, false},
		"there are other certificates since": {func(a *attempt) { a.job.LastRun = now.Add(-20 * 24 * time.Hour) }, false},
		"there are no certificates":          {func(a *attempt) { a.active = nil }, false},
		"nobody has gone on for a day":       {func(a *attempt) { a.job.NextRun = now.Add(-25 * time.Hour) }, false},
	} {
		a := newAttempt()
		a.active = good
		a.job.Trials = map[string]record.Trial{oneCA: {Turns: 1}}
		a.job.LastRun, a.job.NextRun = now.Add(-time.Hour), now.Add(-time.Minute)
		test.but(a)
		if got := a.dueElsewhere(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// A renewal is told as done once: when it has led to something.
func TestSucceedTellsOfARenewal(t *testing.T) {
	good, _ := newSet(t, 80*24*time.Hour)
	for name, test := range map[string]struct {
		how  func(a *attempt)
		want int
	}{
		"it was activated":                {func(a *attempt) { a.activated = true }, 1},
		"it was active already":           {func(a *attempt) { a.cleared = true }, 1},
		"it waits for its activation":     {func(a *attempt) { a.staged = good }, 1},
		"nothing has come of it":          {func(*attempt) {}, 0},
		"no CA was asked":                 {func(a *attempt) { a.activated, a.job.Trials = true, nil }, 0},
		"it was too early to do anything": {func(a *attempt) { a.activated, a.upToDate = true, false }, 0},
	} {
		a := tried(record.Trial{Turns: 1}, oneCA)
		a.upToDate = true
		a.job.Errors, a.job.Blocks, a.job.Part = 3, 2, "part"
		test.how(a)
		early := !a.upToDate
		a.succeed(time.Now())
		told := 0
		for _, line := range a.job.Log {
			if line.What == "renewed" {
				told++
			}
		}
		if told != test.want {
			t.Errorf("%s: told %d times, want %d", name, told, test.want)
		}
		if j := a.job; early != (j.Errors == 3 && j.Blocks == 2 && j.Part == "part") {
			t.Errorf("%s: what was before is %d errors, %d limits, part %q", name, j.Errors, j.Blocks, j.Part)
		}
	}
}

// What was restored is not replaced at once.
func TestRestoredStaysForAWhile(t *testing.T) {
	a := tried(record.Trial{Turns: 1}, oneCA)
	a.e.cfg.CheckInterval = 12 * time.Hour
	a.upToDate, a.activated, a.task.restore = true, true, "id"
	now := time.Now()
	if a.succeed(now); a.job.NextRun.Before(now.Add(time.Hour)) || !a.job.LastRun.Equal(now) {
		t.Errorf("it may be replaced at %v", a.job.NextRun)
	}
}

// A certificate that the CA has refused is taken back from the count once, and
// only it.
func TestUncount(t *testing.T) {
	a := tried(record.Trial{}, oneCA)
	a.ca.Limits.Certificates = acmeclient.Rate{Count: 5, Per: 5 * 24 * time.Hour}
	count := func() int { return int((time.Until(a.job.Issued[a.issuedKey()]) + time.Hour) / (24 * time.Hour)) }
	a.countCertificate("one")
	a.countCertificate("two")
	a.countCertificate("two")
	a.uncountCertificate("one")
	if got := count(); got != 2 {
		t.Errorf("%d are counted after another order was refused, want 2", got)
	}
	a.uncountCertificate("two")
	a.uncountCertificate("two")
	if got := count(); got != 1 {
		t.Errorf("%d are counted after the last order was refused, want 1", got)
	}
	a.countCertificate("two") // there is a certificate after all
	if got := count(); got != 2 {
		t.Errorf("%d are counted when it was issued all the same, want 2", got)
	}
	for status, want := range map[int]bool{0: false, 403: true, 500: false, 503: false} {
		if got := saidNo(fmt.Errorf("finalize: %w", &acmeclient.Problem{Status: status})); got != want {
			t.Errorf("saidNo with the status %d is %v, want %v", status, got, want)
		}
	}
	if saidNo(errors.New("lost")) {
		t.Error("saidNo where the CA has said nothing")
	}
}

// What one attempt does for others is done again by one of them if its time is
// over, and its failure is everybody's if it is not.
func TestTogether(t *testing.T) {
	var group singleflight.Group
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		ctx context.Context
		err error
	}{
		"it fails":                     {t.Context(), boom},
		"it fails and its time ends":   {ended, boom},
		"it goes well":                 {t.Context(), nil},
		"it goes well as time is over": {ended, nil},
	} {
		n := 0
		err := together(test.ctx, &group, "x", func() error { n++; return test.err })
		if !errors.Is(err, test.err) || n != 1 {
			t.Errorf("%s: %v after %d times, want %v after one", name, err, n, test.err)
		}
	}
}

// What a CA says of its limits takes the place of what it has said before,
// unless that lasts longer; and an issued certificate clears only what was said
// before it was ordered.
func TestWhatWasHeardOfLimits(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	limited := func(d time.Duration) error {
		return &acmeclient.Problem{Status: 429, Type: "urn:ietf:params:acme:error:rateLimited", RetryAt: now.Add(d)}
	}
	until := func(a *attempt) time.Duration { return a.limitAt(t, a.ca, record.AccountLimit).Until.Sub(now) }
	a := tried(record.Trial{}, oneCA)
	l := a.ledger(a.ca)
	for _, test := range []struct{ said, want time.Duration }{
		{2 * time.Hour, 2 * time.Hour}, {time.Hour, 2 * time.Hour}, {3 * time.Hour, 3 * time.Hour},
	} {
		if l.heard(t.Context(), limited(test.said), a.def.Names); until(a) != test.want {
			t.Errorf("after %v were said, it is %v, want %v", test.said, until(a), test.want)
		}
	}
	l.cleared(t.Context(), []string{record.AccountLimit}, now.Add(-time.Hour))
	if until(a) != 3*time.Hour {
		t.Error("what was said since is forgotten")
	}
	l.cleared(t.Context(), []string{record.AccountLimit}, now.Add(time.Hour))
	if limit := a.limitAt(t, a.ca, record.AccountLimit); !limit.Until.IsZero() {
		t.Error("what was said before is not forgotten")
	}
	for name, limit := range map[string]record.Limit{
		"for months":               {Until: now.Add(60 * 24 * time.Hour), Said: now},
		"by a clock that is ahead": {Until: now.Add(24 * time.Hour), Said: now.Add(2 * time.Hour)},
		"of the past":              {Until: now.Add(-time.Second), Said: now.Add(-time.Hour)},
	} {
		if forbids(limit, now) {
			t.Errorf("what was said %s is obeyed", name)
		}
	}
	parked := record.Limit{Until: now.Add(24 * time.Hour), Said: now, Parked: true}
	if l.blocks("example.com", parked, now, true) != nil || l.blocks("example.com", parked, now, false) == nil {
		t.Error("what is parked is not open to who was asked to try, and to nobody else")
	}
}

// One grace is for all that is told when Run has ended, and ends before that of
// the hooks; an event for which there is none left is not raised.
func TestGraceForWhatIsTold(t *testing.T) {
	a := newAttempt()
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the end"))
	first, done := a.inGrace(ended)
	defer done()
	until, _ := first.Deadline()
	if left := time.Until(until); left <= 0 || left > 9*time.Second {
		t.Errorf("there are %v, want what is less than the hooks' 10 s", left)
	}
	time.Sleep(time.Millisecond)
	second, done := a.inGrace(ended)
	defer done()
	if again, _ := second.Deadline(); !again.Equal(until) {
		t.Errorf("the next event has until %v, want %v as the one before", again, until)
	}
	raised := 0
	a.e.cfg.Notifier = status.NotifierFunc(func(context.Context, status.Event) error { raised++; return nil })
	a.graceEnds = time.Now().Add(-time.Second)
	if err := a.notify(ended, status.Event{Kind: status.Renewed}); err == nil || raised > 0 {
		t.Errorf("notify = %v, raised %d times, want an error and nothing raised", err, raised)
	}
}

// The status tells what a Notifier has returned, and a veto as what it is.
func TestShowWhatNotifiersReturn(t *testing.T) {
	a := newAttempt()
	a.show(status.Renewed, nil, false)
	a.show(status.Renewed, errPanic, false)
	a.show(status.Renewing, status.ErrVeto, true)
	var kinds []string
	for _, line := range a.job.Log {
		kinds = append(kinds, line.What)
	}
	slices.Sort(kinds)
	if want := []string{"notify-error", "vetoed"}; !slices.Equal(kinds, want) || a.job.Panics != 1 {
		t.Errorf("told are %v with %d panics, want %v with one", kinds, a.job.Panics, want)
	}
}
