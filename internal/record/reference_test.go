package record

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
)

// newReferred is a credential whose key is kept elsewhere.
func newReferred(t testing.TB, keyType string) Credential {
	t.Helper()
	c := newCredential(t, keyType)
	public, err := c.Public()
	if err != nil {
		t.Fatal(err)
	}
	if c.Reference, err = NewKeyReference("kms", "projects/p/keys/k/versions/1?<&>", public); err != nil {
		t.Fatal(err)
	}
	c.Key = nil
	return c
}

func TestKeyReferenceStandsForAKey(t *testing.T) {
	set := &Set{Credentials: []Credential{newReferred(t, rsaType), newCredential(t, otherType), newReferred(t, ecdsaType)}}
	data := encoded(t, set)
	if got := bytes.Count(data, []byte("-----BEGIN MD KEY REFERENCE-----\n")); got != 2 {
		t.Errorf("it has %d references, want 2:\n%s", got, data)
	}
	got, err := decodeComplete(data)
	if err != nil {
		t.Fatal(err)
	}
	if again := encoded(t, got); !bytes.Equal(again, data) {
		t.Errorf("encoded again, it is\n%s\nwant\n%s", again, data)
	}
	for i := range set.Credentials {
		want, got := &set.Credentials[i], &got.Credentials[i]
		if (want.Reference == nil) != (got.Reference == nil) || fmt.Sprint(want.Reference) != fmt.Sprint(got.Reference) {
			t.Fatalf("credential %d has the reference %v, want %v", i, got.Reference, want.Reference)
		}
		public, err := got.Public()
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := got.Leaf()
		if err != nil || !leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
			t.Errorf("credential %d has another public key than its leaf (%v)", i, err)
		}
		if got.Reference == nil {
			continue
		}
		if !got.Reference.Is(public) || got.Reference.Is(newKey(t, ecdsaType).Public()) || got.Reference.Is("no key") {
			t.Error("Is does not tell its public key from others")
		}
		if key, err := got.Signer(); key != nil || err == nil || !strings.Contains(err.Error(), `kept elsewhere: kms key "projects/p/keys/k/versions/1?<&>"`) {
			t.Errorf("Signer: %v, %v, want an error that names the key", key != nil, err)
		}
	}
}

