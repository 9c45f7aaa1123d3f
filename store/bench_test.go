package store_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/manageddomains/md/store"
)

var benchStores = map[string]func(b *testing.B) store.Store{
	"Dir":    func(b *testing.B) store.Store { return store.NewDir(filepath.Join(b.TempDir(), "root")) },
	"Memory": func(*testing.B) store.Store { return &store.Memory{} },
}

// benchFill puts n values of the size of a small Set.
func benchFill(b *testing.B, s store.Store, n int) {
	b.Helper()
	for i := range n {
		if _, err := s.Put(b.Context(), fmt.Sprintf("domains/%d.example.com", i), make([]byte, 4000), store.None); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for name, open := range benchStores {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			benchFill(b, s, 1)
			for b.Loop() {
				if _, _, err := s.Get(b.Context(), "domains/0.example.com"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for name, open := range benchStores {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			value := make([]byte, 4000)
			for b.Loop() {
				if _, err := s.Put(b.Context(), "domains/0.example.com", value, store.Any); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkListThousand(b *testing.B) {
	for name, open := range benchStores {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			benchFill(b, s, 1000)
			for b.Loop() {
				n := 0
				for _, err := range s.List(b.Context(), "domains/") {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != 1000 {
					b.Fatalf("List yields %d keys, want 1000", n)
				}
			}
		})
	}
}
