package status

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// JSON serves the report of src as application/json to GET and HEAD.
//
// If the last segment of the path names a Domain, or else a DNS name of one,
// the answer is that Domain's report with its event log. Otherwise it is
// {"domains": [...]} with all reports, without logs, written as src yields
// them, so that its length does not matter.
//
// The report names all Domains and what goes wrong with them. Who may see it
// is for the caller to decide.
func JSON(src Source) http.Handler {
	return report(src, "application/json", writeJSONDomain, writeJSON)
}

// Text serves the report of src as text/plain, for an operator with curl: a
// line for each Domain, their number in each State, then what is to be told
// of each. The path selects a Domain as it does for JSON.
//
// A line begins with the State, and has the Domain's name last; between them
// are the time of the first expiry and of the next renewal, or "-".
func Text(src Source) http.Handler {
	return report(src, "text/plain; charset=utf-8", writeTextDomain, writeText)
}

// report makes a handler of two functions: one writes a Domain with its log,
// one writes all Domains.
func report(src Source, contentType string, one func(io.Writer, Domain) error, all func(io.Writer, Source) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "a report can be read with GET and HEAD only", http.StatusMethodNotAllowed)
			return
		}
		header.Set("Content-Type", contentType)
		if r.Method == http.MethodHead {
			return
		}
		out := bufio.NewWriter(w)
		var err error
		if d, ok := find(src, path.Base(r.URL.Path)); ok {
			err = one(out, d)
		} else {
			err = all(out, src)
		}
		if err != nil {
			return // the client has gone
		}
		out.Flush()
	})
}

// find returns the Domain whose Name is name, else the first one that has
// name among its Names.
func find(src Source, name string) (found Domain, ok bool) {
	if name == "" || name == "/" || name == "." {
		return Domain{}, false
	}
	shown := name
	if unicode, err := idna.Display.ToUnicode(name); err == nil {
		shown = unicode // as Names are
	}
	same := func(s string) bool { return strings.EqualFold(s, name) || strings.EqualFold(s, shown) }
	for d := range src.Status() {
		if same(d.Name) {
			return d, true
		}
		if !ok && slices.ContainsFunc(d.Names, same) {
			found, ok = d, true
		}
	}
	return found, ok
}

func writeJSONDomain(w io.Writer, d Domain) error { return encode(w, cleanDomain(d, true)) }

func writeJSON(w io.Writer, src Source) error {
	separator := "{\"domains\":[\n"
	for d := range src.Status() {
		if _, err := io.WriteString(w, separator); err != nil {
			return err
		}
		if err := encode(w, cleanDomain(d, false)); err != nil {
			return err
		}
		separator = ","
	}
	end := "]}\n"
	if separator != "," {
		end = separator + end
	}
	_, err := io.WriteString(w, end)
	return err
}

// encode writes d and a newline.
func encode(w io.Writer, d Domain) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // URLs stay readable; nosniff keeps it from being HTML
	return e.Encode(d)
}
