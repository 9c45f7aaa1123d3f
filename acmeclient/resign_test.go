package acmeclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"testing"
)

const orderURL = "https://ca.test/new-order"

// signed returns a request as x/crypto makes it.
func signed(t *testing.T, key crypto.Signer, url, payload string) []byte {
	t.Helper()
	alg, hash := jwsAlgorithm(key.Public())
	enc := base64.RawURLEncoding
	protected := enc.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"kid":"https://ca.test/account/1","nonce":"n","url":%q}`, alg, url))
	body := enc.EncodeToString([]byte(payload))
	sig, err := sign(key, hash, []byte(protected+"."+body))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(flatJWS{protected, body, enc.EncodeToString(sig)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verify checks a signature from RFC 7518, without the code under test.
func verify(t *testing.T, pub crypto.PublicKey, hash crypto.Hash, jws flatJWS) {
	t.Helper()
	sig, err := base64.RawURLEncoding.DecodeString(jws.Signature)
	if err != nil {
		t.Fatal(err)
	}
	h := hash.New()
	h.Write([]byte(jws.Protected + "." + jws.Payload))
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(pub, hash, h.Sum(nil), sig); err != nil {
			t.Error(err)
		}
	case *ecdsa.PublicKey:
		size := map[int]int{256: 32, 384: 48, 521: 66}[pub.Params().BitSize]
		if len(sig) != 2*size {
			t.Fatalf("got a signature of %d bytes, want %d", len(sig), 2*size)
		}
		if !ecdsa.Verify(pub, h.Sum(nil), new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])) {
			t.Error("the signature is wrong")
		}
	}
}

func TestResignAddsFieldsAndLeavesTheHeader(t *testing.T) {
	for typ, hash := range map[KeyType]crypto.Hash{P256: crypto.SHA256, P384: crypto.SHA384, P521: crypto.SHA512, RSA2048: crypto.SHA256} {
		t.Run("with "+string(typ), func(t *testing.T) {
			key := testKey(t, typ)
			before := signed(t, key, orderURL, `{"identifiers":[{"type":"dns","value":"a.example"}],"profile":"short"}`)
			for range 20 { // R or S with leading zeros come once in a while
				after, err := resign(before, key, orderURL, map[string]any{"replaces": "a.b"})
				if err != nil {
					t.Fatal(err)
				}
				var old, got flatJWS
				if err := json.Unmarshal(before, &old); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(after, &got); err != nil {
					t.Fatal(err)
				}
				if got.Protected != old.Protected {
					t.Errorf("got protected %q, want %q", got.Protected, old.Protected)
				}
				payload, _ := base64.RawURLEncoding.DecodeString(got.Payload)
				if want := `{"identifiers":[{"type":"dns","value":"a.example"}],"profile":"short","replaces":"a.b"}`; string(payload) != want {
					t.Errorf("got payload %s, want %s", payload, want)
				}
				verify(t, key.Public(), hash, got)
			}
		})
	}
}

func TestResignRefuses(t *testing.T) {
	key, other := testKey(t, P256), testKey(t, P384)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := signed(t, key, orderURL, `{}`)
	for _, test := range []struct {
		name string
		body []byte
		key  crypto.Signer
		want string
	}{
		{"what is signed for another URL", signed(t, key, "https://ca.test/key-change", `{}`), key, "signed for"},
		{"what is signed for no URL", signed(t, key, "", `{}`), key, "signed for"},
		{"what another kind of key has signed", good, other, "not with this account key"},
		{"a key that has no algorithm", good, p224, "not with this account key"},
		{"what is no JWS", []byte("order"), key, "cannot add"},
		{"a header that is no base64url", []byte(`{"protected":"%%"}`), key, "protected header"},
		{"a header that is no JSON", []byte(`{"protected":"AAAA"}`), key, "protected header"},
		{"POST-as-GET", signed(t, key, orderURL, ``), key, "payload"},
		{"a payload that is a list", signed(t, key, orderURL, `[]`), key, "payload"},
		{"a payload that is null", signed(t, key, orderURL, `null`), key, "payload"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := resign(test.body, test.key, orderURL, map[string]any{"replaces": "x"})
			wantText(t, err, test.want)
			if got != nil {
				t.Errorf("got %q with the error", got)
			}
		})
	}
}

// fixedSigner is a key that signs badly.
type fixedSigner struct {
	crypto.Signer
	signature []byte
}

func (s fixedSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return s.signature, nil
}

func TestSignRefusesWhatIsNoSignatureOfItsCurve(t *testing.T) {
	huge := append([]byte{0x30, 0x26, 0x02, 0x21, 0x7f}, bytes.Repeat([]byte{0xff}, 32)...)
	huge = append(huge, 0x02, 0x01, 0x01)
	for name, sig := range map[string][]byte{
		"garbage":       []byte("garbage"),
		"trailing data": {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x00},
		"zero":          {0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x01},
		"negative":      {0x30, 0x06, 0x02, 0x01, 0x81, 0x02, 0x01, 0x01},
		"too large":     huge,
	} {
		key := fixedSigner{testKey(t, P256), sig}
		if got, err := sign(key, crypto.SHA256, []byte("message")); err == nil {
			t.Errorf("%s: got %x, %v, want an error", name, got, err)
		}
	}
}
