package acmeclient

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestLinks(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers []string
		want    []string
	}{
		{"one", []string{`<https://ca.test/1>;rel="alternate"`}, []string{"https://ca.test/1"}},
		{"without quotes, with spaces", []string{`<https://ca.test/1> ; rel = alternate`}, []string{"https://ca.test/1"}},
		{"in any case", []string{`<https://ca.test/1>; REL="Alternate"`}, []string{"https://ca.test/1"}},
		{"several headers", []string{`</1>;rel="alternate"`, `</dir>;rel="index"`, `</2>;rel="alternate"`}, []string{"/1", "/2"}},
		{"several in one", []string{`</1>;rel="alternate", </dir>;rel="index",</2>;title="a, b; c";rel=alternate`}, []string{"/1", "/2"}},
		{"several relations of one", []string{`</1>;rel="up alternate"`}, []string{"/1"}},
		{"the first rel of two", []string{`</1>;rel=up;rel=alternate`}, nil},
		{"commas in a target", []string{`</a,b;c>;rel=alternate`}, []string{"/a,b;c"}},
		{"no rel", []string{`</1>`, `</2>;title=x`, `</3>;`}, nil},
		{"another relation that begins so", []string{`</1>;rel="alternate-x"`, `</2>;rel="acme-optional-alternate"`}, nil},
		{"garbage", []string{`alternate`, `<`, `</1`, `;;,,`, `</1>;rel="alternate`, ``}, []string{"/1"}},
		{"garbage behind a good one", []string{`</1>;rel=alternate, what`}, []string{"/1"}},
		{"an end in the middle", []string{`</1>;rel`, `</1>;rel=`, `</1>;=`, `</1>;=alternate`}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"Link": test.headers}
			if got := links(h, "alternate"); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	many := http.Header{"Link": {strings.Repeat(`</1>;rel=alternate,`, 10*maxLinks)}}
	if got := len(links(many, "alternate")); got != maxLinks {
		t.Errorf("got %d links, want %d", got, maxLinks)
	}
}

func TestAlternatesAreURLs(t *testing.T) {
	r := &reply{url: "https://ca.test/cert/1", header: http.Header{"Link": {
		`<https://ca.test/cert/1/a>;rel="alternate"`, `<2>;rel="alternate"`, `</%zz>;rel="alternate"`, `<2>;rel="alternate"`,
		`<https://ca.test/cert/1>;rel="alternate"`, `<https://ca.test/` + strings.Repeat("a", maxURL) + `>;rel="alternate"`,
	}}}
	if got, want := r.alternates(), []string{"https://ca.test/cert/1/a", "https://ca.test/cert/2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (&reply{url: "%", header: r.header}).alternates(); got != nil {
		t.Errorf("got %q, want none", got)
	}
}

func FuzzLinks(f *testing.F) {
	f.Add(`</1>;rel="alternate", </2>; rel=x; title="y`)
	f.Add(`<a>;;=,"`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, target := range links(http.Header{"Link": {header}}, "alternate") {
			if !strings.Contains(header, "<"+target+">") {
				t.Errorf("got %q, which is not in %q", target, header)
			}
		}
	})
}
