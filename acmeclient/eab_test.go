package acmeclient

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/manageddomains/md/acmeclient/acmetest"
)

// eabKey has every kind of character in base64, and needs padding.
var eabKey = []byte{0xfb, 0xff, 0xbf, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 0xff}

func TestEABTakesEveryBase64(t *testing.T) {
	for name, enc := range map[string]*base64.Encoding{"base64url": base64.RawURLEncoding, "padded base64url": base64.URLEncoding,
		"base64": base64.StdEncoding, "base64 without padding": base64.RawStdEncoding} {
		for _, around := range []string{"", " ", "\n"} {
			got, err := EAB{KeyID: "kid", HMAC: NewSecret(around + enc.EncodeToString(eabKey) + around)}.binding()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got.KID != "kid" || !bytes.Equal(got.Key, eabKey) {
				t.Errorf("%s: got %q %x, want kid %x", name, got.KID, got.Key, eabKey)
			}
		}
	}
}

func TestEABThatCannotBe(t *testing.T) {
	good := NewSecret(base64.StdEncoding.EncodeToString(eabKey))
	for _, test := range []struct {
		name string
		eab  EAB
		want string
	}{
		{"an HMAC alone", EAB{HMAC: good}, "no KeyID"},
		{"a KeyID alone", EAB{KeyID: "kid"}, "no HMAC"},
		{"an HMAC of blanks", EAB{KeyID: "kid", HMAC: NewSecret(" \n")}, "no HMAC"},
		{"an HMAC that is not base64", EAB{KeyID: "kid", HMAC: NewSecret(leak + "!")}, "neither base64url nor base64"},
		{"an HMAC of an impossible length", EAB{KeyID: "kid", HMAC: NewSecret("AAAAA")}, "neither base64url nor base64"},
		{"an HMAC with too much padding", EAB{KeyID: "kid", HMAC: NewSecret(strings.Repeat("A", 41) + "===")}, "neither base64url nor base64"},
		{"padding in the middle", EAB{KeyID: "kid", HMAC: NewSecret("AAAA==" + strings.Repeat("A", 44))}, "neither base64url nor base64"},
		{"only padding", EAB{KeyID: "kid", HMAC: NewSecret("==")}, "0 bytes, too few"},
		{"a short HMAC", EAB{KeyID: "kid", HMAC: NewSecret("AAAA")}, "3 bytes, too few"},
		{"a very long HMAC", EAB{KeyID: "kid", HMAC: NewSecret(strings.Repeat("A", 5000))}, "more than 4096"},
		{"a KeyID with a line break", EAB{KeyID: "k\nid", HMAC: good}, "characters that cannot be meant"},
		{"a KeyID with a blank", EAB{KeyID: " kid", HMAC: good}, "characters that cannot be meant"},
		{"a KeyID that is not UTF-8", EAB{KeyID: "\xff", HMAC: good}, "characters that cannot be meant"},
		{"a very long KeyID", EAB{KeyID: strings.Repeat("k", 2000), HMAC: good}, "2000 bytes"},
		{"values and a file", EAB{KeyID: "kid", HMAC: good, File: "f"}, "leave one of them out"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := CA{URL: "https://ca.example/dir", EAB: test.eab}.Resolve()
			wantText(t, err, test.want)
			wantText(t, err, "ca.example")
			if err != nil && strings.Contains(err.Error(), leak) {
				t.Errorf("the error shows the HMAC: %v", err)
			}
			_, err = CA{URL: "https://ca.example/dir", RehearsalEAB: test.eab}.Resolve()
			wantText(t, err, "for rehearsals")
			if got, err := test.eab.binding(); err == nil {
				t.Errorf("got %v, want an error", got)
			}
		})
	}
	if got, err := (EAB{}).binding(); got != nil || err != nil {
		t.Errorf("the zero EAB: got %v, %v, want none", got, err)
	}
	if _, err := (EAB{File: "f"}).binding(); err == nil {
		t.Error("an unread File: got no error, want one")
	}
}

