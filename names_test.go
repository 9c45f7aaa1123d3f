package md

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/store"
)

func TestNamesAre(t *testing.T) {
	for _, test := range []struct{ said, ascii, shown string }{
		{"example.com", "example.com", "example.com"},
		{"WWW.Example.COM.", "www.example.com", "www.example.com"},
		{"Bücher.example", "xn--bcher-kva.example", "bücher.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example", "bücher.example"},
		{"*.bücher.example", "*.xn--bcher-kva.example", "*.bücher.example"},
		{"faß.example", "xn--fa-hia.example", "faß.example"},
		{"例え。テスト", "xn--r8jz45g.xn--zckzah", "例え.テスト"},
		{"1and1.example", "1and1.example", "1and1.example"},
		{"1.example", "1.example", "1.example"},
		{"localhost", "localhost", "localhost"},
	} {
		ascii, err := asciiName(test.said)
		if err != nil {
			t.Errorf("%q: %v", test.said, err)
			continue
		}
		if ascii != test.ascii {
			t.Errorf("%q is %q in ASCII, want %q", test.said, ascii, test.ascii)
		}
		if got := unicodeName(ascii); got != test.shown {
			t.Errorf("%q is shown as %q, want %q", test.said, got, test.shown)
		}
	}
}

// What asciiName returns is a name of the form that goes to CAs, and is its
// own ASCII form; so two spellings are one name if they look the same there.
func FuzzASCIIName(f *testing.F) {
	for _, s := range []string{
		"example.com", "*.Example.com.", "bücher.example", "xn--bcher-kva.example", "xn--a", "*", "..", "a..b", "。",
		"１.2.3.4", "[::1]", "fe80::1%eth0", "a_b", "\u00ad", "a\u200db", "*.。", "a.\u3002", "0\xbc0", strings.Repeat("a.", 127) + "a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		ascii, err := asciiName(said)
		if err != nil {
			if ascii != "" {
				t.Errorf("%q: got %q with an error", said, ascii)
			}
			return
		}
		if isIP(ascii) {
			if again, err := asciiName(ascii); again != ascii || err != nil || unicodeName(ascii) != ascii {
				t.Errorf("%q: got the address %q, which is %q (%v) itself", said, ascii, again, err)
			}
			return
		}
		base := strings.TrimPrefix(ascii, "*.")
		if len(ascii) > 253 || base == "" {
			t.Errorf("%q: got %q, of %d bytes", said, ascii, len(ascii))
		}
		for label := range strings.SplitSeq(base, ".") {
			odd := func(c rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", c) }
			if label == "" || len(label) > 63 || strings.ContainsFunc(label, odd) {
				t.Errorf("%q: got %q, whose label %q is none", said, ascii, label)
			}
		}
		if isIP(base) {
			t.Errorf("%q: got the IP address %q", said, ascii)
		}
		if again, err := asciiName(ascii); again != ascii || err != nil {
			t.Errorf("%q: got %q, whose own ASCII form is %q (%v)", said, ascii, again, err)
		}
		if back, err := asciiName(unicodeName(ascii)); back != ascii || err != nil {
			t.Errorf("%q: got %q, shown as %q, which is %q (%v)", said, ascii, unicodeName(ascii), back, err)
		}
	})
}

func FuzzContactURL(f *testing.F) {
	for _, s := range []string{"a@a.example", "mailto:a@a.example", "MAILTO:a@a.example", "tel:+1", "a@b@c", "@", ":", "a..b@c", "x:\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		contact, err := contactURL(said)
		if err != nil {
			return
		}
		if !strings.Contains(contact, ":") || strings.ContainsAny(contact, " \n\x00") {
			t.Errorf("%q became %q, which is no URL", said, contact)
		}
		if again, err := contactURL(contact); again != contact || err != nil {
			t.Errorf("%q became %q, which becomes %q (%v)", said, contact, again, err)
		}
	})
}

