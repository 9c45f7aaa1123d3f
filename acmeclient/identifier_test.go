package acmeclient

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestIdentifiers(t *testing.T) {
	for _, test := range []struct {
		name       string
		given, got []string
	}{
		{"nothing", nil, nil},
		{"names as they are", []string{"b.example", "a.example"}, []string{"b.example", "a.example"}},
		{"doubles once, in any case", []string{"A.example", "a.EXAMPLE", "*.A.example", "*.a.example"}, []string{"a.example", "*.a.example"}},
		{"what a wildcard covers, wherever that is", []string{"x.a.example", "*.a.example", "y.a.example", "Z.A.example"}, []string{"*.a.example"}},
		{"not the wildcard's own parent", []string{"a.example", "*.a.example"}, []string{"a.example", "*.a.example"}},
		{"not two labels below a wildcard", []string{"x.y.a.example", "*.a.example"}, []string{"x.y.a.example", "*.a.example"}},
		{"not a wildcard below a wildcard", []string{"*.x.a.example", "*.a.example"}, []string{"*.x.a.example", "*.a.example"}},
		{"addresses in one form", []string{"2001:DB8:0::1", "2001:db8::1", "::ffff:192.0.2.1", "192.0.2.1"}, []string{"2001:db8::1", "192.0.2.1"}},
		{"no address by a wildcard", []string{"192.0.2.1", "*.0.2.1"}, []string{"192.0.2.1", "*.0.2.1"}},
		{"an address with a zone as it is", []string{"fe80::1%eth0"}, []string{"fe80::1%eth0"}},
		{"odd ones as they are", []string{"", ".", ".a.example", "*", "*.", "*.a.example"}, []string{"", ".", ".a.example", "*", "*.", "*.a.example"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := slices.Clone(test.given)
			got := Identifiers(test.given)
			if !slices.Equal(got, test.got) {
				t.Errorf("got %q, want %q", got, test.got)
			}
			if !slices.Equal(test.given, before) {
				t.Errorf("the argument has become %q", test.given)
			}
		})
	}
}

func TestAddressesWithZonesAreRefused(t *testing.T) {
	f := newFakeCA()
	_, err := f.session(t).NewOrder(t.Context(), OrderRequest{Names: []string{"a.example", "fe80::1%eth0"}})
	wantText(t, err, `"fe80::1%eth0" has a zone`)
	wantProblem(t, err)
	_, err = CSR(testKey(t, P256), []string{"fe80::1%eth0"})
	wantText(t, err, "has a zone")
	if got := f.count("POST /new-order"); got != 0 {
		t.Errorf("got %d requests, want none", got)
	}
}

// FuzzIdentifiers checks that what is left covers all that was given, and that nothing is left to leave out.
func FuzzIdentifiers(f *testing.F) {
	f.Add("a.example", "*.example", "x.a.example")
	f.Add("192.0.2.1", "*.0.2.1", "::1")
	f.Add("", "*.", ".")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		names := []string{a, b, c}
		ids := Identifiers(names)
		for _, name := range names {
			name = canonicalIdentifier(name)
			if !slices.Contains(ids, name) && !slices.Contains(ids, wildcardFor(name)) {
				t.Errorf("%q is not covered by %q", name, ids)
			}
		}
		if again := Identifiers(ids); !slices.Equal(again, ids) {
			t.Errorf("got %q of %q, want the same", again, ids)
		}
		for _, id := range ids {
			if addr, err := netip.ParseAddr(id); err == nil && addr.Zone() == "" && addr.Unmap().String() != id {
				t.Errorf("the address %q is not in its own form", id)
			}
			if _, err := netip.ParseAddr(id); err != nil && strings.ToLower(id) != id {
				t.Errorf("%q is not in lower case", id)
			}
		}
	})
}

func TestAuthorizationsHaveNamesInOneForm(t *testing.T) {
	f := newFakeCA()
	for sent, want := range map[string]string{"2001:DB8:0::1": "2001:db8::1", "A.Example": "a.example"} {
		f.mux.HandleFunc("/authz/"+want, answer(200, `{"status": "pending", "identifier": {"value": "`+sent+`"}}`))
		a, err := f.session(t).Authorization(t.Context(), fakeBase+"/authz/"+want)
		if err != nil || a.Name != want {
			t.Errorf("got %+v, %v, want the name %q", a, err, want)
		}
	}
}
