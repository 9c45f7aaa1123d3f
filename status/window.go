package status

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Window is a length of time before a certificate expires: a share of its
// lifetime, as "33%", or a time, as "21d". Windows can be compared with ==.
// The zero Window is unset.
type Window struct {
	// Percent of the lifetime, 1 to 99; zero if Length is set.
	Percent int
	// Length, if Percent is zero.
	Length time.Duration
}

const day = 24 * time.Hour

// windowUnits are the units of a Length, largest first, so that String finds
// the shortest text.
var windowUnits = [...]struct {
	name   string
	length time.Duration
}{
	{"d", day},
	{"h", time.Hour},
	{"mi", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
}

// ParseWindow reads a whole number and a unit: "%" for a share of the
// lifetime, 1 to 99; or d, h, mi, s or ms, in either case, for a time. A
// number without unit means days. A bare "m" is an error, because it might
// mean months. So is zero: a Window that is not wanted is left unset.
func ParseWindow(text string) (Window, error) {
	w, err := parseWindow(text)
	if err != nil {
		return Window{}, fmt.Errorf(`%.40q is not a window such as "33%%" or "21d": %w`, text, err)
	}
	return w, nil
}

func parseWindow(text string) (Window, error) {
	digits := 0
	for digits < len(text) && '0' <= text[digits] && text[digits] <= '9' {
		digits++
	}
	if digits == 0 {
		return Window{}, errors.New("it does not begin with a digit")
	}
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil {
		return Window{}, errors.New("the number is too large")
	}
	if n == 0 {
		return Window{}, errors.New("it is zero; leave it unset instead")
	}
	unit := strings.ToLower(text[digits:])
	if unit == "%" {
		w := Window{Percent: int(min(n, 100))} // Check tells of 100
		return w, w.Check()
	}
	if unit == "" {
		unit = "d"
	}
	for _, u := range windowUnits {
		if u.name != unit {
			continue
		}
		if n > math.MaxInt64/int64(u.length) {
			return Window{}, errors.New("it is longer than 292 years")
		}
		return Window{Length: time.Duration(n) * u.length}, nil
	}
	return Window{}, fmt.Errorf("%.20q is no unit; units are %%, d, h, mi, s and ms", text[digits:])
}

// Check returns nil if w is unset or usable, else an error that says what is
// wrong with it.
func (w Window) Check() error {
	switch {
	case w.Percent < 0 || w.Percent >= 100:
		return errors.New("a share of the lifetime is 1% to 99%")
	case w.Length < 0:
		return errors.New("a window is not negative")
	case w.Percent != 0 && w.Length != 0:
		return errors.New("a window is either a share of the lifetime or a time, not both")
	}
	return nil
}

// Before returns when the window of a certificate with the given validity
// begins. A Length begins exactly that long before notAfter, even if that is
// before notBefore; a Percent never does. For the zero Window it is notAfter.
// Lifetimes of over 292 years count as 292 years.
func (w Window) Before(notBefore, notAfter time.Time) time.Time {
	length := w.Length
	if w.Percent > 0 {
		life := max(notAfter.Sub(notBefore), 0)
		percent := time.Duration(min(w.Percent, 100))
		// In two parts, because life*percent does not fit for ten years.
		length = life/100*percent + life%100*percent/100
	}
	return notAfter.Add(-length)
}

// String returns the shortest text that ParseWindow reads as w; "" if w is
// unset. A part of a millisecond, which only a program can set, is written
// as time.Duration writes it.
func (w Window) String() string {
	switch {
	case w.Percent != 0:
		return strconv.Itoa(w.Percent) + "%"
	case w.Length == 0:
		return ""
	}
	for _, u := range windowUnits {
		if w.Length%u.length == 0 {
			return strconv.FormatInt(int64(w.Length/u.length), 10) + u.name
		}
	}
	return w.Length.String()
}

// MarshalText returns what String does, or an error if w cannot be read back.
func (w Window) MarshalText() ([]byte, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	if w.Length%time.Millisecond != 0 {
		return nil, fmt.Errorf("a window of %v is not a whole number of milliseconds", w.Length)
	}
	return []byte(w.String()), nil
}

// UnmarshalText reads what ParseWindow does, and the empty text as unset.
func (w *Window) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*w = Window{}
		return nil
	}
	parsed, err := ParseWindow(string(text))
	if err != nil {
		return err
	}
	*w = parsed
	return nil
}