// The Default fills what a Domain leaves zero, and nothing else.
func TestDefaultFills(t *testing.T) {
	ofDefault, ofManager, own := new(HTTP01), new(TLSALPN01), new(HTTP01)
	m := &Manager{
		Default: Domain{
			CAs: []CA{{URL: "https://default.example/directory"}}, Contacts: []string{"default@a.example"},
			KeyTypes: []KeyType{RSA2048, P384}, Challengers: []Challenger{ofDefault}, RenewWindow: Window{Percent: 20},
		},
		Challengers: []Challenger{ofManager},
		Store:       new(store.Memory),
	}
	said := Domain{
		Name: "b", Names: []string{"b.example", "B.example.", "ü.example"},
		CAs: []CA{{URL: "https://own.example/directory"}}, Contacts: []string{"own@a.example"},
		KeyTypes: []KeyType{"p521"}, Challengers: []Challenger{own}, RenewWindow: Window{Length: time.Hour},
	}
	defs, err := m.resolve([]Domain{{Names: []string{"a.example"}}, said}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkMeant(t, defs[0], &engine.Domain{
		Name: "a.example", Names: []string{"a.example"}, Shown: []string{"a.example"},
		CAs: []CA{{Name: "default.example", URL: "https://default.example/directory"}}, Contacts: []string{"mailto:default@a.example"},
		KeyTypes: []KeyType{RSA2048, P384}, Challengers: []Challenger{ofDefault}, RenewWindow: Window{Percent: 20},
	})
	checkMeant(t, defs[1], &engine.Domain{
		Name: "b", Names: []string{"b.example", "xn--tda.example"}, Shown: []string{"b.example", "ü.example"},
		CAs: []CA{{Name: "own.example", URL: "https://own.example/directory"}}, Contacts: []string{"mailto:own@a.example"},
		KeyTypes: []KeyType{P521}, Challengers: []Challenger{own}, RenewWindow: Window{Length: time.Hour},
	})
	if said.Names[1] != "B.example." || said.KeyTypes[0] != "p521" || said.Contacts[0] != "own@a.example" {
		t.Errorf("resolving has changed what was said: %+v", said)
	}
}

// What nobody says is Let's Encrypt, P-256, and the built-in challengers
// before the Manager's own.
func TestNothingSaidMeans(t *testing.T) {
	own := new(HTTP01)
	m := &Manager{Challengers: []Challenger{own}, Store: new(store.Memory)}
	defs, err := m.resolve([]Domain{{Names: []string{"a.example"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(defs[0].Challengers); got != 3 {
		t.Fatalf("got %d challengers, want 3", got)
	}
	_, first := defs[0].Challengers[0].(*TLSALPN01)
	_, second := defs[0].Challengers[1].(*HTTP01)
	if !first || !second {
		t.Errorf("the first challengers are %T and %T, want those for tls-alpn-01 and http-01", defs[0].Challengers[0], defs[0].Challengers[1])
	}
	want := *defs[0]
	want.CAs = []CA{{Name: "letsencrypt", URL: "https://acme-v02.api.letsencrypt.org/directory"}}
	want.Contacts, want.KeyTypes, want.RenewWindow = nil, []KeyType{P256}, Window{}
	want.Challengers = []Challenger{defs[0].Challengers[0], defs[0].Challengers[1], own}
	checkMeant(t, defs[0], &want)
}

func checkMeant(t *testing.T, got, want *engine.Domain) {
	t.Helper()
	same := func(field string, equal bool, got, want any) {
		t.Helper()
		if !equal {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	same("Name", got.Name == want.Name, got.Name, want.Name)
	same("Names", slices.Equal(got.Names, want.Names), got.Names, want.Names)
	same("Shown", slices.Equal(got.Shown, want.Shown), got.Shown, want.Shown)
	same("CAs", reflect.DeepEqual(got.CAs, want.CAs), got.CAs, want.CAs)
	same("Contacts", slices.Equal(got.Contacts, want.Contacts), got.Contacts, want.Contacts)
	same("KeyTypes", slices.Equal(got.KeyTypes, want.KeyTypes), got.KeyTypes, want.KeyTypes)
	same("Challengers", slices.Equal(got.Challengers, want.Challengers), got.Challengers, want.Challengers)
	same("RenewWindow", got.RenewWindow == want.RenewWindow, got.RenewWindow, want.RenewWindow)
}