// eabFile writes a file for one test and returns its path.
func eabFile(t testing.TB, content string, mode fs.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "eab.json")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReadEABReadsTheFileOfModMD(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(eabKey)
	for _, mode := range []fs.FileMode{0o600, 0o400, 0o640, 0o440} {
		file := eabFile(t, `{"kid": "the-kid", "hmac": "`+text+`", "note": [1]}`+"\n", mode)
		ca, err := CA{Name: "zerossl", EAB: EAB{File: file}}.Resolve()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.AccountID(); err == nil {
			t.Error("the id of the account before the file is read: got no error, want one")
		}
		got, err := ca.ReadEAB(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := (EAB{KeyID: "the-kid", HMAC: NewSecret(text)}); got.EAB != want || got.Name != "zerossl" {
			t.Errorf("got %v %v, want %v", got, got.EAB, want)
		}
		again, err := got.ReadEAB(t.Context())
		if err != nil || again != got {
			t.Errorf("reading again: got %v, %v, want what was there", again, err)
		}
		if resolved, err := got.Resolve(); err != nil || resolved != got {
			t.Errorf("resolving: got %v, %v, want what was there", resolved, err)
		}
	}
}

func TestReadEABRefuses(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(eabKey)
	good := `{"kid": "k", "hmac": "` + text + `"}`
	for _, test := range []struct {
		name    string
		content string
		mode    fs.FileMode
		want    string
	}{
		{"what is not JSON", "kid " + text, 0o600, "is not JSON of the form"},
		{"an empty file", "", 0o600, "is not JSON of the form"},
		{"half a file", good[:len(good)-3], 0o600, "is not JSON of the form"},
		{"two documents", good + good, 0o600, "is not JSON of the form"},
		{"a list", "[" + good + "]", 0o600, "is not JSON of the form"},
		{"a number as kid", `{"kid": 7, "hmac": "` + text + `"}`, 0o600, "is not JSON of the form"},
		{"null", "null", 0o600, `has no "kid"`},
		{"no kid", `{"hmac": "` + text + `"}`, 0o600, `has no "kid"`},
		{"no hmac", `{"kid": "k"}`, 0o600, `has no "hmac"`},
		{"an HMAC that was masked", `{"kid": "k", "hmac": "***"}`, 0o600, "is not JSON of the form"},
		{"an HMAC that is not base64", `{"kid": "k", "hmac": "` + leak + `!"}`, 0o600, "neither base64url nor base64"},
		{"a large file", good + strings.Repeat(" ", maxEABFile), 0o600, "more than 65536"},
		{"a file that all may read", good, 0o644, "chmod 600"},
		{"a file that the group may write", good, 0o660, "chmod 600"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && test.mode != 0o600 {
				t.Skip("Windows has no such modes")
			}
			file := eabFile(t, test.content, test.mode)
			got, err := CA{EAB: EAB{File: file}}.ReadEAB(t.Context())
			wantText(t, err, test.want)
			wantText(t, err, file)
			if got != (CA{}) {
				t.Errorf("got %v with the error", got)
			}
			if err != nil && (strings.Contains(err.Error(), text) || strings.Contains(err.Error(), leak)) {
				t.Errorf("the error shows the HMAC: %v", err)
			}
		})
	}
	_, err := CA{EAB: EAB{File: filepath.Join(t.TempDir(), "none")}}.ReadEAB(t.Context())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v, want fs.ErrNotExist", err)
	}
	_, err = CA{EAB: EAB{File: t.TempDir()}}.ReadEAB(t.Context())
	wantText(t, err, "is not a file")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = (CA{EAB: EAB{File: "any"}}).ReadEAB(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestAccountIDTellsAccountsApart(t *testing.T) {
	hmac, other := NewSecret(base64.StdEncoding.EncodeToString(eabKey)), NewSecret(strings.Repeat("A", 44))
	key := testKey(t, P256)
	id := func(ca CA) string {
		t.Helper()
		got, err := ca.AccountID()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Trim(got, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(got) > 80 || strings.Trim(got, "-") != got {
			t.Errorf("got %q, which is not a component for every file system", got)
		}
		return got
	}
	if got := id(CA{}); got != "default" {
		t.Errorf("no EAB: got %q, want default", got)
	}
	seen := map[string]string{"default": "none"}
	for _, kid := range []string{"kid", "KID", "Kid", "kid-", "-kid", "default", "../../etc", "a/b", "a\\b", "con", ".", "%2f", "ключ", strings.Repeat("k", 500),
		strings.Repeat("k", 501), strings.Repeat("-", 40)} {
		got := id(CA{Name: "zerossl", EAB: EAB{KeyID: kid, HMAC: hmac}})
		if before, ok := seen[got]; ok {
			t.Errorf("%.20q and %.20q have the same id %s", kid, before, got)
		}
		seen[got] = kid
		if again := id(CA{Name: "mine", URL: "https://ca.example", EAB: EAB{KeyID: kid, HMAC: other}, Proxy: "none"}); again != got {
			t.Errorf("%.20q with another HMAC: got %q, want %q", kid, again, got)
		}
	}
	if got := id(CA{EAB: EAB{KeyID: "Kid_1", HMAC: hmac}}); !strings.HasPrefix(got, "eab-kid-1-") {
		t.Errorf("got %q, want one that begins with eab-kid-1-", got)
	}
	bare, bound := id(CA{AccountKey: key}), id(CA{AccountKey: key, EAB: EAB{KeyID: "kid", HMAC: hmac}})
	if bare != bound || !strings.HasPrefix(bare, "key-") {
		t.Errorf("an AccountKey with and without EAB: got %q and %q, want the same", bare, bound)
	}
	if got := id(CA{AccountKey: testKey(t, P384)}); got == bare {
		t.Errorf("another AccountKey: got the same id %q", got)
	}
	if _, err := (CA{AccountKey: testKey(t, P521)}).AccountID(); err == nil {
		t.Error("an AccountKey that cannot be used: got no error, want one")
	}
}

// losing is a way to a CA on which the reply to one POST is lost.
type losing struct {
	way  http.RoundTripper
	lost atomic.Bool
}

func (l *losing) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := l.way.RoundTrip(req)
	if err == nil && req.Method == http.MethodPost && l.lost.CompareAndSwap(false, true) {
		_ = res.Body.Close()
		return nil, errLost
	}
	return res, err
}

// A binding that makes one account is spent by a registration whose reply is lost, but the account is there: the CA finds it
// by its key, and wants no binding for that.
func TestABindingIsNotSpentTwice(t *testing.T) {
	ca := &acmetest.CA{ExternalAccounts: map[string][]byte{"kid-1": eabKey, "kid-2": eabKey}, ExternalAccountsOnce: true}
	defer ca.Close()
	base, err := New(CA{URL: ca.DirectoryURL()}, &http.Client{Transport: &losing{way: ca.Client().Transport}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	bound := func(kid string) *Client {
		t.Helper()
		eab := EAB{KeyID: kid, HMAC: NewSecret(base64.StdEncoding.EncodeToString(eabKey))}
		c, err := base.For(CA{URL: ca.DirectoryURL(), EAB: eab})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one, two := testKey(t, P256), testKey(t, P384)

	if _, err := base.Lookup(t.Context(), one); !errors.Is(err, errLost) { // the reply that is lost is not about an account
		t.Fatalf("got %v, want a lost reply", err)
	}
	if _, err := base.Lookup(t.Context(), one); !errors.Is(err, ErrNoAccount) {
		t.Errorf("before it is registered: got %v, want ErrNoAccount", err)
	}
	base.transport.base.(*losing).lost.Store(false)
	if _, err := bound("kid-1").Register(t.Context(), one, nil, true); !errors.Is(err, errLost) {
		t.Errorf("got %v, want a lost reply", err)
	}
	first, err := base.Lookup(t.Context(), one)
	if err != nil {
		t.Fatalf("after the reply was lost: %v", err)
	}
	if _, err := bound("kid-1").Register(t.Context(), two, nil, true); err == nil {
		t.Error("another key with a binding that was spent: got no error, want one")
	}
	second, err := bound("kid-2").Register(t.Context(), two, nil, true)
	if err != nil || second.URL == first.URL {
		t.Errorf("another binding: got %v, %v, want another account than %v", second, err, first)
	}
	if again, err := bound("kid-1").Lookup(t.Context(), one); err != nil || again.URL != first.URL {
		t.Errorf("going back: got %v, %v, want %v", again, err, first)
	}
}

func FuzzEAB(f *testing.F) {
	f.Add("kid", base64.StdEncoding.EncodeToString(eabKey))
	f.Add("", "====")
	f.Add("\x00", "-_+/")
	f.Fuzz(func(t *testing.T, kid, hmac string) {
		e := EAB{KeyID: kid, HMAC: NewSecret(hmac)}
		binding, err := e.binding()
		if err != nil || binding == nil {
			return
		}
		if len(binding.Key) < minHMAC || binding.KID != kid {
			t.Errorf("got %q and %d bytes of %q and %q", binding.KID, len(binding.Key), kid, hmac)
		}
		id, err := CA{EAB: e}.AccountID()
		if err != nil || len(id) > 80 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("got id %q, %v", id, err)
		}
	})
}
