package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"fmt"
	"sync"

	"github.com/manageddomains/md"
)

// keyPool holds ready keys: making them is what would take most of the time.
// They are the same in every process, since CAs number certificates by them.
var keyPool = sync.OnceValue(func() map[md.KeyType][]crypto.Signer {
	pool := make(map[md.KeyType][]crypto.Signer)
	for _, of := range []struct {
		t     md.KeyType
		curve elliptic.Curve
		n     int
	}{{md.P256, elliptic.P256(), 1024}, {md.P384, elliptic.P384(), 128}} {
		for i := range of.n {
			secret := sha512.Sum384(fmt.Append(nil, of.t, i))
			key, err := ecdsa.ParseRawPrivateKey(of.curve, secret[:of.curve.Params().BitSize/8])
			if err != nil {
				panic(err)
			}
			pool[of.t] = append(pool[of.t], key)
		}
	}
	return pool
})

// poolKey returns the nth key that is made: one comes again only after all
// others.
func poolKey(n int64, t md.KeyType) crypto.Signer {
	keys := keyPool()[t]
	return keys[int(n)%len(keys)]
}
