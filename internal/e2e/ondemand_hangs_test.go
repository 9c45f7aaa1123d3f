package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
)

// 64 questions at once, whatever becomes of them.
func TestQuestionsThatHangAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		var asking atomic.Int32
		m := w.manager()
		m.OnDemand = func(context.Context, string, *tls.ClientHelloInfo) (md.Domain, error) {
			asking.Add(1)
			defer asking.Add(-1)
			<-release
			return md.Domain{}, md.ErrNotManaged
		}
		n := w.start(m)
		for i := range 300 {
			go func() {
				_, _ = m.GetCertificate(&tls.ClientHelloInfo{ServerName: fmt.Sprintf("n%d.site%d.test", i, i)})
			}()
			time.Sleep(time.Second)
		}
		if got := asking.Load(); got > 64 {
			t.Errorf("OnDemand is asked %d questions at once, want 64 at most", got)
		}
		close(release)
		time.Sleep(time.Minute)
		n.stopped()
	})
}
