package e2e_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
)

func TestFirstOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(w.manager(md.Domain{Names: []string{"example.com", "www.example.com"}}))
		n.ready(time.Minute)
		for _, name := range []string{"example.com", "www.example.com"} {
			if _, err := w.serial(name); err != nil {
				t.Errorf("handshake for %s: %v", name, err)
			}
		}
		n.stopped()
	})
}
