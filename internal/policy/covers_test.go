package policy_test

import (
	"crypto/x509"
	"testing"

	"github.com/manageddomains/md/internal/policy"
)

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		name  string
		names []string
		host  string
		want  bool
	}{
		{"no names cover nothing", nil, "a.example", false},
		{"a name covers itself", []string{"b.example", "a.example"}, "a.example", true},
		{"a name covers itself in any case", []string{"A.exAMPLE"}, "a.Example", true},
		{"a name does not cover those below", []string{"a.example"}, "b.a.example", false},
		{"a name does not cover that above", []string{"b.a.example"}, "a.example", false},
		{"a wildcard covers one label", []string{"*.a.example"}, "b.a.example", true},
		{"a wildcard covers one label in any case", []string{"*.A.example"}, "b.a.EXAMPLE", true},
		{"a wildcard does not cover two labels", []string{"*.a.example"}, "c.b.a.example", false},
		{"a wildcard does not cover its parent", []string{"*.a.example"}, "a.example", false},
		{"a wildcard does not cover an empty label", []string{"*.a.example"}, ".a.example", false},
		{"a wildcard covers itself", []string{"*.a.example"}, "*.a.example", true},
		{"a wildcard does not cover one below", []string{"*.a.example"}, "*.b.a.example", false},
		{"a wildcard does not cover one above", []string{"*.a.example"}, "*.example", false},
		{"a wildcard does not cover one beside", []string{"*.example"}, "*.a.example", false},
		{"a part of a label is no wildcard", []string{"b*.a.example"}, "bc.a.example", false},
		{"a wildcard in the middle is none", []string{"b.*.example"}, "b.a.example", false},
		{"a bare star covers no single label", []string{"*", "*."}, "localhost", false},
		{"a single label covers itself", []string{"localhost"}, "localhost", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.Covers(test.names, test.host); got != test.want {
				t.Errorf("Covers(%q, %q) = %v, want %v", test.names, test.host, got, test.want)
			}
			verifier := &x509.Certificate{DNSNames: test.names}
			if got := verifier.VerifyHostname(test.host) == nil; got != test.want {
				t.Errorf("clients disagree: %v, want %v", got, test.want)
			}
		})
	}
}

// A Domain whose certificate clients accept must not be ordered again, and one
// whose certificate they refuse must.
func TestCoversAgreesWithClients(t *testing.T) {
	labels := []string{"a", "B", "*", "xn--bcher-kva", "_srv-1"}
	names := append([]string(nil), labels...)
	for range 2 {
		for _, name := range names {
			for _, label := range labels {
				names = append(names, label+"."+name)
			}
		}
	}
	for _, inside := range names {
		cert := &x509.Certificate{DNSNames: []string{inside}}
		for _, name := range names {
			got, want := policy.Covers(cert.DNSNames, name), cert.VerifyHostname(name) == nil
			if got != want {
				t.Errorf("Covers(%q, %q) = %v, want %v as clients have it", inside, name, got, want)
			}
		}
	}
}
