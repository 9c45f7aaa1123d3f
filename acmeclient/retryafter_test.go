package acmeclient

import (
	"net/http"
	"testing"
	"time"
)

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	at := func(d time.Duration) string { return testNow.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		name, header string
		want         time.Duration
	}{
		{"nothing", "", 0},
		{"seconds", "120", 2 * time.Minute},
		{"seconds with blanks", " 3 ", 3 * time.Second},
		{"at once", "0", 0},
		{"a date", at(90 * time.Second), 90 * time.Second},
		{"a date in the past", at(-time.Hour), 0},
		{"the date of now", at(0), 0},
		{"a date a century ahead", at(100 * 365 * 24 * time.Hour), maxRetryAfter},
		{"more than two days", "172801", maxRetryAfter},
		{"more than a Duration holds", "9300000000", maxRetryAfter},
		{"more than an integer holds", "99999999999999999999999999", maxRetryAfter},
		{"negative seconds", "-5", 0},
		{"fractions", "1.5", 0},
		{"garbage", "soon", 0},
		{"a very long number", "1" + string(make([]byte, 100)), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := parseRetryAfter(test.header, testNow); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestRetryAfterIsComparedWithTheClockOfTheCA(t *testing.T) {
	r := &reply{at: testNow, header: http.Header{
		"Date":        {testNow.Add(-time.Hour).Format(http.TimeFormat)},
		"Retry-After": {testNow.Add(-time.Hour + 30*time.Second).Format(http.TimeFormat)},
	}}
	if got, want := r.retryAfter(), 30*time.Second; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (*reply)(nil).retryAfter(); got != 0 {
		t.Errorf("no reply: got %v, want 0", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "99999999999999999999", "Sat, 21 Nov 2026 12:00:00 GMT", "Saturday, 21-Nov-26 12:00:00 GMT", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := parseRetryAfter(s, testNow); got < 0 || got > maxRetryAfter {
			t.Errorf("%q: got %v, want it within bounds", s, got)
		}
	})
}