func TestReferencesThatAreNotKept(t *testing.T) {
	public := newKey(t, ecdsaType).Public()
	for _, test := range []struct {
		name, provider, id string
		public             any
		want               string
	}{
		{"without provider", "", "id", public, "the provider of the key is empty"},
		{"without ID", "kms", "", public, "the ID of the key is empty"},
		{"with a long provider", strings.Repeat("k", 65), "id", public, "the provider of the key has 65 bytes, more than 64"},
		{"with a long ID", "kms", strings.Repeat("k", 2049), public, "the ID of the key has 2049 bytes, more than 2048"},
		{"with a line end", "kms", "a\nb", public, `the ID of the key has characters that cannot be printed: "a\nb"`},
		{"with what is no UTF-8", "kms", "a\xff", public, `cannot be printed: "a\xff"`},
		{"with a mark of direction", "k\u202ems", "id", public, "the provider of the key has characters that cannot be printed"},
		{"without a public key", "kms", "id", nil, "x509: unsupported public key type"},
		{"with a public key by value", "kms", "id", *public.(*ecdsa.PublicKey), "x509: unsupported public key type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := NewKeyReference(test.provider, test.id, test.public); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
}

func TestReferenceThatCannotBeRead(t *testing.T) {
	good := newReferred(t, ecdsaType)
	text, err := json.Marshal(good.Reference)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKIXPublicKey(newKey(t, ecdsaType).Public())
	if err != nil {
		t.Fatal(err)
	}
	exchange := []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00} // X25519, RFC 8410
	exchange = append(exchange, make([]byte, 32)...)
	with := func(change func(*KeyReference)) string {
		ref := *good.Reference
		change(&ref)
		text, err := json.Marshal(&ref)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, test := range []struct {
		name, text, want string
	}{
		{"good", string(text), ""},
		{"no JSON", "{", "the key reference of the \"P-256\" credential: unexpected end of JSON"},
		{"no object", "[]", "cannot unmarshal array"},
		{"null", "null", "the provider of the key is empty"},
		{"another type", `{"provider":7}`, "cannot unmarshal number"},
		{"no ID", with(func(r *KeyReference) { r.ID = "" }), "the ID of the key is empty"},
		{"a control character", with(func(r *KeyReference) { r.Provider = "a\x00" }), "cannot be printed"},
		{"no public key", with(func(r *KeyReference) { r.Public = nil }), "the public key is missing"},
		{"a public key that is none", with(func(r *KeyReference) { r.Public = []byte("x") }), `the public key of the "P-256" certificate (kms key "projects`},
		{"a public key that is very long", with(func(r *KeyReference) { r.Public = make([]byte, maxKey+1) }), "its public key has 8193 bytes, more than 8192"},
		{"the public key of another", with(func(r *KeyReference) { r.Public = other }), "is not for the private key that stands with it"},
		{"a public key that cannot sign", with(func(r *KeyReference) { r.Public = exchange }), "is not for the private key that stands with it"},
		{"an unknown field", strings.Replace(string(text), "{", `{"extra":1,`, 1), "its form or its hash is another"},
		{"other spelling", strings.Replace(string(text), `"provider"`, `"Provider"`, 1), "its form or its hash is another"},
		{"a blank", string(text) + " ", "its form or its hash is another"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good
			blocks := []*pem.Block{{Type: referenceType, Bytes: []byte(test.text)}}
			for _, der := range c.Chain {
				blocks = append(blocks, &pem.Block{Type: certificateType, Bytes: der})
			}
			data, err := encodeSections(credentialType, []section{{meta: c.Meta, blocks: blocks}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = decodeComplete(data)
			if test.want == "" && err == nil {
				return
			}
			if err == nil || test.want == "" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("as a part of an active Set: %v, want %q", err, test.want)
			}
		})
	}
	t.Run("with a key beside it", func(t *testing.T) {
		c := good
		c.Key = []byte("key")
		if _, err := (&Set{Credentials: []Credential{c}}).Encode(); err == nil || !strings.Contains(err.Error(), "both a private key and a reference") {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("that is empty", func(t *testing.T) {
		c := good
		c.Reference = new(KeyReference)
		if _, err := (&Set{Credentials: []Credential{c}}).Encode(); err == nil || !strings.Contains(err.Error(), "the provider of the key is empty") {
			t.Errorf("got error %v", err)
		}
	})
}

func FuzzKeyReference(f *testing.F) {
	ref := newReferred(f, ecdsaType).Reference
	text, err := ref.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"provider":"pkcs11","id":"pkcs11:token=t;object=o","public-key":"eA=="}`))
	f.Add([]byte(`{"provider":"\u003c","id":"\ud83d\ude00","public-key":"eA=="}`))
	f.Add([]byte(`{"provider":"a","PROVIDER":"b","id":"\ufffd","public-key":"e\nA=="}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		data, err := encodeSections(credentialType, []section{{meta: Meta{KeyType: ecdsaType}, blocks: []*pem.Block{{Type: referenceType, Bytes: text}}}})
		if err != nil {
			t.Fatal(err)
		}
		set, err := DecodeSet(data)
		if err != nil {
			return
		}
		if again := encoded(t, set); !bytes.Equal(again, data) {
			t.Errorf("encoded again, it is\n%s\nwant\n%s", again, data)
		}
		got := set.Credentials[0].Reference
		if err := got.check(); err != nil || strings.ContainsAny(got.String(), "\n\x00") {
			t.Errorf("it has %v, %v", got, err)
		}
		if _, err := set.Credentials[0].Public(); err == nil && len(got.Public) > maxKey {
			t.Errorf("its public key has %d bytes", len(got.Public))
		}
	})
}
