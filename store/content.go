package store

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
)

// contentVersion is the Version that Dir and Memory give a value: half of
// its SHA-256, so that a file need not keep its Version beside its content.
func contentVersion(value []byte) Version {
	sum := sha256.Sum256(value)
	return Version(hex.EncodeToString(sum[:16]))
}

// items is the List of a Scan.
func items(entries iter.Seq2[Entry, error]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for e, err := range entries {
			if !yield(Item{Key: e.Key, Version: e.Version}, err) {
				return
			}
		}
	}
}
