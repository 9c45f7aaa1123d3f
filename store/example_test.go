package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/manageddomains/md/store"
)

// A value is changed by reading it and putting another over the Version read.
// If someone else was faster, nothing is lost.
func ExampleMemory() {
	ctx := context.Background()
	var s store.Memory

	version, err := s.Put(ctx, "jobs/example.com", []byte("1 error"), store.None)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := s.Put(ctx, "jobs/example.com", []byte("2 errors"), version); err != nil {
		fmt.Println(err)
		return
	}
	_, err = s.Put(ctx, "jobs/example.com", []byte("0 errors"), version) // the former one
	fmt.Println(errors.Is(err, store.ErrConflict))

	value, _, err := s.Get(ctx, "jobs/example.com")
	fmt.Printf("%s %v\n", value, err)
	_, _, err = s.Get(ctx, "jobs/example.org")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// true
	// 2 errors <nil>
	// true
}

// A Dir is shared by naming the same directory.
func ExampleNewDir() {
	ctx := context.Background()
	place, err := os.MkdirTemp("", "md")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(place)

	s := store.NewDir(filepath.Join(place, "state")) // made when something is put
	for _, key := range []string{"domains/example.com", "domains/*.example.com", "jobs/example.com"} {
		if _, err := s.Put(ctx, key, []byte("…"), store.None); err != nil {
			fmt.Println(err)
			return
		}
	}
	same := store.NewDir(filepath.Join(place, "state")) // in another process, perhaps
	for item, err := range same.List(ctx, "domains/") {
		if err != nil {
			fmt.Println(err)
			return
		}
		file, _ := filepath.Rel(place, same.Locate(item.Key))
		fmt.Println(item.Key, "is in", filepath.ToSlash(file))
	}
	// Output:
	// domains/*.example.com is in state/domains/%2a.example.com
	// domains/example.com is in state/domains/example.com
}

// Of all who share a Store, one does the work, under the lease's Context.
func ExampleLeaser() {
	ctx := context.Background()
	var shared store.Memory
	ours := &store.Leaser{Store: &shared, Holder: "node 1"}
	theirs := &store.Leaser{Store: &shared, Holder: "node 2"}

	lease, err := ours.Try(ctx, "leases/example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = theirs.Try(ctx, "leases/example.com")
	fmt.Println(errors.Is(err, store.ErrHeld))
	fmt.Println(err)

	work := func(ctx context.Context) error { return ctx.Err() }
	if err := work(lease.Context()); err != nil {
		fmt.Println(context.Cause(lease.Context())) // wraps ErrLeaseLost, or says why ctx ended
	}
	// What gives up the lease must not end with the work.
	if err := lease.Release(context.WithoutCancel(ctx)); err != nil {
		fmt.Println(err)
	}

	lease, err = theirs.Acquire(ctx, "leases/example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("node 2 has", lease.Key())
	_ = lease.Release(ctx)
	// Output:
	// true
	// store: the lease is held by another: "leases/example.com" by "node 1"
	// node 2 has leases/example.com
}
