package acmeclient

import (
	"strings"
	"testing"
	"time"
)

// anEAB is a well-formed one.
func anEAB() EAB {
	return EAB{KeyID: "kid", HMAC: NewSecret(strings.Repeat("A", 44))}
}

func TestKnownCAsAreSound(t *testing.T) {
	names, urls := map[string]bool{}, map[string]bool{}
	for _, k := range KnownCAs() {
		t.Run(k.Name, func(t *testing.T) {
			for _, name := range append([]string{k.Name}, k.Aliases...) {
				if plain := plainName(name); names[plain] {
					t.Errorf("the name %s is there twice", name)
				} else {
					names[plain] = true
				}
			}
			if urls[k.URL] {
				t.Errorf("the URL %s is there twice", k.URL)
			}
			urls[k.URL] = true
			if u, err := parseDirectoryURL(k.URL, false); err != nil || u.String() != k.URL {
				t.Errorf("the URL %s: got %v, %v, want it unchanged", k.URL, u, err)
			}
			if k.Title == "" || len(k.CAAIdentities) == 0 || k.Limits.Check() != nil {
				t.Errorf("got %+v, which lacks something", k)
			}
			if k.NeedsEAB != (k.EABHelp != "") || k.SingleUseEAB && !k.NeedsEAB {
				t.Errorf("an EAB is needed: %v, single use: %v, where to get one: %q", k.NeedsEAB, k.SingleUseEAB, k.EABHelp)
			}
			if k.Validity != 0 && (k.Validity < 24*time.Hour || k.Validity > 200*24*time.Hour) {
				t.Errorf("got validity %v, which no CA may give", k.Validity)
			}
			if k.NoIPs && k.IPProfile != "" {
				t.Error("IP addresses are refused and have a profile")
			}
			if k.IPProfile != "" && k.Profiles[k.IPProfile] == 0 {
				t.Errorf("it is not known how long the profile %s lasts", k.IPProfile)
			}
			clear(k.Profiles) // a copy: the table stays as it is
			if again := knownByName(k.Name); again.IPProfile != "" && len(again.Profiles) == 0 {
				t.Error("the table has changed with what KnownCAs returned")
			}
			if k.Rehearsal == "" {
				return
			}
			test := knownByName(k.Rehearsal)
			if test == nil || test.Name != k.Rehearsal || test.Rehearsal != "" || test.NeedsEAB != k.NeedsEAB {
				t.Errorf("the test endpoint %s: got %v", k.Rehearsal, test)
			}
		})
	}
	for _, name := range []string{"letsencrypt", "letsencrypt-staging", "google", "google-staging", "zerossl", "sslcom-rsa", "sslcom-ecc", "actalis", "sectigo"} {
		if !names[plainName(name)] {
			t.Errorf("%s is not there", name)
		}
	}
}

