package front

import (
	"context"
	"net/http"
	"sync"
)

// requests counts those that are being handled. The zero requests is ready
// for use.
type requests struct {
	mu   sync.Mutex    // guards what follows
	n    int           // handlers that run
	none chan struct{} // closed when n gets to zero; nil if nobody waits
}

// count makes a handler that is h, counted. A nil h is a 404 page.
func (r *requests) count(h http.Handler) http.Handler {
	if h == nil {
		h = http.HandlerFunc(nothingHere)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.add(1)
		defer r.add(-1) // also if h panics
		h.ServeHTTP(w, req)
	})
}

func (r *requests) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += n
	if r.n == 0 && r.none != nil {
		close(r.none)
		r.none = nil
	}
}

// wait returns when no handler runs or ctx ends.
func (r *requests) wait(ctx context.Context) {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return
	}
	if r.none == nil {
		r.none = make(chan struct{})
	}
	none := r.none
	r.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}
