package status

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxText bounds what a CA says, in characters; JSON has it whole.
const maxText = 1000

func writeTextDomain(w io.Writer, d Domain) error { return writeDetails(w, cleanDomain(d, true)) }

// writeText asks src twice rather than keep what it yields, which may be a
// million Domains.
func writeText(w io.Writer, src Source) error {
	if _, err := fmt.Fprintf(w, summaryFormat, "STATE", "EXPIRES", "RENEWAL", "DOMAIN"); err != nil {
		return err
	}
	counts := make(map[State]int)
	total := 0
	for d := range src.Status() {
		d = cleanDomain(d, false)
		total++
		counts[d.State]++
		if err := writeSummary(w, d); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "total %d%s\n", total, countsText(counts)); err != nil {
		return err
	}
	for d := range src.Status() {
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		if err := writeDetails(w, cleanDomain(d, false)); err != nil {
			return err
		}
	}
	return nil
}

// The name is last, so that lines are aligned however long it is.
const summaryFormat = "%-10s  %-20s  %-20s  %s\n"

func writeSummary(w io.Writer, d Domain) error {
	var first time.Time
	for _, c := range d.Certificates {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	_, err := fmt.Fprintf(w, summaryFormat, d.State, moment(first), moment(d.RenewAt), d.Name)
	return err
}

// countsText tells how many Domains are in each State that has any, in the
// order in which an operator wants to know.
func countsText(counts map[State]int) string {
	var text strings.Builder
	for _, s := range []State{Expired, Incomplete, Pending, Good} {
		if n := counts[s]; n > 0 {
			fmt.Fprintf(&text, "  %s %d", s, n)
		}
	}
	return text.String()
}

// writeDetails writes what there is to tell of d: a line with its name, and
// below it a line for each fact, whose first word says what it is.
func writeDetails(w io.Writer, d Domain) error {
	var text strings.Builder
	fmt.Fprintln(&text, d.Name)
	fact := func(word, value string) {
		if value != "" {
			fmt.Fprintf(&text, "  %-12s %s\n", word, value)
		}
	}
	fact("state", string(d.State))
	fact("reason", short(d.Reason))
	fact("names", strings.Join(d.Names, " "))
	fact("ca", d.CA)
	for _, c := range d.Certificates {
		writeCertificate(fact, "certificate", c)
	}
	for _, c := range d.Staged {
		writeCertificate(fact, "staged", c)
	}
	fact("explanation", d.ExplanationURL)
	if !d.RenewAt.IsZero() {
		fact("renew-at", moment(d.RenewAt))
	}
	if d.Renewal != nil {
		writeRenewal(fact, *d.Renewal)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func writeCertificate(fact func(word, value string), what string, c Certificate) {
	fact(what, c.KeyType+" "+c.Serial)
	fact("  valid", moment(c.NotBefore)+" to "+moment(c.NotAfter))
	fact("  names", strings.Join(c.Names, " "))
	fact("  issuer", c.Issuer)
	fact("  sha256", c.SHA256Fingerprint)
	fact("  ca", c.CA)
	fact("  url", c.URL)
}

func writeRenewal(fact func(word, value string), r Renewal) {
	if r.Running {
		fact("renewal", "running")
	}
	fact("activity", short(r.Activity))
	if r.Attempts > 0 {
		fact("attempts", fmt.Sprintf("%d failed in a row", r.Attempts))
	}
	if r.Panics > 0 {
		fact("panics", strconv.Itoa(r.Panics))
	}
	fact("error", short(r.LastError))
	fact("problem", r.LastProblem)
	if !r.LastAttempt.IsZero() {
		fact("last", moment(r.LastAttempt))
	}
	if !r.NextAttempt.IsZero() {
		fact("next", moment(r.NextAttempt))
	}
	for _, e := range r.Log {
		fact("log", moment(e.Time)+" "+strings.TrimSpace(e.What+" "+short(e.Detail)))
	}
}

// moment writes t in UTC to the second, or "-" if it is not known.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// short cuts s where a line gets too long to read.
func short(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxText {
			return s[:i] + "…"
		}
	}
	return s
}
