package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/manageddomains/md/store"
)

// oddKeys are keys that a Store must take and that some file system,
// database or URL would not. No two may be taken for the same.
var oddKeys = []string{
	".", "..", "...", "dots/./.", "dots/../..", "odd/..", "odd/.", "odd/.hidden", "odd/trailing.", "odd/trailing..", "odd/trailing ",
	"odd/ leading", "odd/ ", "odd/*.example.com", "odd/_.example.com", "odd/example.com",
	"odd/EXAMPLE.com", "odd/Example.com", "odd/con", "odd/CON", "odd/Con", "odd/con.", "odd/nul.txt", "odd/aux.a.b", "odd/com1", "odd/lpt9.log",
	"odd/conin$", "odd/clock$", "con/prn/nul", "odd/%", "odd/%%", "odd/%2a", "odd/%2A", "odd/%2a.example.com", "odd/%00", "odd/+", "odd/a+",
	"odd/a b", "odd/a:b", "odd/a:b:$DATA", `odd/a\b`, `odd/..\..\b`, `odd/\\host\share`, "odd/c:", `odd/a"b`, "odd/a'b", "odd/a<b>c", "odd/a|b", "odd/a?b", "odd/a&b", "odd/a;b", "odd/$(id)", "odd/`id`",
	"odd/~", "odd/~root", "odd/-rf", "odd/--", "odd/#x", "odd/a~1", "odd/progra~1",
	"odd/\u00e9", "odd/e\u0301", "odd/\u00c9", "odd/ß", "odd/ss", "odd/ſ", "odd/s", "odd/İ", "odd/ı", "odd/i", "odd/I", "odd/K", "odd/\u212a", "odd/k",
	"odd/日本", "odd/\u200b", "odd/\ufeff", "odd/\u202e", "odd/\ufffd", "odd/\U0001f512", "odd/a\u2028b", "odd/a\u00a0b",
	"odd/NULL", "odd/null", "odd/0", "odd/00", "odd/1e3", "odd/1000", "odd/true", "odd/_", "odd/__", "odd/a_b", "odd/a%b", "odd/a%",
	"odd/.md", ".md/lock", ".git/config", "odd/Thumbs.db", "odd/.DS_Store", "odd/a.tmp", "odd/a.lock", "odd/a~", "odd/.a.swp",
	"long/" + strings.Repeat("a", 255), "long/" + strings.Repeat("A", 255), "long/" + strings.Repeat("a", 254), "long/" + strings.Repeat(".", 255), "long/" + strings.Repeat("a", 60),
	"long/" + strings.Repeat("a", 181), "long/" + strings.Repeat("a", 180) + "b", "long/" + strings.Repeat("日", 85), "long/" + strings.Repeat(" ", 61), "long/" + strings.Repeat("*", 60), "long/" + strings.Repeat("a", 100) + "b",
	strings.Repeat("long/", 204) + "long", strings.Repeat(strings.Repeat("Ü", 127)+"/", 4) + "abcd", // both have MaxKey bytes
	strings.Repeat("d/", 511) + "e", // as deep as MaxKey allows
}

var badKeys = []string{
	"", "/", "a/", "/a", "a//b", "//", "a/b/", "\x00", "a\x00b", "a\nb", "a\tb", "a\x7fb", "a\x1fb", "\xff", "a/\xc3", "\xed\xa0\x80",
	strings.Repeat("a", 256), "a/" + strings.Repeat("a", 256), strings.Repeat("abc/", 256) + "d",
}

var badPrefixes = []string{"a", "/", "//", "a//", "/a/", "a/b", "\x00/", "\xff/", strings.Repeat("a", 256) + "/"}

func takesAnyKey(ctx context.Context, s store.Store, v Values) error {
	oddKeys := slices.DeleteFunc(slices.Clone(oddKeys), func(key string) bool {
		return v.MaxKey > 0 && len(key) > v.MaxKey
	})
	versions := make([]store.Version, len(oddKeys))
	for i, key := range oddKeys {
		if err := store.CheckKey(key); err != nil {
			return fmt.Errorf("storetest itself is wrong: %w", err)
		}
		var err error
		if versions[i], err = put(ctx, s, key, v.value(key, i), store.None); err != nil {
			return err
		}
	}
	for i, key := range oddKeys {
		if err := expect(ctx, s, key, v.value(key, i), versions[i]); err != nil {
			return err
		}
	}
	if err := expectList(ctx, s, "", oddKeys); err != nil {
		return err
	}
	for i, key := range oddKeys {
		if err := s.Delete(ctx, key, versions[i]); err != nil {
			return fmt.Errorf("Delete(%q): %w", key, err)
		}
	}
	return expectList(ctx, s, "", nil)
}

