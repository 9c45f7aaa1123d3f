package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"sync"

	"github.com/manageddomains/md"
)

// keyPool holds ready keys: making them is what would take most of the time.
var keyPool = sync.OnceValue(func() map[md.KeyType][]crypto.Signer {
	pool := make(map[md.KeyType][]crypto.Signer)
	for _, of := range []struct {
		t     md.KeyType
		curve elliptic.Curve
		n     int
	}{{md.P256, elliptic.P256(), 1024}, {md.P384, elliptic.P384(), 128}} {
		for range of.n {
			key, err := ecdsa.GenerateKey(of.curve, rand.Reader)
			if err != nil {
				panic(err)
			}
			pool[of.t] = append(pool[of.t], key)
		}
	}
	return pool
})

func poolKey(d draw, t md.KeyType) crypto.Signer {
	keys := keyPool()[t]
	return keys[d.below(len(keys))]
}
