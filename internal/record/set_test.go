package record

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSetDecodesToWhatWasEncoded(t *testing.T) {
	for _, test := range []struct {
		name string
		set  *Set
	}{
		{"one credential", newSet(t, ecdsaType)},
		{"several credentials", newSet(t, rsaType, ecdsaType, otherType)},
		{"an order in progress", &Set{Credentials: []Credential{newCredential(t, ecdsaType), newOrder(t, rsaType)}}},
		{"a profile", &Set{Credentials: []Credential{{
			Meta: Meta{KeyType: ecdsaType, Profile: "shortlived", When: moment}, Key: pkcs8(t, newKey(t, ecdsaType))}}}},
		{"a moment elsewhere", &Set{Credentials: []Credential{{
			Meta: Meta{KeyType: ecdsaType, When: moment.In(time.FixedZone("", 5400))}, Key: pkcs8(t, newKey(t, ecdsaType))}}}},
		{"what another version knows", &Set{Credentials: []Credential{foreign(t, ecdsaType), foreign(t, rsaType)}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := encoded(t, test.set)
			got := decoded(t, data)
			if again := encoded(t, got); !bytes.Equal(again, data) {
				t.Fatalf("encoded again, it is\n%s\nwant\n%s", again, data)
			}
			if len(got.Credentials) != len(test.set.Credentials) {
				t.Fatalf("it has %d credentials, want %d", len(got.Credentials), len(test.set.Credentials))
			}
			for i := range got.Credentials {
				got, want := &got.Credentials[i], &test.set.Credentials[i]
				if !got.When.Equal(want.When) {
					t.Errorf("moment %v, want %v", got.When, want.When)
				}
				got.When = want.When
				if got.Meta != want.Meta || !bytes.Equal(got.Key, want.Key) || !reflect.DeepEqual(got.Chain, want.Chain) {
					t.Errorf("got %+v with %d certificates, want %+v with %d", got.Meta, len(got.Chain), want.Meta, len(want.Chain))
				}
			}
		})
	}
}

func TestSetIsBoundToItsBytes(t *testing.T) {
	data := encoded(t, &Set{Credentials: []Credential{foreign(t, ecdsaType), newOrder(t, otherType)}})
	t.Run("it is refused with any byte changed", func(t *testing.T) {
		for i := range data {
			for _, bit := range []int{i % 8, (i + 3) % 8} {
				data[i] ^= 1 << bit
				if _, err := DecodeSet(data); err == nil {
					t.Errorf("byte %d with bit %d changed is taken", i, bit)
				}
				data[i] ^= 1 << bit
			}
		}
	})
	t.Run("it is refused if cut short anywhere", func(t *testing.T) {
		for n := range len(data) {
			if _, err := DecodeSet(data[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are taken", n, len(data))
			}
		}
	})
	t.Run("it is refused with a byte more", func(t *testing.T) {
		for _, more := range []string{"\n", " ", "\x00", "-"} {
			if _, err := DecodeSet(append(slices.Clone(data), more...)); err == nil {
				t.Errorf("with %q behind it, it is taken", more)
			}
			if _, err := DecodeSet(append([]byte(more), data...)); err == nil {
				t.Errorf("with %q before it, it is taken", more)
			}
		}
	})
	t.Run("it is refused with another behind it", func(t *testing.T) {
		both := append(slices.Clone(encoded(t, newSet(t, ecdsaType))), encoded(t, newSet(t, otherType))...)
		if _, err := DecodeSet(both); err == nil {
			t.Error("two Sets are taken for one")
		}
	})
	t.Run("it is refused with Windows line ends", func(t *testing.T) {
		if _, err := DecodeSet(bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))); err == nil {
			t.Error("it is taken")
		}
	})
}