func refusesBadKeys(ctx context.Context, s store.Store, v Values) error {
	for _, key := range badKeys {
		_, _, getErr := s.Get(ctx, key)
		_, putErr := s.Put(ctx, key, v.value(v.keys()[0], 0), store.Any)
		err := errors.Join(
			expectErr(fmt.Sprintf("Get(%.40q)", key), getErr, store.ErrKey),
			expectErr(fmt.Sprintf("Put(%.40q)", key), putErr, store.ErrKey),
			expectErr(fmt.Sprintf("Delete(%.40q)", key), s.Delete(ctx, key, store.Any), store.ErrKey),
		)
		if err != nil {
			return err
		}
	}
	for _, prefix := range badPrefixes {
		_, err := list(ctx, s, prefix)
		if err := expectErr(fmt.Sprintf("List(%.40q)", prefix), err, store.ErrKey); err != nil {
			return err
		}
	}
	return expectList(ctx, s, "", nil)
}

// takesShorterKey puts keys one after the other that may not be there
// together.
func takesShorterKey(ctx context.Context, s store.Store, v Values) error {
	for _, key := range []string{"a/b/c", "a", "a/b", "a/b/c", "a"} {
		version, err := put(ctx, s, key, v.value(key, 0), store.None)
		if err != nil {
			return err
		}
		if err := expectList(ctx, s, "", []string{key}); err != nil {
			return err
		}
		if err := s.Delete(ctx, key, version); err != nil {
			return fmt.Errorf("Delete(%q): %w", key, err)
		}
	}
	return nil
}

func takesAnyValue(ctx context.Context, s store.Store, v Values) error {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	key := v.keys()[0]
	for _, value := range [][]byte{
		nil, {}, {0}, []byte("\n"), []byte(" "), []byte("a"), []byte("a\n"), []byte("a\r\n"), []byte("a\x00"),
		[]byte("null"), []byte("\xff\xfe"), []byte("\ufeffa"), all, bytes.Repeat([]byte{0}, 4096),
		bytes.Repeat([]byte{'x'}, store.MaxValue-1), bytes.Repeat(all, store.MaxValue/len(all)),
	} {
		version, err := put(ctx, s, key, value, store.Any)
		if err != nil {
			return err
		}
		if err := expect(ctx, s, key, value, version); err != nil {
			return err
		}
		if err := expectList(ctx, s, "", []string{key}); err != nil {
			return err
		}
	}
	return nil
}

func refusesLargeValues(ctx context.Context, s store.Store, v Values) error {
	key, other := v.keys()[0], v.keys()[1]
	version, err := put(ctx, s, key, v.value(key, 0), store.None)
	if err != nil {
		return err
	}
	large := bytes.Repeat([]byte{'x'}, store.MaxValue+1)
	for _, k := range []string{key, other} {
		_, err = s.Put(ctx, k, large, store.Any)
		if err := expectErr("Put of a value of 1 MiB and a byte", err, store.ErrTooLarge); err != nil {
			return err
		}
	}
	if err := expectNone(ctx, s, other); err != nil {
		return err
	}
	return expect(ctx, s, key, v.value(key, 0), version)
}

func locatesKeys(ctx context.Context, s store.Store, v Values) error {
	seen := make(map[string]string)
	for _, key := range v.keys() {
		where := s.(store.Locator).Locate(key)
		if where == "" {
			return fmt.Errorf("Locate(%q) says nothing", key)
		}
		if other, ok := seen[where]; ok {
			return fmt.Errorf("Locate says %q of both %q and %q", where, other, key)
		}
		seen[where] = key
	}
	s.(store.Locator).Locate("") // must not panic
	return nil
}
