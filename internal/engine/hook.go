package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// errHangs says that somebody else's code has not returned.
var errHangs = errors.New("it does not return")

// errGone says that code has ended its goroutine, as a test's FailNow does.
var errGone = fmt.Errorf("%w: it has called runtime.Goexit", errPanic)

// errPanic says that code has panicked. It costs one attempt of one Domain.
var errPanic = errors.New("panic")

// guarded calls f, and makes an error of a panic.
func (e *Engine) guarded(log *slog.Logger, f func() error) (err error) {
	defer rescue(log, &err)
	return f()
}

// rescue makes an error of a panic, where it is deferred.
func rescue(log *slog.Logger, err *error) {
	if p := recover(); p != nil {
		*err = panicked(log, p)
	}
}

// panicked is the error for what was recovered.
func panicked(log *slog.Logger, p any) error {
	log.Error("panic", "panic", p, "stack", string(debug.Stack()))
	return fmt.Errorf("%w: %v", errPanic, p)
}

// hook calls somebody else's code: a Notifier or a Challenger. It may take
// as long as ctx and the grace behind it; then it is left to itself, and the
// attempt goes on without it.
func (e *Engine) hook(ctx context.Context, what string, f func(ctx context.Context) error) error {
	if e.hangsIn(what) { // one that does not return is enough
		return fmt.Errorf("%s: %w", what, errHangs)
	}
	h := &hook{what: what}
	done := make(chan error, 1)
	go func() {
		err := errGone // unless f says something else
		defer func() {
			e.mu.Lock()
			h.returned = true
			delete(e.hanging, h)
			e.mu.Unlock()
			done <- err
		}()
		err = e.guarded(e.log, func() error { return f(ctx) })
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(e.graceLeft())
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
	}
	e.mu.Lock()
	if !h.returned {
		e.hanging[h] = true
	}
	e.mu.Unlock()
	e.log.Error("user code does not return; going on without it", "what", what)
	return fmt.Errorf("%s: %w", what, errHangs)
}

// beginEnd begins the grace for all calls of somebody else's code, now that Run
// is to end.
func (e *Engine) beginEnd() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.graceEnds = time.Now().Add(e.hookGrace())
}

// graceLeft is how long a call may still take whose context has ended.
func (e *Engine) graceLeft() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.graceEnds.IsZero() {
		return e.hookGrace()
	}
	return max(time.Until(e.graceEnds), 0)
}

// graceContext is for calls that are made although ctx has ended. It ends
// before the grace does, so that who heeds it is not taken for one that hangs.
func (e *Engine) graceContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), e.graceLeft()-e.hookGrace()/10)
}

// hook is a call of somebody else's code. Its fields are guarded by the
// Engine's mu.
type hook struct {
	what     string
	returned bool
}

// hangsIn reports whether a former call has not returned.
func (e *Engine) hangsIn(what string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := range e.hanging {
		if h.what == what {
			return true
		}
	}
	return false
}

// hangs names the hooks that have not returned, nil if there are none.
func (e *Engine) hangs() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var what []string
	for h := range e.hanging {
		what = append(what, h.what)
	}
	if len(what) == 0 {
		return nil
	}
	slices.Sort(what)
	return fmt.Errorf("stopped, but for what does not return: %s", strings.Join(what, "; "))
}
