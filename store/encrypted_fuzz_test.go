package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"testing"

	"github.com/manageddomains/md/store"
)

// sealedByVersion1 is "what was put" at domains/example.com, sealed with the
// first key of the tests.
const sealedByVersion1 = "bWQgc2VhbGVkIDEgZDg4NWE1OTM4ZTEwNDYwMgopxY2k1B5zjkRtdGh/tyVWtZgCGGrsK4yFcwZFmnBO8jLf93PA0Y+S"

// FuzzEncryptedOpens has an inner Store with any content: it opens to what was
// put there, or is an error that says so.
func FuzzEncryptedOpens(f *testing.F) {
	k := sealKey(f, 1)
	good, err := base64.StdEncoding.DecodeString(sealedByVersion1)
	if err != nil {
		f.Fatal(err)
	}
	line := "md sealed 1 " + k.ID() + "\n"
	for _, text := range []string{
		"", "{}", "md sealed ", "md sealed 1 ", "md sealed 2 " + k.ID() + "\n", line, line + "0123456789ab", line + "0123456789ab0123456789abcdef",
		"md sealed 1 0123456789abcdeF\n", "md sealed 1 ../../../../etc/p\n", "md sealed 1 0123456789abcdef\n" + string(make([]byte, 40)),
		string(good[:len(good)-1]), string(good) + "\n",
	} {
		f.Add([]byte(text), "domains/example.com")
	}
	f.Add(good, "domains/example.com")
	f.Add(good, "domains/example.org")
	ring := keyring(f, k, sealKey(f, 2))
	f.Fuzz(func(t *testing.T, raw []byte, key string) {
		s := store.Encrypted(fixed{new(store.Memory), raw}, ring)
		value, version, err := s.Get(context.Background(), key)
		if err == nil {
			if !bytes.Equal(raw, good) || key != "domains/example.com" || string(value) != "what was put" || version != "1" {
				t.Errorf("at %q, %q opens to %q", key, raw, value)
			}
			return
		}
		var e *store.SealError
		if !errors.As(err, &e) || errors.Is(err, fs.ErrNotExist) || value != nil || e.Version != "1" || e.Key != key {
			t.Errorf("at %q, %q opens to %q with error %v", key, raw, value, err)
		}
		if len(e.KeyID) != 0 && len(e.KeyID) != 16 {
			t.Errorf("the error names a key %q", e.KeyID)
		}
	})
}

// FuzzEncryptedKeeps puts anything anywhere.
func FuzzEncryptedKeeps(f *testing.F) {
	f.Add("a", []byte(nil))
	f.Add("domains/example.com", []byte("value"))
	f.Add("domains/*.example.com", []byte("md sealed 1 0123456789abcdef\n"))
	ring := keyring(f, sealKey(f, 1))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		inner := new(store.Memory)
		s := store.Encrypted(inner, ring)
		version, err := s.Put(context.Background(), key, value, store.None)
		if errors.Is(err, store.ErrKey) || errors.Is(err, store.ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got, gotVersion, err := s.Get(context.Background(), key)
		if err != nil || !bytes.Equal(got, value) || gotVersion != version {
			t.Errorf("Get(%q) = %q at %q, error %v; want %q at %q", key, got, gotVersion, err, value, version)
		}
	})
}

// BenchmarkEncrypted measures a Put and a Get of a Set's size.
func BenchmarkEncrypted(b *testing.B) {
	value := bytes.Repeat([]byte{'x'}, 6000)
	s := store.Encrypted(new(store.Memory), keyring(b, sealKey(b, 1)))
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Put(b.Context(), "domains/example.com", value, store.Any); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		if _, err := s.Put(b.Context(), "domains/example.com", value, store.Any); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := s.Get(b.Context(), "domains/example.com"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
