package engine

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// What another process has written down meanwhile is not lost when this one
// writes a Job that it could not write before: the answers to challenges above
// all, which nobody else would ever take away.
func TestReadJobKeepsWhatOthersHaveWritten(t *testing.T) {
	ours := record.SetUp{Type: "http-01", Name: "example.com", Token: "ours"}
	theirs := record.SetUp{Type: "http-01", Name: "example.com", Token: "theirs"}
	for _, test := range []struct {
		name    string
		unsaved bool
		base    func(v store.Version) store.Version
		errors  int
		setUps  []record.SetUp
	}{
		{"where ours is written, theirs is taken", false, func(v store.Version) store.Version { return v },
			7, []record.SetUp{theirs}},
		{"where ours goes on from theirs, ours is taken", true, func(v store.Version) store.Version { return v },
			3, []record.SetUp{ours}},
		{"where theirs is another, it is taken with what is ours to clean up", true,
			func(store.Version) store.Version { return "former" }, 7, []record.SetUp{theirs, ours}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := New(Config{Store: new(store.Memory)})
			v, err := e.records.PutJob(t.Context(), "a", &record.Job{Errors: 7, SetUps: []record.SetUp{theirs}}, store.None)
			if err != nil {
				t.Fatal(err)
			}
			a := &attempt{
				e: e, d: new(domain), def: &Domain{Name: "a"}, log: slog.New(slog.DiscardHandler),
				job: &record.Job{Errors: 3, SetUps: []record.SetUp{ours}}, jobVersion: test.base(v), unsaved: test.unsaved,
			}
			if err := a.readJob(t.Context()); err != nil {
				t.Fatal(err)
			}
			if a.job.Errors != test.errors || !reflect.DeepEqual(a.job.SetUps, test.setUps) || a.jobVersion != v {
				t.Errorf("got %d errors, set-ups %v at %q, want %d, %v at %q",
					a.job.Errors, a.job.SetUps, a.jobVersion, test.errors, test.setUps, v)
			}
		})
	}
}

// A broken Job is put aside, and what is known of it in memory goes on.
func TestReadJobReplacesABrokenOne(t *testing.T) {
	memory := new(store.Memory)
	v, err := memory.Put(t.Context(), "jobs/a", []byte("{"), store.None)
	if err != nil {
		t.Fatal(err)
	}
	a := &attempt{
		e: New(Config{Store: memory}), d: new(domain), def: &Domain{Name: "a"}, log: slog.New(slog.DiscardHandler),
		job: &record.Job{Errors: 3},
	}
	if err := a.readJob(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.job.Errors != 3 || a.jobVersion != v {
		t.Errorf("got %d errors at %q, want 3 at %q", a.job.Errors, a.jobVersion, v)
	}
	if err := a.putJob(t.Context()); err != nil {
		t.Errorf("it cannot be replaced: %v", err)
	}
}

// An older Set that is read while another is installed does not take its
// place.
func TestInstallIsNotOvertaken(t *testing.T) {
	e := New(Config{Store: new(store.Memory)})
	set, _ := newSet(t, time.Hour)
	d := &domain{def: &Domain{Name: "a", Names: []string{"example.com"}}, version: "second", at: -1}
	if installed, err := e.install(t.Context(), d, set, "first", store.None); err != nil || installed || d.version != "second" {
		t.Errorf("installed: %v, %v, at %q, want that the second stays", installed, err, d.version)
	}
	if installed, err := e.install(t.Context(), d, set, "third", "second"); err != nil || !installed || d.version != "third" {
		t.Errorf("installed: %v, %v, at %q, want the third", installed, err, d.version)
	}
}

func TestSweepForgetsWhatHasExpired(t *testing.T) {
	e := New(Config{Store: new(store.Memory)})
	now := time.Now()
	e.lenders["over.example.com"] = lender{notAfter: now.Add(-time.Second)}
	e.lenders["example.com"] = lender{notAfter: now.Add(time.Hour)}
	e.orphans = []orphan{{name: "over", notAfter: now.Add(-time.Second)}, {name: "good", notAfter: now.Add(time.Hour)}}
	err := e.records.ChangeLimit(t.Context(), "https://ca.test", record.DefaultAccount, "example.com",
		func(record.Limit) (record.Limit, bool) { return record.Limit{Until: now.Add(-time.Hour)}, true })
	if err != nil {
		t.Fatal(err)
	}
	sweep := func(at time.Time) {
		e.knobs.Store(&Knobs{Wall: func() time.Time { return at }, Jitter: func() float64 { return 0.5 }})
		e.sweep(context.Background())
	}
	sweep(now)
	if len(e.lenders) != 1 || len(e.orphans) != 1 || e.orphans[0].name != "good" {
		t.Errorf("there are %v and %v, want one each", e.lenders, e.orphans)
	}
	sweep(now.Add(time.Hour)) // too soon
	if n := countKeys(t, e.store, "limits/"); n != 1 {
		t.Errorf("%d limits after an hour, want one", n)
	}
	sweep(now.Add(25 * time.Hour))
	if n := countKeys(t, e.store, "limits/"); n != 0 {
		t.Errorf("%d limits after a day, want none", n)
	}
}

func countKeys(t *testing.T, s store.Store, prefix string) int {
	t.Helper()
	n := 0
	for _, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// What could not be listed at a start is not looked for any more once nothing is
// lacking: that would sort all Domains, however many, every minute for ever.
func TestNothingIsSearchedForOnceNothingIsLacking(t *testing.T) {
	e := New(Config{Store: new(store.Memory)})
	e.unlisted = true
	e.findLenders(t.Context())
	if e.unlisted {
		t.Error("it is looked for again and again")
	}
}