func TestDecodeSetSaysWhatIsWrong(t *testing.T) {
	good := string(encoded(t, newSet(t, ecdsaType)))
	_, behind, _ := strings.Cut(good, "-----END MD CREDENTIAL-----\n")
	block := func(blockType, content string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: []byte(content)}))
	}
	twice := newSet(t, ecdsaType, otherType)
	twice.Credentials[1].KeyType = ecdsaType
	many := new(Set)
	for i := range maxSections + 1 {
		many.Replace(Credential{Meta: Meta{KeyType: fmt.Sprint("type ", i)}, Key: []byte("key")})
	}
	long := newSet(t, ecdsaType)
	long.Credentials[0].Chain = slices.Repeat(long.Credentials[0].Chain, maxBlocks)
	for _, test := range []struct {
		name, data, want string
	}{
		{"nothing", "", "it is empty"},
		{"no PEM", "hello", "not PEM"},
		{"a key alone", behind, `begins with a block "PRIVATE KEY" instead of "MD CREDENTIAL"`},
		{"an unknown block first", block("SOMETHING", "x") + good, `begins with a block "SOMETHING"`},
		{"a block of a very long type", block(strings.Repeat("X", 1000), "x"), `begins with a block "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX" instead`},
		{"an account", block(accountType, "{}"), `begins with a block "MD ACCOUNT"`},
		{"metadata without a key", block(credentialType, `{"key-type":"P-256"}`), `private key of the "P-256" credential is missing`},
		{"metadata and a certificate", block(credentialType, "{}") + block(certificateType, "x"), `no block "PRIVATE KEY"`},
		{"metadata that is no JSON", block(credentialType, "{") + behind, "its metadata: unexpected end of JSON"},
		{"metadata that is no object", block(credentialType, "[]") + behind, "its metadata: json: cannot unmarshal array"},
		{"metadata that is null", block(credentialType, "null") + behind, "not as this program wrote it"},
		{"metadata of another type", block(credentialType, `{"order":7}`) + behind, "its metadata: json: cannot unmarshal number"},
		{"metadata without a hash", block(credentialType, `{"key-type":"P-256","when":"2026-11-21T10:30:00Z"}`) + behind, "not as this program wrote it"},
		{"metadata of another Set", good[:len(good)-len(behind)] + strings.Split(string(encoded(t, newSet(t, ecdsaType))), "-----END MD CREDENTIAL-----\n")[1], "its hash is another"},
		{"two credentials of one type", string(encoded(t, twice)), `two credentials of type "P-256"`},
		{"too many credentials", string(encoded(t, many)), `more than 16 blocks "MD CREDENTIAL"`},
		{"too many certificates", string(encoded(t, long)), "more than 256 PEM blocks"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := DecodeSet([]byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.want) || set != nil {
				t.Errorf("got %v, %v, want an error with %q", set, err, test.want)
			}
		})
	}
}

// What is hostile must not take long either: these are as long as a value can
// be.
func TestDecodeSetIsBounded(t *testing.T) {
	good := encoded(t, newSet(t, ecdsaType))
	for _, part := range []string{"-----BEGIN ", "-----BEGIN X-----\n", "-----BEGIN MD CREDENTIAL-----\n-----END MD CREDENTIAL-----\n",
		"-----BEGIN X-----\n-----END Y-----\n", "\n-----END", "A: b\n", "-----BEGIN X-----\nA: b\n", "\n"} {
		for _, before := range []string{"", string(good), "-----BEGIN MD CREDENTIAL-----\n"} {
			data := []byte(before + strings.Repeat(part, (1<<20-len(before))/len(part)))
			if _, err := DecodeSet(data); err == nil {
				t.Errorf("%.20q and then %q again and again is taken", before, part)
			}
		}
	}
	deep := pem.EncodeToMemory(&pem.Block{Type: credentialType, Bytes: []byte(`{"x":` + strings.Repeat("[", 700_000))})
	if _, err := DecodeSet(append(deep, good...)); err == nil {
		t.Error("very deep metadata is taken")
	}
}

