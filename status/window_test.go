package status_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/status"
)

const day = 24 * time.Hour

func TestParseWindow(t *testing.T) {
	for text, want := range map[string]status.Window{
		"33%":           {Percent: 33},
		"1%":            {Percent: 1},
		"99%":           {Percent: 99},
		"033%":          {Percent: 33},
		"21d":           {Length: 21 * day},
		"21D":           {Length: 21 * day},
		"21":            {Length: 21 * day},
		"504h":          {Length: 21 * day},
		"5mi":           {Length: 5 * time.Minute},
		"5MI":           {Length: 5 * time.Minute},
		"90s":           {Length: 90 * time.Second},
		"1500ms":        {Length: 1500 * time.Millisecond},
		"106751d":       {Length: 106751 * day},
		"9223372036s":   {Length: 9223372036 * time.Second},
		"0000000000001": {Length: day},
	} {
		got, err := status.ParseWindow(text)
		if err != nil || got != want {
			t.Errorf("ParseWindow(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseWindowErrs(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "digit",
		"d":                     "digit",
		"%":                     "digit",
		"-1d":                   "digit",
		"+1d":                   "digit",
		" 1d":                   "digit",
		"٣d":                    "digit",
		"0":                     "zero",
		"0%":                    "zero",
		"0d":                    "zero",
		"100%":                  "1% to 99%",
		"300%":                  "1% to 99%",
		"18446744073709551649%": "too large",
		"99999999999999999999":  "too large",
		"4294967329%":           "1% to 99%",
		"106752d":               "292 years",
		"9223372036854775807d":  "292 years",
		"5m":                    "unit",
		"1y":                    "unit",
		"1w":                    "unit",
		"10days":                "unit",
		"10 d":                  "unit",
		"10d ":                  "unit",
		"33%%":                  "unit",
		"33%x":                  "unit",
		"1.5d":                  "unit",
		"1h30mi":                "unit",
		"1\x00":                 "unit",
	} {
		w, err := status.ParseWindow(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseWindow(%q) = %v, %v; want an error that tells of %q", text, w, err, want)
		}
		if w != (status.Window{}) {
			t.Errorf("ParseWindow(%q) gives %v with its error", text, w)
		}
	}
}

func TestWindowString(t *testing.T) {
	for _, c := range []struct {
		window status.Window
		want   string
	}{
		{status.Window{}, ""},
		{status.Window{Percent: 33}, "33%"},
		{status.Window{Length: 21 * day}, "21d"},
		{status.Window{Length: 25 * time.Hour}, "25h"},
		{status.Window{Length: 61 * time.Minute}, "61mi"},
		{status.Window{Length: 61 * time.Second}, "61s"},
		{status.Window{Length: 1001 * time.Millisecond}, "1001ms"},
		{status.Window{Length: time.Microsecond}, "1µs"},
	} {
		if got := c.window.String(); got != c.want {
			t.Errorf("String of %#v = %q, want %q", c.window, got, c.want)
		}
	}
}

func TestWindowCheck(t *testing.T) {
	for window, want := range map[status.Window]bool{
		{}:                              true,
		{Percent: 99}:                   true,
		{Length: 1}:                     true,
		{Percent: 100}:                  false,
		{Percent: -1}:                   false,
		{Length: -1}:                    false,
		{Percent: 1, Length: 1}:         false,
		{Percent: math.MinInt}:          false,
		{Length: math.MinInt64}:         false,
		{Percent: 33, Length: 21 * day}: false,
	} {
		if err := window.Check(); (err == nil) != want {
			t.Errorf("Check of %#v = %v, want it usable: %v", window, err, want)
		}
	}
}

func TestWindowBefore(t *testing.T) {
	start := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		window status.Window
		life   time.Duration
		want   time.Duration // after notBefore
	}{
		"unset, it begins with the end":          {status.Window{}, 90 * day, 90 * day},
		"a third of 90 days":                     {status.Window{Percent: 33}, 90 * day, 90*day - 2566080*time.Second},
		"half of 160 hours":                      {status.Window{Percent: 50}, 160 * time.Hour, 80 * time.Hour},
		"a third of 398 days":                    {status.Window{Percent: 33}, 398 * day, 398*day - 11347776*time.Second},
		"99 percent of 398 days":                 {status.Window{Percent: 99}, 398 * day, 343872 * time.Second},
		"99 percent of 25 years":                 {status.Window{Percent: 99}, 25 * 365 * day, 7884000 * time.Second},
		"a share is rounded down":                {status.Window{Percent: 33}, 101, 101 - 33},
		"a share of a moment":                    {status.Window{Percent: 50}, 1, 1},
		"21 days of 90":                          {status.Window{Length: 21 * day}, 90 * day, 69 * day},
		"a time may be longer than the lifetime": {status.Window{Length: 21 * day}, 160 * time.Hour, 160*time.Hour - 21*day},
		"a lifetime that is none":                {status.Window{Percent: 33}, -time.Hour, -time.Hour},
		"no lifetime":                            {status.Window{Percent: 33}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.window.Before(start, start.Add(c.life))
			if want := start.Add(c.want); !got.Equal(want) {
				t.Errorf("%v of %v begins at %v, want %v", c.window, c.life, got, want)
			}
		})
	}
}

func TestWindowBeforeDoesNotOverflow(t *testing.T) {
	start := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	end := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for percent := 1; percent < 100; percent++ {
		got := status.Window{Percent: percent}.Before(start, end)
		if got.Before(start) || !got.Before(end) {
			t.Errorf("%d%% of ten thousand years begins at %v", percent, got)
		}
	}
	if got := (status.Window{Percent: math.MaxInt}).Before(start, end); got.Before(start) {
		t.Errorf("an unchecked share begins at %v", got)
	}
}

func TestWindowAsText(t *testing.T) {
	type config struct {
		Renew status.Window `json:"renew"`
		Warn  status.Window `json:"warn"`
	}
	in := config{Renew: status.Window{Percent: 33}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text), `{"renew":"33%","warn":""}`; got != want {
		t.Errorf("JSON is %s, want %s", got, want)
	}
	out := config{Warn: status.Window{Length: day}}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if out != in {
		t.Errorf("it comes back as %v, want %v", out, in)
	}
	for _, w := range []status.Window{{Percent: 100}, {Length: -day}, {Length: 1}} {
		if text, err := w.MarshalText(); err == nil {
			t.Errorf("MarshalText of %#v = %q, want an error", w, text)
		}
	}
	w := status.Window{Percent: 1}
	if err := w.UnmarshalText([]byte("5m")); err == nil || w.Percent != 1 {
		t.Errorf("UnmarshalText of 5m: %v and %v, want an error and no change", err, w)
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"33%", "21d", "5mi", "1500ms", "5m", "-1", "100%", "9223372036855775807d", "10days", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := status.ParseWindow(text)
		if err != nil {
			return
		}
		if err := w.Check(); err != nil {
			t.Errorf("ParseWindow(%q) = %#v, which is not usable: %v", text, w, err)
		}
		if w == (status.Window{}) {
			t.Errorf("ParseWindow(%q) is unset", text)
		}
		marshaled, err := w.MarshalText()
		if err != nil {
			t.Fatalf("%q cannot be written again: %v", text, err)
		}
		var again status.Window
		if err := again.UnmarshalText(marshaled); err != nil || again != w {
			t.Errorf("%q is written as %q and read as %#v, %v; want %#v", text, marshaled, again, err, w)
		}
		end := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
		if begin := w.Before(end.Add(-90*day), end); !begin.Before(end) && w.Length == 0 {
			t.Errorf("%q begins at the end", text)
		}
	})
}
