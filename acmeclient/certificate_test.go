package acmeclient

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

func TestTheChainToAPreferredRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &acmetest.CA{Alternates: 2, ChainLength: 3}
		defer ca.Close()
		u := newUser(t, ca, "a.example")
		for _, test := range []struct {
			root, want string
			downloads  int
			warning    string
		}{
			{"", "acmetest root 1", 1, ""},
			{"acmetest root 1", "acmetest root 1", 1, ""},
			{" ACMETEST Root 2 ", "acmetest root 2", 2, ""},
			{"acmetest root 3", "acmetest root 3", 3, ""},
			{"Root X", "acmetest root 1", 3, `no chain leads to the root "Root X"; the CA's default chain is used, which leads to "acmetest root 1"; others lead to ["acmetest root 2" "acmetest root 3"]`},
		} {
			before := ca.Requests()["certificate"]
			u.order, u.root, u.warnings = "", test.root, nil
			chain, err := u.attempt(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := mustParse(t, chain[2]).Issuer.CommonName; got != test.want {
				t.Errorf("%q: got a chain to %q, want %q", test.root, got, test.want)
			}
			if got := ca.Requests()["certificate"] - before; got != test.downloads {
				t.Errorf("%q: got %d downloads, want %d", test.root, got, test.downloads)
			}
			if got := strings.Join(u.warnings, "\n"); got != test.warning {
				t.Errorf("%q: got warning %q, want %q", test.root, got, test.warning)
			}
		}
	})
}

func pemChain(chain ...[]byte) string {
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return string(text)
}

// alternateCA offers a chain to "default" and n alternates, of which handlers may be set by number.
func alternateCA(t *testing.T, n int) (f *fakeCA, leaf []byte, right string) {
	t.Helper()
	f = newFakeCA()
	issuer := newAuthority(t, "issuer", newAuthority(t, "default", nil, nil), nil)
	leaf = issuer.leaf(t, testKey(t, P256).Public(), nil)
	var headers []string
	for i := range n {
		headers = append(headers, fmt.Sprintf(`Link: </alt/%d>;rel="alternate"`, i))
	}
	f.mux.HandleFunc("/cert", answer(200, pemChain(leaf, issuer.der), headers...))
	wanted := newAuthority(t, "issuer", newAuthority(t, "wanted", nil, nil), nil)
	return f, leaf, pemChain(leaf, wanted.der)
}

func TestAlternateChainsThatAreOfNoUse(t *testing.T) {
	order := &Order{Status: StatusValid, Certificate: fakeBase + "/cert"}
	other := newAuthority(t, "other", nil, nil)
	strange := pemChain(other.leaf(t, testKey(t, P256).Public(), nil), other.der)
	for _, test := range []struct {
		name     string
		first    reading // of two alternates, of which the second is right
		found    bool
		warnings []string
	}{
		{"are lost", reading{}, true, nil},
		{"are not there", reading{404, problemBody("malformed", "gone"), nil}, true, nil},
		{"are no chains", reading{200, "<html>", nil}, true, nil},
		{"are for another certificate", reading{200, strange, nil}, true, nil},
		{"are for another certificate, and nothing else is found", reading{200, strange, nil}, false, []string{"for another certificate", "no chain leads to"}},
		{"are limited: the CA is left in peace", reading{429, problemBody("rateLimited", "slow down"), nil}, false, []string{"slow down", "no chain leads to"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, leaf, right := alternateCA(t, 2)
				f.mux.HandleFunc("/alt/0", answers(test.first))
				if test.found {
					f.mux.HandleFunc("/alt/1", answer(200, right))
				} else {
					f.mux.HandleFunc("/alt/1", answer(200, strange))
				}
				chain, warnings, err := f.session(t).ChainTo(t.Context(), order, "wanted")
				if err != nil || string(chain[0]) != string(leaf) {
					t.Fatalf("got %v, want the certificate", err)
				}
				if got := rootOf(chain) == "wanted"; got != test.found {
					t.Errorf("got a chain to %q", rootOf(chain))
				}
				if test.warnings != nil {
					for _, want := range test.warnings {
						if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, want) }) {
							t.Errorf("got warnings %q, want %q", warnings, want)
						}
					}
				} else if len(warnings) > 0 {
					t.Errorf("got warnings %q, want none about a chain that is not used", warnings)
				}
			})
		})
	}
}

func TestNoMoreThanEightAlternatesAreFollowed(t *testing.T) {
	f, _, right := alternateCA(t, 12)
	issuer := newAuthority(t, "issuer", nil, nil)
	f.mux.HandleFunc("/alt/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/8") {
			answer(200, right)(w, r)
			return
		}
		answer(200, pemChain(issuer.der))(w, r)
	})
	chain, warnings, err := f.session(t).ChainTo(t.Context(), &Order{Certificate: fakeBase + "/cert"}, "wanted")
	if err != nil || rootOf(chain) != "default" {
		t.Errorf("got a chain to %q, %v, want the default one", rootOf(chain), err)
	}
	if got := len(f.trace()) - 3; got != maxAlternates { // the directory, a nonce, the default chain
		t.Errorf("got %d alternates followed, want %d: %q", got, maxAlternates, f.trace())
	}
	if got := warnings[len(warnings)-1]; !strings.Contains(got, "only 8 of 12") {
		t.Errorf("got warning %q, want that not all were looked at", got)
	}
}

func TestACancelledSearchForAlternatesIsAnError(t *testing.T) {
	f, _, _ := alternateCA(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	f.mux.HandleFunc("/alt/0", func(http.ResponseWriter, *http.Request) { cancel(); panic(errLost) })
	_, _, err := f.session(t).ChainTo(ctx, &Order{Certificate: fakeBase + "/cert"}, "wanted")
	wantProblem(t, err)
	wantText(t, err, context.Canceled.Error())
}

func TestAChainThatBreaksOffIsNotUsedWhenTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCA()
		f.mux.HandleFunc("/cert", answer(200, pemChain([]byte("leaf"))+"-----BEGIN CERTIFICATE"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		chain, _, err := f.session(t).Certificate(ctx, &Order{Status: StatusValid, Certificate: fakeBase + "/cert"})
		if wantProblem(t, err); !errors.Is(err, context.Canceled) || chain != nil {
			t.Errorf("got %d certificates, %v, want context.Canceled: the next attempt may get all", len(chain), err)
		}
	})
}

func TestTheRootOfAChain(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	issuer := newAuthority(t, "issuer", root, nil)
	foreign := newAuthority(t, "foreign", nil, nil)
	leaf := issuer.leaf(t, testKey(t, P256).Public(), nil)
	for want, chain := range map[string][][]byte{
		"":       {[]byte("garbage")},
		"issuer": {leaf},
		"root":   {leaf, issuer.der, foreign.der},
	} {
		if got := rootOf(chain); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := rootOf([][]byte{leaf, foreign.der, issuer.der, []byte("x"), root.der}); got != "root" {
		t.Errorf("with the root in it: got %q, want root", got)
	}
}
