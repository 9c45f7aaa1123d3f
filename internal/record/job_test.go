package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/manageddomains/md/store"
)

// busyJob has something in every field.
func busyJob() *Job {
	j := &Job{
		For: "configuration", Errors: 3, Waits: 1, LastRun: moment, NextRun: moment.Add(time.Hour),
		LastError: "the CA <says> no", LastProblem: "urn:ietf:params:acme:error:malformed", Permanent: true,
		FailedChallenge: "http-01",
		SetUps:          []SetUp{{Type: "dns-01", Name: "example.test", Token: "token", KeyAuthorization: "token.thumbprint"}},
		CleanUpErrors:   2, CleanUpAt: moment.Add(2 * time.Hour),
		CA:        directory,
		Trials:    map[string]Trial{directory: {Failures: 1, Since: moment}},
		Left:      30 * time.Hour,
		Issued:    map[string]time.Time{"names": moment},
		ARI:       map[string]RenewalInfo{"id": {Start: moment, End: moment.Add(time.Hour), At: moment, Explanation: "why"}},
		Told:      map[string]time.Time{"expiring": moment},
		Panics:    1,
		Announced: "0123456789abcdef", Part: "fedcba9876543210", AnnounceErrors: 1, AnnounceAt: moment.Add(3 * time.Hour),
	}
	j.StoreErrors, j.Blocks, j.Counted = 1, 2, "https://ca.test/order/1"
	j.Rehearsed = "configuration"
	j.Failed = []string{"https://ca.example/authz/7"}
	j.Revocations = []Revocation{{CA: directory, Certificate: "https://ca.test/cert/1", Reason: 1, Leaf: []byte{1}, Archived: "id"}}
	j.RevokeErrors, j.RevokeAt = 1, moment.Add(4*time.Hour)
	j.unknown = map[string]json.RawMessage{"later": json.RawMessage("7")}
	j.Tell(moment, "starting", "it is missing")
	j.Tell(moment, "renewal-error", "")
	return j
}

func TestJobIsReadAsWritten(t *testing.T) {
	if v := reflect.ValueOf(*busyJob()); v.NumField() > 0 {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("busyJob leaves %s zero, so that it is not tested", v.Type().Field(i).Name)
			}
		}
	}
	r := &Records{Store: new(store.Memory)}
	if _, _, err := r.Job(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before it is written: %v, want fs.ErrNotExist", err)
	}
	version := store.None
	for _, j := range []*Job{new(Job), busyJob()} {
		var err error
		if version, err = r.PutJob(t.Context(), "a", j, version); err != nil {
			t.Fatal(err)
		}
		got, v, err := r.Job(t.Context(), "a")
		if err != nil || v != version {
			t.Fatalf("read: %v, %q, want %q", err, v, version)
		}
		if !reflect.DeepEqual(got, j) {
			t.Errorf("got  %+v\nwant %+v", got, j)
		}
	}
	if _, err := r.PutJob(t.Context(), "a", new(Job), store.None); !errors.Is(err, store.ErrConflict) {
		t.Errorf("written again as if it were the first time: %v, want ErrConflict", err)
	}
}

func TestJobClone(t *testing.T) {
	j := busyJob()
	c := j.Clone()
	if !reflect.DeepEqual(c, j) {
		t.Errorf("got  %+v\nwant %+v", c, j)
	}
	c.SetUps[0].Type, c.Log[0].What, c.Errors, c.Revocations[0].CA = "other", "other", 7, "other"
	clear(c.Trials)
	clear(c.Issued)
	clear(c.ARI)
	clear(c.Told)
	if !reflect.DeepEqual(j, busyJob()) {
		t.Errorf("what is done to the clone is done to the Job: %+v", j)
	}
}

func TestJobTell(t *testing.T) {
	t.Run("keeps the last lines", func(t *testing.T) {
		j := new(Job)
		for i := range 3 * maxLog {
			j.Tell(moment.Add(time.Duration(i)*time.Minute), "line", strconv.Itoa(i))
		}
		if len(j.Log) != maxLog || j.Log[0].Detail != strconv.Itoa(2*maxLog) || j.Log[maxLog-1].Detail != strconv.Itoa(3*maxLog-1) {
			t.Errorf("%d lines from %q", len(j.Log), j.Log[0].Detail)
		}
	})
	t.Run("does not change a clone", func(t *testing.T) {
		j := new(Job)
		j.Tell(moment, "first", "")
		c := j.Clone()
		j.Tell(moment, "second", "")
		c.Tell(moment, "third", "")
		if j.Log[1].What != "second" || c.Log[1].What != "third" {
			t.Errorf("got %v and %v", j.Log, c.Log)
		}
	})
	t.Run("bounds a line", func(t *testing.T) {
		for _, detail := range []string{
			strings.Repeat("x", 5000),
			"x" + strings.Repeat("ü", 5000),
			strings.Repeat("\xffx", 5000),
			strings.Repeat("ü", maxDetail/2),
		} {
			j := new(Job)
			j.Tell(moment, "line", detail)
			got := j.Log[0].Detail
			if len(got) > maxDetail || len(got) < maxDetail-3 || !utf8.ValidString(got) {
				t.Errorf("of %.10q, %d bytes are kept, valid: %v", detail, len(got), utf8.ValidString(got))
			}
		}
	})
	t.Run("tells whole seconds in UTC", func(t *testing.T) {
		j := new(Job)
		j.Tell(moment.Add(time.Second/3).In(time.FixedZone("", 3600)), "line", "")
		if got := j.Log[0].Time; got != moment {
			t.Errorf("got %v, want %v", got, moment)
		}
	})
}

func TestDecodeJobSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ name, data, want string }{
		{"nothing", "", "unexpected end of JSON"},
		{"half of it", `{"errors":1,`, "unexpected end of JSON"},
		{"two of them", "{}{}", "invalid character '{' after"},
		{"a list", "[]", "cannot unmarshal array"},
		{"a count that is none", `{"errors":"x"}`, "cannot unmarshal string"},
		{"less than no errors", `{"errors":-1}`, "less than no errors"},
		{"less than no blocks", `{"blocks":-1}`, "less than no errors"},
		{"less than no errors of the Store", `{"store-errors":-1}`, "less than no errors"},
		{"less than no revocations", `{"revoke-errors":-1}`, "less than no errors"},
		{"less than no waits", `{"waits":-1}`, "less than no errors"},
		{"less than no announcements", `{"announce-errors":-1}`, "less than no errors"},
		{"less than no cleaning up", `{"clean-up-errors":-1}`, "less than no errors"},
		{"a moment that is none", `{"next-run":"soon"}`, "cannot parse"},
		{"more than could be written again", `{"set-ups":[` + strings.Repeat("{},", 300_000) + `{}]}`, store.ErrTooLarge.Error()},
		{"a text that grows when it is written", `{"last-error":"` + strings.Repeat("<", 300_000) + `"}`, store.ErrTooLarge.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			j, err := decodeJob([]byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.want) || j != nil {
				t.Errorf("got %v, %v, want an error with %q", j, err, test.want)
			}
		})
	}
	t.Run("and bounds the log", func(t *testing.T) {
		j, err := decodeJob([]byte(`{"errors":5,"log":[` + strings.Repeat("{},", 300_000) + `{"what":"last"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if j.Errors != 5 || len(j.Log) != maxLog || cap(j.Log) > 2*maxLog || j.Log[maxLog-1].What != "last" {
			t.Errorf("got %d errors and %d lines in %d", j.Errors, len(j.Log), cap(j.Log))
		}
	})
}

// A version that is older than another writes over what that one has written.
func TestJobKeepsFieldsThatItDoesNotKnow(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	put(t, memory, "jobs/a", []byte(`{"errors":1,"next-run":"2026-01-01T00:00:00Z","later":{"a":[1,2]},"ERRORS":2}`))
	j, v, err := r.Job(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	j = j.Clone()
	j.Errors, j.NextRun = 3, time.Time{}
	if _, err := r.PutJob(t.Context(), "a", j, v); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(contents(t, memory)["jobs/a"], &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"errors": 3.0, "later": map[string]any{"a": []any{1.0, 2.0}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestJobThatCannotBeReadIsNotWritten(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	for _, j := range []*Job{
		{Errors: math.MinInt},
		{NextRun: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		{LastError: strings.Repeat("x", store.MaxValue)},
	} {
		if _, err := r.PutJob(t.Context(), "a", j, store.None); err == nil || !strings.Contains(err.Error(), "jobs/a") {
			t.Errorf("error %v, want one that names jobs/a", err)
		}
	}
	if got := contents(t, r.Store.(*store.Memory)); len(got) != 0 {
		t.Errorf("the Store has %d values", len(got))
	}
}

func FuzzJob(f *testing.F) {
	for _, j := range []*Job{new(Job), busyJob()} {
		data, err := j.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("null"))
	f.Add([]byte(`{"later":{"x": "<\u2028"},"erroR\u017f":1,"Le\u212a":null,"a":1,"a":2}`))
	f.Add([]byte(`{"ERRORS":9223372036854775807,"log":[],"set-ups":[{}],"last-run":"2026-01-01T00:00:00.5+01:00"}`))
	f.Add([]byte(`{"next-run":"9999-12-31T23:59:59-23:59","last-error":"\ud800","unknown":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := decodeJob(data)
		if err != nil {
			return
		}
		once, err := j.encode()
		if err != nil {
			t.Fatalf("it cannot be written again: %v", err)
		}
		again, err := decodeJob(once)
		if err != nil {
			t.Fatalf("%v:\n%s", err, once)
		}
		twice, err := again.encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("encoded again, it is\n%s\nwant\n%s", twice, once)
		}
		if len(j.Log) > maxLog || j.Errors < 0 || again.Errors != j.Errors || !again.NextRun.Equal(j.NextRun) {
			t.Errorf("got %+v, want %+v", again, j)
		}
	})
}