func TestKnownCAsAreFoundByNameAndURL(t *testing.T) {
	for _, k := range KnownCAs() {
		eab := EAB{}
		if k.NeedsEAB {
			eab = anEAB()
		}
		for _, ca := range []CA{{Name: k.Name}, {Name: strings.ToUpper(k.Name)}, {URL: k.URL}, {Name: k.Name, URL: k.URL}, {Name: strings.ReplaceAll(k.Name, "-", "_")}} {
			ca.EAB = eab
			got, err := ca.Resolve()
			if err != nil {
				t.Errorf("%v: %v", ca, err)
				continue
			}
			if got.Name != k.Name || got.URL != k.URL {
				t.Errorf("%v: got %v, want %s %s", ca, got, k.Name, k.URL)
			}
			for _, c := range []CA{ca, got} {
				if row, ok := c.Known(); !ok || row.Name != k.Name {
					t.Errorf("%v: got %s, want %s", c, row.Name, k.Name)
				}
			}
			if again, err := got.Resolve(); err != nil || again != got {
				t.Errorf("%v: resolving again: got %v, %v", ca, again, err)
			}
		}
		for _, alias := range k.Aliases {
			if got, err := (CA{Name: alias, EAB: eab}).Resolve(); err != nil || got.Name != k.Name {
				t.Errorf("%s: got %v, %v, want %s", alias, got, err, k.Name)
			}
		}
	}
	for said, want := range map[string]string{"LetsEncrypt": "letsencrypt", "LetsEncrypt-Test": "letsencrypt-staging", "letsencrypt_test": "letsencrypt-staging",
		"GoogleTrust": "google", "SSLcomECC": "sslcom-ecc", "ZeroSSL": "zerossl"} {
		if got, err := (CA{Name: said, EAB: anEAB()}).Resolve(); err != nil || got.Name != want {
			t.Errorf("%s: got %v, %v, want %s", said, got, err, want)
		}
	}
	for _, ca := range []CA{{URL: "https://ca.example/"}, {Name: "nobody"}, {Name: "mine", URL: "https://ca.example/"}, {URL: ":"}, {Protocol: Tailscale}} {
		if got, ok := ca.Known(); ok {
			t.Errorf("%v: got %s, want none", ca, got.Name)
		}
	}
	if got, ok := (CA{}).Known(); !ok || got.Name != "letsencrypt" {
		t.Errorf("nothing: got %s, want letsencrypt", got.Name)
	}
}

func TestACAThatNeedsAnEABSaysWhereToGetOne(t *testing.T) {
	for _, k := range KnownCAs() {
		for _, ca := range []CA{{Name: k.Name}, {URL: k.URL}} {
			_, err := ca.Resolve()
			if !k.NeedsEAB {
				if err != nil {
					t.Errorf("%v: %v", ca, err)
				}
				continue
			}
			wantText(t, err, "needs an external account binding (EAB): "+k.EABHelp)
			wantText(t, err, "the CA "+k.Name)
		}
	}
	if _, err := (CA{Name: "google", EAB: EAB{File: "/not/read/yet"}}).Resolve(); err != nil {
		t.Errorf("with a file: %v", err)
	}
	_, err := CA{Name: "nobody"}.Resolve()
	for _, k := range KnownCAs() {
		wantText(t, err, k.Name)
	}
}

func TestRehearsal(t *testing.T) {
	other := EAB{KeyID: "test", HMAC: NewSecret(strings.Repeat("B", 44))}
	for _, test := range []struct {
		name string
		ca   CA
		want CA
		ok   bool
	}{
		{"of Let's Encrypt", CA{}, CA{Name: "letsencrypt-staging", URL: letsEncryptStagingURL}, true},
		{"keeps how to connect, and not what the CA allows", CA{URL: letsEncryptURL, Proxy: "none", Limits: Limits{Orders: Rate{Count: 1}}},
			CA{Name: "letsencrypt-staging", URL: letsEncryptStagingURL, Proxy: "none"}, true},
		{"has an EAB of its own", CA{Name: "google", EAB: anEAB(), RehearsalEAB: other},
			CA{Name: "google-staging", URL: "https://dv.acme-v02.test-api.pki.goog/directory", EAB: other}, true},
		{"of a test endpoint", CA{Name: "letsencrypt-test"}, CA{}, false},
		{"of a CA without one", CA{Name: "zerossl", EAB: anEAB()}, CA{}, false},
		{"of a CA that is not known", CA{URL: "https://ca.example/"}, CA{}, false},
		{"of a daemon", CA{Protocol: Tailscale}, CA{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := test.ca.Rehearsal()
			if got != test.want || ok != test.ok {
				t.Fatalf("got %v, %v, want %v, %v", got, ok, test.want, test.ok)
			}
			if !ok {
				return
			}
			if resolved, err := got.Resolve(); err != nil || resolved != got {
				t.Errorf("resolving it: got %v, %v, want no change", resolved, err)
			}
		})
	}
	got, ok := CA{Name: "google", EAB: anEAB()}.Rehearsal()
	if _, err := got.Resolve(); !ok || err == nil {
		t.Errorf("without an EAB for it: got %v, %v, %v, want one that Resolve refuses", got, ok, err)
	}
}