func TestSetKeepsWhatItDoesNotKnow(t *testing.T) {
	set := decoded(t, encoded(t, &Set{Credentials: []Credential{foreign(t, ecdsaType), foreign(t, rsaType)}}))

	t.Run("when another credential is replaced", func(t *testing.T) {
		set := &Set{Credentials: slices.Clone(set.Credentials)}
		set.Replace(newCredential(t, rsaType))
		set.Replace(newCredential(t, otherType))
		got := decoded(t, encoded(t, set))
		checkForeign(t, got.Credential(ecdsaType))
		if c := got.Credential(rsaType); len(c.unknown) != 0 || len(c.Other) != 0 {
			t.Errorf("the replaced one still has %v and %v", c.unknown, c.Other)
		}
	})
	t.Run("when its own metadata changes", func(t *testing.T) {
		set := &Set{Credentials: slices.Clone(set.Credentials)}
		c := *set.Credential(rsaType)
		c.Order, c.Profile, c.When = "", "classic", moment.Add(time.Hour)
		set.Replace(c)
		got := decoded(t, encoded(t, set)).Credential(rsaType)
		checkForeign(t, got)
		if got.Order != "" || got.Profile != "classic" || !got.When.Equal(moment.Add(time.Hour)) {
			t.Errorf("the metadata is %+v", got.Meta)
		}
	})
	t.Run("unless this version comes to know it", func(t *testing.T) {
		c := newCredential(t, ecdsaType)
		c.Order = ""
		c.unknown = map[string]json.RawMessage{"order": json.RawMessage(`""`)}
		set := decoded(t, encoded(t, &Set{Credentials: []Credential{c}}))
		set.Credentials[0].Order = "https://ca.test/order/2"
		if got := decoded(t, encoded(t, set)).Credentials[0].Order; got != "https://ca.test/order/2" {
			t.Errorf("the order is %q", got)
		}
	})
}

func TestSetReplace(t *testing.T) {
	set := newSet(t, rsaType, ecdsaType)
	first := newCredential(t, rsaType)
	set.Replace(first)
	set.Replace(newCredential(t, otherType))
	var got []string
	for i := range set.Credentials {
		got = append(got, set.Credentials[i].KeyType)
	}
	if want := []string{rsaType, ecdsaType, otherType}; !slices.Equal(got, want) {
		t.Errorf("the key types are %q, want %q", got, want)
	}
	if !bytes.Equal(set.Credentials[0].Chain[0], first.Chain[0]) {
		t.Error("the first credential is still the former one")
	}
}

func TestSetIsCompleteWithAllItsCertificates(t *testing.T) {
	for _, test := range []struct {
		name string
		set  *Set
		want bool
	}{
		{"nothing", new(Set), false},
		{"a certificate", newSet(t, ecdsaType), true},
		{"two certificates", newSet(t, ecdsaType, otherType), true},
		{"an order", &Set{Credentials: []Credential{newOrder(t, ecdsaType)}}, false},
		{"a certificate and an order", &Set{Credentials: []Credential{newCredential(t, otherType), newOrder(t, ecdsaType)}}, false},
	} {
		if got := test.set.Complete(); got != test.want {
			t.Errorf("with %s it is complete: %v, want %v", test.name, got, test.want)
		}
	}
	if c := (*Set)(nil).Credential(ecdsaType); c != nil {
		t.Errorf("no Set has a credential: %v", c)
	}
}

