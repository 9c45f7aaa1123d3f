package store_test

import (
	"path/filepath"
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestDir(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return store.NewDir(filepath.Join(t.TempDir(), "not", "there", "yet"))
	}, storetest.Values{})
}
