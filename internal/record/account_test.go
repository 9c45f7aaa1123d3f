package record

import (
	"bytes"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/manageddomains/md/store"
)

const directory = "https://ca.test/directory"

func newAccount(t testing.TB) *Account {
	t.Helper()
	a, err := NewAccount(newKey(t, ecdsaType))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func encodedAccount(t testing.TB, a *Account) []byte {
	t.Helper()
	data, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAccountIsReadAsWritten(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	key := newKey(t, ecdsaType)
	a, err := NewAccount(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Account(t.Context(), directory, DefaultAccount); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before it is written: %v, want fs.ErrNotExist", err)
	}
	v, err := r.PutAccount(t.Context(), directory, DefaultAccount, a, store.None)
	if err != nil {
		t.Fatal(err)
	}
	a.URL, a.Contacts = "https://ca.test/account/1", []string{"mailto:a@example.test"}
	a.unknown = map[string]json.RawMessage{"mood": json.RawMessage(`"good"`)}
	if v, err = r.PutAccount(t.Context(), directory, DefaultAccount, a, v); err != nil {
		t.Fatal(err)
	}
	got, version, err := r.Account(t.Context(), directory, DefaultAccount)
	if err != nil {
		t.Fatal(err)
	}
	if version != v {
		t.Errorf("version %q, want %q", version, v)
	}
	if !reflect.DeepEqual(got, a) {
		t.Errorf("got %v with contacts %q and %q, want %v", got, got.Contacts, got.unknown, a)
	}
	signer, err := got.Signer()
	if err != nil {
		t.Fatal(err)
	}
	if !signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
		t.Error("it has another key")
	}
	if _, err := r.PutAccount(t.Context(), directory, DefaultAccount, a, store.None); !errors.Is(err, store.ErrConflict) {
		t.Errorf("written again as if it were the first time: %v, want ErrConflict", err)
	}
}

// What cannot be read again is not written: the key would be lost.
func TestAccountThatCannotBeReadIsNotWritten(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	if v, err := r.PutAccount(t.Context(), directory, DefaultAccount, &Account{Key: []byte("x")}, store.None); err == nil {
		t.Errorf("it is written, as Version %q", v)
	}
	if got := contents(t, r.Store.(*store.Memory)); len(got) != 0 {
		t.Errorf("the Store has %q", got)
	}
	if a, err := NewAccount(opaque{newKey(t, ecdsaType)}); err == nil {
		t.Errorf("an account of a key that cannot be encoded: %v", a)
	}
}

// opaque is a key that does not show itself, as one in hardware.
type opaque struct{ crypto.Signer }

func TestDecodeAccountSaysWhatIsWrong(t *testing.T) {
	good := encodedAccount(t, newAccount(t))
	key := pem.EncodeToMemory(&pem.Block{Type: privateKeyType, Bytes: newAccount(t).Key})
	meta := func(text string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: accountType, Bytes: []byte(text)})
	}
	many := bytes.Repeat(meta("{}"), maxSections+1)
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not one account"},
		{"a key alone", key, `begins with a block "PRIVATE KEY"`},
		{"a Set", encoded(t, newSet(t, ecdsaType)), `begins with a block "MD CREDENTIAL"`},
		{"metadata alone", meta("{}"), "not one account with one private key"},
		{"two accounts", bytes.Repeat(good, 2), "not one account"},
		{"very many accounts", many, "more than 16 blocks"},
		{"two keys", append(bytes.Clone(good), key...), "not one account with one private key"},
		{"a certificate", append(meta("{}"), pem.EncodeToMemory(&pem.Block{Type: certificateType})...), "with one private key"},
		{"a URL that is a number", append(meta(`{"url":1}`), key...), "its metadata: json: cannot unmarshal number"},
		{"a key that is none", append(meta("{}"), pem.EncodeToMemory(&pem.Block{Type: privateKeyType, Bytes: []byte("x")})...), "the account key: "},
		{"no hash", append(meta("{}"), key...), "its hash is another"},
		{"something behind it", append(bytes.Clone(good), "\n"...), "not PEM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := DecodeAccount(test.data)
			if err == nil || !strings.Contains(err.Error(), test.want) || a != nil {
				t.Errorf("got %v, %v, want an error with %q", a, err, test.want)
			}
		})
	}
	t.Run("any byte changed or the end missing", func(t *testing.T) {
		for i := range good {
			if _, err := DecodeAccount(good[:i]); err == nil {
				t.Errorf("the first %d bytes are taken", i)
			}
			for _, bit := range []int{i % 8, (i + 3) % 8} {
				good[i] ^= 1 << bit
				if _, err := DecodeAccount(good); err == nil {
					t.Errorf("byte %d with bit %d changed is taken", i, bit)
				}
				good[i] ^= 1 << bit
			}
		}
	})
}

func FuzzAccount(f *testing.F) {
	a := newAccount(f)
	f.Add(encodedAccount(f, a))
	a.URL, a.Contacts = "https://ca.test/account/1", []string{"mailto:a@example.test"}
	a.unknown = map[string]json.RawMessage{"eab": json.RawMessage(`{"kid":"1"}`)}
	f.Add(encodedAccount(f, a))
	f.Add([]byte("-----BEGIN MD ACCOUNT-----\ne30=\n-----END MD ACCOUNT-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := DecodeAccount(data)
		if err != nil {
			return
		}
		if again := encodedAccount(t, a); !bytes.Equal(again, data) {
			t.Errorf("encoded again, it is\n%s\nwant\n%s", again, data)
		}
		if _, err := a.Signer(); err != nil {
			t.Errorf("it has no key: %v", err)
		}
	})
}
