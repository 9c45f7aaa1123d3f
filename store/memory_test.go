package store_test

import (
	"testing"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return &store.Memory{} }, storetest.Values{})
}
