package migrate

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/internal/record"
)

func TestDetect(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		want  Format
	}{
		"certbot":                   {[]string{"live/README", "archive/x/y", "renewal/x.conf", "accounts/x/y"}, Certbot},
		"certmagic":                 {[]string{"certificates/x/y/y.crt"}, Certmagic},
		"certmagic with an account": {[]string{"acme/x/users/y/y.key"}, Certmagic},
		"lego":                      {[]string{"certificates/x.crt", "accounts/x/y/account.json"}, Lego},
		"lego without certificates": {[]string{"accounts/x/y/account.json"}, Lego},
		"acme.sh":                   {[]string{"account.conf"}, AcmeSh},
		"acme.sh with an account":   {[]string{"ca/x/account.key"}, AcmeSh},
		"acme.sh, certificate only": {[]string{"deploy/x.sh", "example.com_ecc/fullchain.cer"}, AcmeSh},
		"autocert":                  {[]string{"acme_account+key", "example.com", "example.com+rsa"}, Autocert},
		"autocert without account":  {[]string{"example.com+rsa"}, Autocert},
		"PEM files":                 {[]string{"example.com", "a.pem"}, PEM},
		"PEM files of other names":  {[]string{"A.CRT"}, PEM},
		"no files":                  {nil, ""},
		"other files":               {[]string{"a b.txt", "x/y/z", ".hidden"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := make(map[string]string)
			for _, file := range test.files {
				files[file] = "x"
			}
			result, err := Read(t.Context(), tree(t, files), Options{})
			if test.want == "" {
				if !errors.Is(err, ErrUnknown) {
					t.Errorf("Read = error %v, want ErrUnknown", err)
				}
				return
			}
			if err != nil || result.Format != test.want {
				t.Errorf("Read = %+v, error %v; want the format %s", result, err, test.want)
			}
		})
	}
}