func TestCredentialThatCannotBeUsed(t *testing.T) {
	good, other := newCredential(t, ecdsaType), newCredential(t, ecdsaType)
	ecdh, err := newKey(t, ecdsaType).(interface {
		ECDH() (*ecdh.PrivateKey, error)
	}).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := x509.MarshalPKCS8PrivateKey(ecdh)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		key        []byte
		chain      [][]byte
		want       string
		keyIsGood  bool
		leafIsGood bool
	}{
		{"good", good.Key, good.Chain, "", true, true},
		{"without its certificate", good.Key, nil, `the "P-256" certificate is missing`, true, false},
		{"with a certificate that is none", good.Key, [][]byte{[]byte("x")}, `the "P-256" certificate: x509: malformed`, true, false},
		{"with a key that is none", []byte("x"), good.Chain, `the private key of the "P-256" certificate: `, false, true},
		{"with a key of no bytes", nil, good.Chain, `the private key of the "P-256" certificate: `, false, true},
		{"with a key that is very long", make([]byte, maxKey+1), good.Chain, "it has 8193 bytes, more than 8192", false, true},
		{"with a key that may sign after all", exchange, good.Chain, "is not for the private key", true, true},
		{"with the key of another", other.Key, good.Chain, "is not for the private key", true, true},
		{"with the chain turned round", good.Key, [][]byte{good.Chain[1], good.Chain[0]}, "is not for the private key", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Credential{Meta: good.Meta, Key: test.key, Chain: test.chain}
			if _, err := c.Signer(); (err == nil) != test.keyIsGood {
				t.Errorf("Signer: %v, want it to work: %v", err, test.keyIsGood)
			}
			if _, err := c.Leaf(); (err == nil) != test.leafIsGood {
				t.Errorf("Leaf: %v, want it to work: %v", err, test.leafIsGood)
			}
			set := &Set{Credentials: []Credential{newCredential(t, rsaType), c}}
			_, err := decodeComplete(encoded(t, set))
			if test.want == "" && err == nil {
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || test.want == "" {
				t.Errorf("as a part of an active Set: %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzSet(f *testing.F) {
	f.Add(encoded(f, newSet(f, ecdsaType)))
	f.Add(encoded(f, newSet(f, ecdsaType, otherType)))
	f.Add(encoded(f, &Set{Credentials: []Credential{foreign(f, ecdsaType), newOrder(f, otherType)}}))
	f.Add(encoded(f, &Set{Credentials: []Credential{newReferred(f, ecdsaType), newCredential(f, otherType)}}))
	f.Add([]byte(""))
	f.Add([]byte("-----BEGIN MD CREDENTIAL-----\ne30=\n-----END MD CREDENTIAL-----\n-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := DecodeSet(data)
		if err != nil {
			return
		}
		if again := encoded(t, set); !bytes.Equal(again, data) {
			t.Errorf("encoded again, it is\n%s\nwant\n%s", again, data)
		}
		if len(set.Credentials) == 0 || len(set.Credentials) > maxSections {
			t.Errorf("it has %d credentials", len(set.Credentials))
		}
		for i := range set.Credentials {
			c := &set.Credentials[i]
			if set.Credential(c.KeyType) != c {
				t.Errorf("two credentials of type %q", c.KeyType)
			}
			if leaf, err := c.Leaf(); (leaf == nil) == (err == nil) {
				t.Errorf("leaf %v, error %v", leaf, err)
			}
			if key, err := c.Signer(); (key == nil) == (err == nil) {
				t.Errorf("a key: %v, error %v", key != nil, err)
			}
			if public, err := c.Public(); (public == nil) == (err == nil) {
				t.Errorf("public key %v, error %v", public, err)
			}
		}
		if _, err := decodeComplete(data); err == nil && !set.Complete() {
			t.Error("it can be active, but is not complete")
		}
	})
}

// FuzzMetadata gets behind the hash, which random changes do not.
func FuzzMetadata(f *testing.F) {
	f.Add(`{"key-type":"P-256","when":"2026-11-21T10:30:00Z"}`, "MD X", []byte("x"))
	f.Add(`{"key-type":"P-256","order":null,"when":"0001-01-01T00:00:00+01:30"}`, "CERTIFICATE", []byte{})
	f.Add(`{"KEY-TYPE":"a","key-type":"b","sha256":"c","SHA256":"d","\u003c":"<","when":"9999-12-31T23:59:59-23:59"}`, "PRIVATE KEY", []byte("y"))
	f.Fuzz(func(t *testing.T, meta, blockType string, content []byte) {
		var c Credential
		var err error
		if c.unknown, err = (rawSection{meta: json.RawMessage(meta)}).metadata(&c.Meta); err != nil {
			return
		}
		c.Key = content
		c.Other = []*pem.Block{{Type: blockType, Bytes: content}}
		data, err := (&Set{Credentials: []Credential{c}}).Encode()
		if err != nil {
			return
		}
		set, err := DecodeSet(data)
		if err != nil {
			return // such as a block type with a line end
		}
		if got := set.Credentials[0]; got.Meta.KeyType != c.KeyType || got.Order != c.Order || !got.When.Equal(c.When) {
			t.Errorf("got %+v, want %+v", got.Meta, c.Meta)
		}
		if again := encoded(t, set); !bytes.Equal(again, data) {
			t.Errorf("encoded again, it is\n%s\nwant\n%s", again, data)
		}
	})
}

func BenchmarkDecodeSet(b *testing.B) {
	data := encoded(b, newSet(b, ecdsaType))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeSet(data); err != nil {
			b.Fatal(err)
		}
	}
}
