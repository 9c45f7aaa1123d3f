package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/manageddomains/md/store"
)

// What lies in a shared Store can be read only by those who have the key.
func ExampleEncrypted() {
	ctx := context.Background()
	// A program reads it from a file that only it may read, say, or from a
	// key management service. One is made by: openssl rand -base64 32
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, store.SealKeySize))
	key, err := store.ParseSealKey(text)
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := store.NewKeyring(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	var shared store.Memory // or a database
	s := store.Encrypted(&shared, keys)
	if _, err := s.Put(ctx, "domains/example.com", []byte("PRIVATE KEY"), store.None); err != nil {
		fmt.Println(err)
		return
	}
	value, _, err := s.Get(ctx, "domains/example.com")
	fmt.Printf("%s %v\n", value, err)

	raw, _, err := shared.Get(ctx, "domains/example.com")
	fmt.Println(len(raw)-store.SealOverhead, bytes.Contains(raw, []byte("PRIVATE")), err)
	fmt.Println(key)
	// Output:
	// PRIVATE KEY <nil>
	// 11 false <nil>
	// ***
}

// A key is changed while the program runs.
func ExampleReseal() {
	ctx := context.Background()
	former, next := store.NewSealKey(), store.NewSealKey()
	keys, err := store.NewKeyring(former)
	if err != nil {
		fmt.Println(err)
		return
	}
	var shared store.Memory
	s := store.Encrypted(&shared, keys)
	for _, key := range []string{"domains/example.com", "domains/example.org"} {
		if _, err := s.Put(ctx, key, []byte("…"), store.None); err != nil {
			fmt.Println(err)
			return
		}
	}

	err = keys.Replace(next, former) // opens with both
	fmt.Println(err)
	n, err := store.Reseal(ctx, s)
	fmt.Println(n, err)
	err = keys.Replace(next)
	fmt.Println(err)

	// Who has only the former key is told so.
	keys, err = store.NewKeyring(former)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _, err = store.Encrypted(&shared, keys).Get(ctx, "domains/example.com")
	fmt.Println(errors.Is(err, store.ErrNoSealKey))
	// Output:
	// <nil>
	// 2 <nil>
	// <nil>
	// true
}
