package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
)

// secretBytes is easily found in whatever is printed.
var secretBytes = []byte("SECRETsecretSECRETsecretSECRETse")

// leaks reports the form in which text tells the secret, if it does.
func leaks(text string) string {
	for name, form := range map[string]string{
		"plain":       string(secretBytes[:6]),
		"hex":         hex.EncodeToString(secretBytes[:4]),
		"upper hex":   strings.ToUpper(hex.EncodeToString(secretBytes[:4])),
		"spaced hex":  fmt.Sprintf("% x", secretBytes[:4]),
		"numbers":     strings.Trim(fmt.Sprint(secretBytes[:4]), "[]"),
		"source code": "0x53, 0x45",
		"octal":       strings.Trim(fmt.Sprintf("%o", secretBytes[:4]), "[]"),
		"binary":      strings.Trim(fmt.Sprintf("%b", secretBytes[:4]), "[]"),
		"base64":      base64.StdEncoding.EncodeToString(secretBytes)[:8],
		"unicode":     strings.Trim(fmt.Sprintf("%U", secretBytes[:4]), "[]"),
		"chars":       strings.Trim(fmt.Sprintf("%c", secretBytes[:4]), "[]"),
	} {
		if strings.Contains(text, form) {
			return name
		}
	}
	return ""
}

func TestSealKeyNeverPrints(t *testing.T) {
	k, err := store.SealKeyFrom(secretBytes)
	if err != nil {
		t.Fatal(err)
	}
	ring := keyring(t, k)
	type holder struct {
		Key    store.SealKey
		Ptr    *store.SealKey
		Keys   []store.SealKey
		Map    map[string]store.SealKey
		Any    any
		hidden store.SealKey // fmt does not ask its methods
		deep   *store.SealKey
	}
	h := holder{k, &k, []store.SealKey{k}, map[string]store.SealKey{"a": k}, k, k, &k}
	for name, v := range map[string]any{
		"a SealKey": k, "a pointer": &k, "a holder": h, "a pointer to a holder": &h, "a slice": h.Keys,
		"a Keyring": ring, "an Encrypted": store.Encrypted(new(store.Memory), ring), "a holder of the Keyring": struct{ r *store.Keyring }{ring},
		"an Encrypted that is held": struct{ s store.Store }{store.Encrypted(new(store.Memory), ring)},
	} {
		for _, flags := range []string{"", "+", "#", " ", "-40", "040", ".3", "+#"} {
			for verb := 'A'; verb <= 'z'; verb++ {
				got := fmt.Sprintf("%"+flags+string(verb), v)
				if form := leaks(got); form != "" {
					t.Errorf("%%%s%c of %s prints the key (%s): %s", flags, verb, name, form, got)
				}
			}
		}
		if form := leaks(fmt.Sprint(v) + fmt.Sprintln(v)); form != "" {
			t.Errorf("Print of %s prints the key (%s)", name, form)
		}
		text, err := json.Marshal(v)
		if form := leaks(string(text)); form != "" {
			t.Errorf("JSON of %s has the key (%s): %s, %v", name, form, text, err)
		}
		var out bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Error("a message", "key", v, slog.Group("group", "key", v))
		}
		if form := leaks(out.String()); form != "" {
			t.Errorf("slog of %s has the key (%s): %s", name, form, out.String())
		}
	}
	if got := fmt.Sprintf("%v %s %q %x %d %#v %t", k, k, k, k, k, k, k); got != strings.TrimSuffix(strings.Repeat("*** ", 7), " ") {
		t.Errorf("a SealKey prints as %s, want *** each time", got)
	}
	if text, err := json.Marshal(k); err != nil || string(text) != `"***"` {
		t.Errorf("JSON = %s, %v, want ***", text, err)
	}
	if text, err := k.MarshalText(); err != nil || string(text) != "***" {
		t.Errorf("MarshalText = %s, %v, want ***", text, err)
	}
	if got := k.LogValue().String() + k.String() + k.GoString(); got != "*********" {
		t.Errorf("LogValue, String and GoString = %s, want *** each", got)
	}
}

func TestParseSealKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(secretBytes)
	want, err := store.SealKeyFrom(secretBytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{text, text + "\n", "\t" + text + " \r\n", strings.TrimRight(text, "=")} {
		got, err := store.ParseSealKey(good)
		if err != nil || got.ID() != want.ID() || !bytes.Equal(got.Secret(), secretBytes) {
			t.Errorf("a good key is read as %q, error %v; want %q", got.ID(), err, want.ID())
		}
	}
	for name, bad := range map[string]string{
		"nothing":           "",
		"white space":       " \n",
		"too short":         base64.StdEncoding.EncodeToString(secretBytes[:31]),
		"too long":          base64.StdEncoding.EncodeToString(append(secretBytes[:32:32], 0)),
		"much too long":     strings.Repeat(text, 1000),
		"hex":               hex.EncodeToString(secretBytes),
		"a password":        "SECRETsecret!",
		"broken in the end": text[:len(text)-2] + "!=",
	} {
		got, err := store.ParseSealKey(bad)
		if err == nil || got != (store.SealKey{}) {
			t.Errorf("%s is read as %q, want an error", name, got.ID())
			continue
		}
		if strings.Contains(err.Error(), "SECRET") || leaks(err.Error()) != "" {
			t.Errorf("%s: the error tells the text: %v", name, err)
		}
	}
	if _, err := store.SealKeyFrom(secretBytes[:16]); err == nil {
		t.Error("16 bytes are taken for a key")
	}
}

func TestSealKeyIsItsOwner(t *testing.T) {
	given := bytes.Clone(secretBytes)
	k, err := store.SealKeyFrom(given)
	if err != nil {
		t.Fatal(err)
	}
	clear(given)
	clear(k.Secret())
	if !bytes.Equal(k.Secret(), secretBytes) {
		t.Error("a key changes with the bytes that it was made of, or that it returned")
	}
	a, b := store.NewSealKey(), store.NewSealKey()
	if a.ID() == b.ID() || bytes.Equal(a.Secret(), b.Secret()) || len(a.ID()) != 16 {
		t.Errorf("two random keys have the IDs %q and %q", a.ID(), b.ID())
	}
	var none store.SealKey
	if none.ID() != "" || none.Secret() != nil || none.String() != "***" {
		t.Errorf("the zero key has ID %q", none.ID())
	}
}

func TestKeyringTakesKeys(t *testing.T) {
	a, b := sealKey(t, 1), sealKey(t, 2)
	var many []store.SealKey
	for n := range byte(64) {
		many = append(many, sealKey(t, 10+n))
	}
	for name, test := range map[string]struct {
		newest store.SealKey
		older  []store.SealKey
		want   string
	}{
		"none":        {store.SealKey{}, nil, "key 1"},
		"none behind": {a, []store.SealKey{b, {}}, "key 3"},
		"one twice":   {a, []store.SealKey{b, sealKey(t, 1)}, "twice"},
		"too many":    {a, many, "65"},
	} {
		if _, err := store.NewKeyring(test.newest, test.older...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("NewKeyring with %s = error %v, want one with %q", name, err, test.want)
		}
		r := keyring(t, a)
		if err := r.Replace(test.newest, test.older...); err == nil || len(r.IDs()) != 1 {
			t.Errorf("Replace with %s = error %v, and keys %q remain", name, err, r.IDs())
		}
	}
	r := keyring(t, a, b)
	if got, want := r.String(), fmt.Sprintf("store.Keyring[%q %q]", a.ID(), b.ID()); got != want || r.GoString() != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
}
