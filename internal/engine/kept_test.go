package engine

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// newAttempt returns an attempt for example.com with an empty Store.
func newAttempt() *attempt {
	def := &Domain{
		Name: "a", Names: []string{"example.com"}, KeyTypes: []acmeclient.KeyType{"P-256"},
		CAs: []acmeclient.CA{{URL: "https://ca.test"}},
	}
	return &attempt{
		e: New(Config{Store: new(store.Memory)}), d: &domain{def: def, at: -1}, def: def,
		log: slog.New(slog.DiscardHandler), job: new(record.Job),
	}
}

// stages has a Set staged as a former attempt has left it.
func (a *attempt) stages(t *testing.T, set *record.Set) {
	t.Helper()
	if err := a.stage(t.Context(), set); err != nil {
		t.Fatal(err)
	}
}

func (a *attempt) keeps(t *testing.T, set *record.Set) {
	t.Helper()
	if err := a.e.records.Keep(t.Context(), "a", set); err != nil {
		t.Fatal(err)
	}
}

// wantArchived checks what stands in the archive.
func (a *attempt) wantArchived(t *testing.T, want ...*record.Set) {
	t.Helper()
	if n := countKeys(t, a.e.store, "archive/a/"); n != len(want) {
		t.Errorf("%d Sets are in the archive, want %d", n, len(want))
	}
	for _, set := range want {
		id, err := record.ArchiveID(set)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.e.store.Get(t.Context(), "archive/a/"+id); err != nil {
			t.Errorf("the archive does not have what it should: %v", err)
		}
	}
}

// ordered is a credential that a former attempt has ordered.
func ordered(t *testing.T, keyType string) record.Credential {
	t.Helper()
	set, _ := newSet(t, time.Hour)
	c := set.Credentials[0]
	c.KeyType, c.Order, c.Chain = keyType, "https://ca.test/order/"+keyType, nil
	return c
}

func one(c record.Credential) *record.Set { return &record.Set{Credentials: []record.Credential{c}} }

// Nothing that a CA has issued, and no key that it may yet issue for, is lost
// where something else takes its place.
func TestWhatIsIssuedIsKept(t *testing.T) {
	good, _ := newSet(t, 80*24*time.Hour)
	bad, _ := newSet(t, -time.Hour)
	bad.Credentials[0].KeyType = "RSA-2048"

	t.Run("a bad certificate, and the good one beside it", func(t *testing.T) {
		a := newAttempt()
		a.stages(t, &record.Set{Credentials: []record.Credential{good.Credentials[0], ordered(t, "RSA-2048")}})
		if err := (&acmeIssuer{attempt: a}).dropBad(t.Context(), bad, errBadCertificate); !errors.Is(err, errBadCertificate) {
			t.Errorf("dropBad = %v, want why", err)
		}
		if !same(a.staged, good) {
			t.Errorf("staged is %v, want the good one alone", a.staged)
		}
		a.wantArchived(t, bad)
	})
	t.Run("one that another process has left no place for", func(t *testing.T) {
		a := newAttempt()
		a.stages(t, one(ordered(t, "P-256")))
		a.stagedVersion = "former"
		if err := a.stageComplete(t.Context(), good.Credentials[0], []string{"P-256"}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("stageComplete = %v, want a conflict", err)
		}
		a.wantArchived(t, good)
	})
	t.Run("a staged Set, where one is held in memory", func(t *testing.T) {
		a := newAttempt()
		a.stages(t, good)
		a.d.held, _ = newSet(t, 85*24*time.Hour)
		if err := a.readStaged(t.Context()); err != nil || !same(a.staged, a.d.held) {
			t.Errorf("readStaged = %v, want the one from memory staged", err)
		}
		a.wantArchived(t, good)
	})
	t.Run("an order in progress, at a restore", func(t *testing.T) {
		a := newAttempt()
		open := one(ordered(t, "P-256"))
		a.stages(t, open)
		if err := a.e.records.Keep(t.Context(), "a", good); err != nil {
			t.Fatal(err)
		}
		a.task.restore, _ = record.ArchiveID(good)
		if err := a.restore(t.Context()); err != nil || !same(a.active, good) {
			t.Errorf("restore = %v, want what was restored active", err)
		}
		a.wantArchived(t, good, open)
	})
	t.Run("an order for a key that must not be used again", func(t *testing.T) {
		a := newAttempt()
		a.active, a.task.revoke = good, new(acmeclient.Reason)
		open := ordered(t, "P-256")
		open.Key = good.Credentials[0].Key
		a.stages(t, one(open))
		if _, ok, err := (&acmeIssuer{attempt: a}).giveUp(t.Context(), "P-256"); ok || err != nil {
			t.Errorf("giveUp = %v, %v, want that it is given up", ok, err)
		}
		a.wantArchived(t, one(open))
	})
	t.Run("what is in use, where a part of its successor is activated", func(t *testing.T) {
		a := newAttempt()
		a.def.KeyTypes = append(a.def.KeyTypes, "RSA-2048")
		former, _ := newSet(t, -time.Minute)
		version, err := a.e.records.Adopt(t.Context(), "a", former, store.None)
		if err != nil {
			t.Fatal(err)
		}
		a.active, a.activeVersion = former, version
		a.stages(t, &record.Set{Credentials: []record.Credential{good.Credentials[0], ordered(t, "RSA-2048")}})
		if err := a.activatePart(t.Context()); err != nil || !same(a.active, good) {
			t.Errorf("activatePart = %v, want the part active", err)
		}
		a.wantArchived(t, former)
	})
}

