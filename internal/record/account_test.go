package record

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
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
		{"a candidate alone", append(meta("{}"), pem.EncodeToMemory(&pem.Block{Type: candidateType, Bytes: newAccount(t).Key})...), "with one private key"},
		{"a key where there should be none", append(meta(`{"key-elsewhere":true}`), key...), "with one private key"},
		{"a candidate that is none", append(append(meta("{}"), key...), pem.EncodeToMemory(&pem.Block{Type: candidateType, Bytes: []byte("x")})...), "the candidate"},
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

func TestAccountWithoutKey(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	a := &Account{URL: "https://ca.test/account/1", KeyElsewhere: true}
	if _, err := r.PutAccount(t.Context(), directory, "key-1", a, store.None); err != nil {
		t.Fatal(err)
	}
	got, _, err := r.Account(t.Context(), directory, "key-1")
	if err != nil || !got.Equal(a) || !got.KeyElsewhere {
		t.Errorf("got %v, %v, want %v", got, err, a)
	}
	if key, err := got.Signer(); err == nil {
		t.Errorf("it has a key: %v", key)
	}
	if text := encodedAccount(t, a); bytes.Contains(text, []byte("PRIVATE KEY")) {
		t.Errorf("it is written with a key:\n%s", text)
	}
}

func TestAccountWithCandidate(t *testing.T) {
	r := &Records{Store: new(store.Memory)}
	a, candidate := newAccount(t), newKey(t, otherType)
	if key, err := a.CandidateSigner(); key != nil || err != nil {
		t.Errorf("without one: %v, %v", key, err)
	}
	if err := a.SetCandidate(opaque{candidate}); err == nil {
		t.Error("a key that cannot be encoded is taken")
	}
	if err := a.SetCandidate(candidate); err != nil {
		t.Fatal(err)
	}
	v, err := r.PutAccount(t.Context(), directory, DefaultAccount, a, store.None)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := r.Account(t.Context(), directory, DefaultAccount)
	if err != nil {
		t.Fatal(err)
	}
	if got.Promote(); got.Candidate != nil {
		t.Error("it still has a candidate")
	}
	if _, err := r.PutAccount(t.Context(), directory, DefaultAccount, got, v); err != nil {
		t.Fatal(err)
	}
	signer, err := got.Signer()
	if err != nil || !signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(candidate.Public()) {
		t.Errorf("its key is not the candidate, or %v", err)
	}
}

func TestAccountIsFoundByURL(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	put(t, memory, accountKey(directory, "broken"), []byte("junk"))
	for _, id := range []string{"one", "two"} {
		a := newAccount(t)
		a.URL = "https://ca.test/" + id
		if _, err := r.PutAccount(t.Context(), directory, id, a, store.None); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := r.AccountByURL(t.Context(), directory, "https://ca.test/two"); id != "two" || err != nil {
		t.Errorf("got %q, %v, want two", id, err)
	}
	if id, err := r.AccountByURL(t.Context(), directory, "https://ca.test/three"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %q, %v, want fs.ErrNotExist", id, err)
	}
	if id, err := r.AccountByURL(t.Context(), "https://other.test/", "https://ca.test/two"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("at another CA: got %q, %v, want fs.ErrNotExist", id, err)
	}
}

func TestFormerAccountsAreKept(t *testing.T) {
	memory := new(store.Memory)
	r := &Records{Store: memory}
	a := newAccount(t)
	for range 2 { // it may be repeated
		if err := r.KeepAccount(t.Context(), directory, DefaultAccount, a); err != nil {
			t.Fatal(err)
		}
	}
	all := contents(t, memory)
	if len(all) != 1 {
		t.Fatalf("the Store has %d values, want one", len(all))
	}
	for key, value := range all {
		if got, err := DecodeAccount([]byte(value)); err != nil || !got.Equal(a) || !strings.HasPrefix(key, "archive/") {
			t.Errorf("%s: got %v, %v, want the account", key, got, err)
		}
	}
}

func TestParseAccount(t *testing.T) {
	a := newAccount(t)
	a.URL, a.CA = "https://ca.test/account/1", directory
	whole := encodedAccount(t, a)
	ecKey := newKey(t, ecdsaType).(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := newKey(t, rsaType).(*rsa.PrivateKey)
	block := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	for _, test := range []struct {
		name string
		text []byte
		want string // of the error; empty: it is taken
	}{
		{"as it was written", whole, ""},
		{"with other ends of lines and space around", append([]byte("\r\n"), bytes.ReplaceAll(whole, []byte("\n"), []byte("\r\n"))...), ""},
		{"a private key", block(privateKeyType, a.Key), ""},
		{"an EC key", block("EC PRIVATE KEY", sec1), ""},
		{"an RSA key", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		{"nothing", nil, "not PEM"},
		{"no PEM", []byte("hello"), "not PEM"},
		{"a certificate", block(certificateType, []byte("x")), "neither an account nor a private key"},
		{"a key that is none", block(privateKeyType, []byte("x")), "asn1"},
		{"a key that is too long", block("RSA PRIVATE KEY", make([]byte, maxKey+1)), "more than"},
		{"a key with something behind it", append(block(privateKeyType, a.Key), whole...), "behind the private key"},
		{"the first half", whole[:len(whole)/2], "not"},
		{"an account without a key", encodedAccount(t, &Account{KeyElsewhere: true}), "not one account with one private key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseAccount(test.text)
			if test.want == "" {
				if err != nil {
					t.Errorf("got error %v, want an account", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
				t.Errorf("got %v, %v, want an error with %q", got, err, test.want)
			}
		})
	}
}

func FuzzParseAccount(f *testing.F) {
	a := newAccount(f)
	f.Add(encodedAccount(f, a))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: privateKeyType, Bytes: a.Key}))
	f.Add(bytes.ReplaceAll(encodedAccount(f, a), []byte("\n"), []byte("\r\n")))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAccount(text)
		if err != nil {
			return
		}
		if _, err := DecodeAccount(encodedAccount(t, a)); err != nil {
			t.Errorf("it cannot be read again: %v", err)
		}
	})
}

func FuzzAccount(f *testing.F) {
	a := newAccount(f)
	f.Add(encodedAccount(f, a))
	a.URL, a.Contacts = "https://ca.test/account/1", []string{"mailto:a@example.test"}
	a.unknown = map[string]json.RawMessage{"eab": json.RawMessage(`{"kid":"1"}`)}
	f.Add(encodedAccount(f, a))
	if err := a.SetCandidate(newKey(f, ecdsaType)); err != nil {
		f.Fatal(err)
	}
	f.Add(encodedAccount(f, a))
	f.Add(encodedAccount(f, &Account{KeyElsewhere: true}))
	f.Add([]byte("-----BEGIN MD ACCOUNT-----\ne30=\n-----END MD ACCOUNT-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := DecodeAccount(data)
		if err != nil {
			return
		}
		if again := encodedAccount(t, a); !bytes.Equal(again, data) {
			t.Errorf("encoded again, it is\n%s\nwant\n%s", again, data)
		}
		if _, err := a.Signer(); err != nil && !a.KeyElsewhere {
			t.Errorf("it has no key: %v", err)
		}
		if _, err := a.CandidateSigner(); err != nil {
			t.Errorf("its candidate is no key: %v", err)
		}
	})
}