func TestReadWithoutAPlace(t *testing.T) {
	if _, err := Read(t.Context(), filepath.Join(t.TempDir(), "missing"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of a missing directory = error %v, want fs.ErrNotExist", err)
	}
	if _, err := Read(t.Context(), os.DevNull, Options{}); err == nil {
		t.Error("Read of a device succeeded")
	}
	if _, err := Read(t.Context(), t.TempDir(), Options{Format: "x"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("Read of an unknown format = error %v, want ErrUnknown", err)
	}
	for _, format := range []Format{Certbot, Certmagic, Autocert, Lego, AcmeSh, PEM} {
		result, err := Read(t.Context(), t.TempDir(), Options{Format: format})
		if err != nil || len(result.Report) != 0 {
			t.Errorf("Read of an empty directory as that of %s = %+v, error %v; want nothing", format, result, err)
		}
	}
}

// The present is the moment at which certificates must be valid.
func TestReadNow(t *testing.T) {
	key := ecKey(t)
	text := certPEM(leaf(t, key, []string{"example.com"}, lasting(-1))) + keyPEM(t, key)
	result, err := Read(t.Context(), tree(t, map[string]string{"a.pem": text}), Options{})
	if err != nil || len(result.Certificates) != 0 {
		t.Errorf("a certificate of the past is taken (%v)", err)
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	files, _, _ := certbotTree(t)
	place := tree(t, files)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, format := range []Format{"", Certbot, PEM} {
		if _, err := Read(ctx, place, Options{Format: format}); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = error %v, want %v", err, context.Canceled)
		}
	}
}

// TestReadIsBounded stops at each of the things that are opened: what ends
// reading is never taken for a file that is missing.
func TestReadIsBounded(t *testing.T) {
	certbot, _, _ := certbotTree(t)
	for format, files := range map[Format]map[string]string{
		Certbot:   certbot,
		Certmagic: {"certificates/x/y/y.crt": "x", "certificates/x/y/y.key": "x", "acme/x/users/y/y.key": "x", "acme/x/users/y/y.json": "x"},
		Lego:      {"certificates/x.crt": chain(t, ecKey(t), "a"), "certificates/x.key": "x", "accounts/x/y/account.json": "{}", "accounts/x/y/keys/y.key": "x"},
		AcmeSh:    {"x/fullchain.cer": "x", "x/x.key": "x", "ca/x/y/account.key": "x"},
		Autocert:  {"acme_account+key": "x", "example.com": "x"},
		PEM:       {"a.pem": "x", "b.pem": "x"},
	} {
		place := tree(t, files)
		for left := 0; ; left++ {
			d, only, err := openDir(t.Context(), place)
			if err != nil {
				t.Fatal(err)
			}
			d.left = left
			r := &reader{dir: d, only: only, opts: Options{Format: format, Now: now}, result: new(Result)}
			err = r.read()
			d.close()
			if err == nil {
				if left < 2 {
					t.Errorf("%s: all was read by opening %d things", format, left)
				}
				break
			}
			if !errors.Is(err, errTooMuch) {
				t.Fatalf("%s with %d things to open = error %v, want that it is too much", format, left, err)
			}
		}
	}
}

func TestReadIsBoundedInBytes(t *testing.T) {
	d, _, err := openDir(t.Context(), tree(t, map[string]string{"a.pem": "12345", "b.pem": "12345"}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	d.bytes = 9
	if data, err := d.read("a.pem"); err != nil || string(data) != "12345" {
		t.Errorf("read = %q, error %v", data, err)
	}
	if _, err := d.read("b.pem"); !errors.Is(err, errTooMuch) {
		t.Errorf("read of the tenth byte = error %v, want that it is too much", err)
	}
}

func TestReadTellsOfFilesThatAreTooLong(t *testing.T) {
	result := read(t, tree(t, map[string]string{"a.pem": strings.Repeat("x", maxFile+1), "b.pem": strings.Repeat("x", maxFile)}), PEM, Options{})
	wantReport(t, result, "certificate a.pem (): it is longer than 256 KiB")
}

func TestReadTellsOfFilesThatMayNotBeRead(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Skip("whoever runs this may read all files")
	}
	files, _, _ := certbotTree(t)
	place := tree(t, files)
	if err := os.Chmod(filepath.Join(place, "archive/example.com/privkey2.pem"), 0); err != nil {
		t.Fatal(err)
	}
	result := read(t, place, Certbot, Options{})
	if len(result.Certificates) != 0 || !strings.Contains(result.Report[1].Why, "no permission") {
		t.Errorf("the report is %+v", result.Report)
	}
}

func TestExplain(t *testing.T) {
	for want, err := range map[string]error{
		"there is no permission to read it: import as the user that it belongs to, or as root": &fs.PathError{Op: "openat", Path: "x", Err: fs.ErrPermission},
		`"x" is missing`:           &fs.PathError{Op: "openat", Path: "x", Err: fs.ErrNotExist},
		"it is missing":            fs.ErrNotExist,
		"path escapes from parent": &fs.PathError{Op: "openat", Path: "x", Err: errors.New("path escapes from parent")},
		"x":                        errors.New("x"),
	} {
		if got := explain(err); got != want {
			t.Errorf("explain(%v) = %q, want %q", err, got, want)
		}
	}
}

// Links that other tools than certbot do not make are not followed.
func TestReadFollowsNoLinks(t *testing.T) {
	outside := tree(t, map[string]string{"x.key": keyPEM(t, ecKey(t)), "dir/example.com.crt": "x"})
	place := tree(t, map[string]string{
		"certificates/example.com.crt": chain(t, ecKey(t), "example.com"),
		"certificates/example.com.key": "-> " + filepath.Join(outside, "x.key"),
		"accounts":                     "-> " + outside,
	})
	result := read(t, place, Lego, Options{})
	wantReport(t, result,
		"directory accounts (): it is not a directory",
		"certificate certificates/example.com.crt (): it is not a regular file")
}

// TestReadChangesNothing compares the directory before and after.
func TestReadChangesNothing(t *testing.T) {
	files, _, _ := certbotTree(t)
	place := tree(t, files)
	snapshot := func() string {
		var b strings.Builder
		err := filepath.WalkDir(place, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(&b, name, info.Mode(), info.Size(), info.ModTime().Format(time.RFC3339Nano))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	before := snapshot()
	read(t, place, Certbot, Options{})
	if after := snapshot(); after != before {
		t.Errorf("the directory was\n%sand is\n%s", before, after)
	}
}

// What is read prints no private key.
func TestResultPrintsNoKeys(t *testing.T) {
	files, key, account := certbotTree(t)
	result := read(t, tree(t, files), Certbot, Options{})
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		text := fmt.Sprintf(format, *result)
		for _, k := range []any{key, account} {
			if secret := fmt.Sprintf(format, k); len(secret) > 40 && strings.Contains(text, secret[20:40]) {
				t.Errorf("%s prints a key", format)
			}
		}
		if der := result.Certificates[0].Credential.Key; strings.Contains(text, fmt.Sprintf(format, der)[1:40]) {
			t.Errorf("%s prints a key", format)
		}
	}
}

func TestSets(t *testing.T) {
	found := func(path, keyType string, days int, names ...string) Found {
		f := Found{Path: path, Names: names, NotBefore: now, NotAfter: now.AddDate(0, 0, days)}
		f.Credential.KeyType, f.Credential.Order = keyType, path
		return f
	}
	all := []Found{
		found("1", "RSA-2048", 10, "a.test", "b.test"), found("2", "P-256", 10, "c.test"), found("3", "P-256", 20, "b.test", "a.test"),
		found("4", "P-256", 30, "a.test", "b.test"), found("5", "P-256", 25, "a.test", "b.test", "a.test"), found("6", "P-256", 90, "*.test"),
	}
	all = append(all, all[3])
	all[6].Path, all[6].Credential.Order, all[6].NotBefore = "7", "7", now.Add(time.Hour)
	paths := func(set record.Set) string {
		var list []string
		for _, c := range set.Credentials {
			list = append(list, c.Order)
		}
		return strings.Join(list, " ")
	}
	var got []string
	for _, named := range Sets(all) {
		got = append(got, strings.Join(named.Names, ",")+": "+paths(named.Set))
	}
	if want := "[a.test,b.test: 7 1 c.test: 2 *.test: 6]"; fmt.Sprint(got) != want {
		t.Errorf("Sets = %v, want %s", got, want)
	}
	for names, want := range map[string]string{
		"a.test": "6 1", "a.test b.test": "6 1", "c.test": "6", "x.test": "6", "*.test": "6", "x.y.test": "none", "test": "none", "a.test other": "none", "": "none", ".test": "none",
	} {
		got := "none"
		if set := For(strings.Fields(names), all); set != nil {
			got = paths(*set)
		}
		if got != want {
			t.Errorf("For(%q) = %s, want %s", names, got, want)
		}
	}
}

func TestChosen(t *testing.T) {
	account := func(path, ca, url string) Account {
		return Account{Path: path, CA: ca, Account: record.Account{URL: url}}
	}
	accounts := []Account{
		account("1", letsEncrypt, "https://x/1"), account("2", letsEncrypt, "https://x/2"), account("3", zeroSSL, ""), account("4", zeroSSL, ""), account("5", letsEncrypt, ""),
	}
	var found []Found
	for _, url := range []string{"https://x/2", "https://x/1", "https://x/2", "", "", ""} {
		found = append(found, Found{Credential: record.Credential{Meta: record.Meta{Account: url}}})
	}
	got := Chosen(accounts, found)
	if len(got) != 2 || got[letsEncrypt].Path != "2" || got[zeroSSL].Path != "3" {
		t.Errorf("Chosen = %+v, want the second and the third", got)
	}
}

// benchmarkTree holds n certificates as certmagic keeps them.
func benchmarkTree(b *testing.B, n int) string {
	b.Helper()
	key := curveKey(b, elliptic.P256())
	text, secret := chain(b, key, "example.com"), keyPEM(b, key)
	files := make(map[string]string)
	for i := range n {
		base := fmt.Sprintf("certificates/ca/h%d/h%d", i, i)
		files[base+".crt"], files[base+".key"], files[base+".json"] = text, secret, "{}"
	}
	return tree(b, files)
}

// BenchmarkRead reads a directory of a thousand certificates.
func BenchmarkRead(b *testing.B) {
	place := benchmarkTree(b, 1000)
	for b.Loop() {
		result, err := Read(b.Context(), place, Options{Now: now})
		if err != nil || len(result.Certificates) != 1000 {
			b.Fatalf("Read = error %v, want 1000 certificates", err)
		}
	}
}