// A certificate that could not be revoked before it expired is of no use to
// anybody: it is not asked for any more, and what had failed is forgotten.
func TestRevocationsEndWithTheCertificates(t *testing.T) {
	a := newAttempt()
	a.active, _ = newSet(t, 80*24*time.Hour)
	expired, _ := newSet(t, -time.Minute)
	a.job.Revocations = []record.Revocation{{CA: "https://ca.test", Leaf: expired.Credentials[0].Chain[0]}}
	a.job.RevokeErrors, a.job.RevokeAt = 3, time.Now().Add(-time.Minute)
	if err := a.revokeListed(t.Context()); err != nil {
		t.Errorf("revokeListed = %v, want nothing to do", err)
	}
	if j := a.job; len(j.Revocations) > 0 || j.RevokeErrors != 0 || !j.RevokeAt.IsZero() {
		t.Errorf("left are %v after %d errors until %v, want nothing", j.Revocations, j.RevokeErrors, j.RevokeAt)
	}
}

// What a clock that was ahead has written of the CAs is moved with the rest:
// else a CA would not have been asked yet for days, or block for days.
func TestTrialsAreSetRight(t *testing.T) {
	now := time.Now()
	ahead := now.Add(72 * time.Hour)
	j := &record.Job{
		LastRun: ahead, NextRun: ahead.Add(time.Hour),
		Trials: map[string]record.Trial{"ca": {Since: ahead.Add(-time.Hour), Blocked: ahead.Add(time.Hour)}, "other": {Turns: 1}},
	}
	if !setRight(j, now) {
		t.Fatal("nothing was set right")
	}
	got := j.Trials["ca"]
	if !got.Since.Equal(now.Add(-time.Hour)) || !got.Blocked.Equal(now.Add(time.Hour)) || !j.NextRun.Equal(now.Add(time.Hour)) {
		t.Errorf("at %v: asked since %v, blocked until %v, next run %v; want an hour ago, and in an hour", now, got.Since, got.Blocked, j.NextRun)
	}
	if other := j.Trials["other"]; !other.Since.IsZero() || !other.Blocked.IsZero() {
		t.Errorf("a CA that was never asked is asked since %v", other.Since)
	}
}

// A veto ends a renewal only if that has not begun: what is ordered belongs to
// the CA that has it.
func TestVetoOfARenewalUnderWay(t *testing.T) {
	for name, begin := range map[string]func(a *attempt){
		"an order is staged": func(a *attempt) { a.staged = one(ordered(t, "P-256")) },
		"it has failed":      func(a *attempt) { a.job.Errors = 1 },
		"it was let wait":    func(a *attempt) { a.job.Waits = 1 },
	} {
		a := newAttempt()
		a.job.CA, a.job.Trials = "ca", map[string]record.Trial{"ca": {Turns: 1}}
		begin(a)
		if a.postpone(); a.job.CA != "ca" || len(a.job.Trials) != 1 {
			t.Errorf("%s: the veto has it begin anew", name)
		}
	}
}

// Who waits for a limit together with many others does not wait until its
// certificate has expired.
func TestStaggerMindsTheLifeThatIsLeft(t *testing.T) {
	a := newAttempt()
	a.active, _ = newSet(t, time.Hour)
	a.activeVersion = "1"
	a.job.Blocks = 30
	if got := a.stagger(&blockedError{each: time.Hour}, time.Now()); got > 3*time.Minute {
		t.Errorf("it waits for %v more with an hour left, want a twentieth of it at most", got)
	}
	a.active = nil
	if got := a.stagger(&blockedError{each: time.Hour}, time.Now()); got < time.Hour/2 {
		t.Errorf("it waits for %v more with nothing to lose, want half an hour at least", got)
	}
}

// A revocation that was written down in memory only is not lost where another
// process has written the Job meanwhile.
func TestReadJobKeepsRevocations(t *testing.T) {
	a := newAttempt()
	theirs := record.Revocation{CA: "https://ca.test", Leaf: []byte("theirs")}
	if _, err := a.e.records.PutJob(t.Context(), "a", &record.Job{Revocations: []record.Revocation{theirs}}, store.None); err != nil {
		t.Fatal(err)
	}
	a.job.Revocations = []record.Revocation{theirs, {CA: "https://ca.test", Leaf: []byte("ours")}}
	a.unsaved, a.jobVersion = true, "former"
	if err := a.readJob(t.Context()); err != nil {
		t.Fatal(err)
	}
	var leaves []string
	for _, r := range a.job.Revocations {
		leaves = append(leaves, string(r.Leaf))
	}
	if want := []string{"theirs", "ours"}; !slices.Equal(leaves, want) {
		t.Errorf("to be revoked are %v, want %v", leaves, want)
	}
}
