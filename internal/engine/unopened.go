package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// longestKeyRetry is the longest time between two tries to open a key without
// which a certificate is not served.
const longestKeyRetry = 5 * time.Minute

// unopened is the active Set of a Domain as long as a key of it is out of
// reach. It is guarded by the Engine's mu, but for set, which is not changed.
type unopened struct {
	set     *record.Set
	version store.Version
	certs   []certificate
	err     error     // why it could not be opened; nil: nobody has tried
	errors  int       // in a row
	at      time.Time // when to try next
	news    bool      // nobody has been told that it is to be served
}

// closed reports whether a key of set has still to be opened.
func (e *Engine) closed(d *domain, set *record.Set) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range set.Credentials {
		if ref := set.Credentials[i].Reference; ref != nil && d.keys[nameOfKey(ref)] == nil {
			return true
		}
	}
	return false
}

// setUnopened leaves it to openUp to have the active Set of d served.
func (e *Engine) setUnopened(d *domain, set *record.Set, version store.Version) {
	e.noteUnopened(d, set, version, nil)
}

// noteUnopened notes that the active Set of d is not served, and why, if that
// is known.
func (e *Engine) noteUnopened(d *domain, set *record.Set, version store.Version, why error) unopened {
	certs := certificatesOf(set)
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.unopened == nil || d.unopened.version != version {
		d.unopened = &unopened{set: set, version: version, certs: certs, at: e.now(), news: d.loaded}
	}
	u := d.unopened
	if why != nil {
		u.err = why
		u.errors++
		delay := min(policy.Backoff(e.cfg.RetryDelay, u.errors, e.jitter()), longestKeyRetry)
		u.at = e.now().Add(delay)
		if d.loaded && d.state == idle {
			e.schedule(d, earlier(d.due, u.at))
		}
		e.announceChange()
	}
	return *u
}

// notOpened notes that a key of the active Set of d is out of reach.
func (e *Engine) notOpened(d *domain, set *record.Set, version store.Version, err error) {
	u := e.noteUnopened(d, set, version, err)
	e.log.Error("the active certificates cannot be served without their key; what was served before is served on",
		"domain", e.nameOf(d), "error", err, "tries", u.errors, "next", u.at)
}

// openUp has the active Set of d served that waits for a key, if it is time to
// try that.
func (e *Engine) openUp(ctx context.Context, d *domain) {
	// All who need it at one moment share one try.
	_, _, _ = e.openings.Do(e.nameOf(d), func() (any, error) {
		return nil, e.guarded(e.log, func() error { e.openOnce(ctx, d); return nil })
	})
}

func (e *Engine) openOnce(ctx context.Context, d *domain) {
	e.mu.Lock()
	u, served := d.unopened, d.version
	due := u != nil && !e.now().Before(u.at)
	e.mu.Unlock()
	if !due || ctx.Err() != nil {
		return
	}
	installed, err := e.takeOver(ctx, d, u.set, u.version, served)
	if err != nil && !errors.As(err, new(*keyError)) {
		e.log.Error("stored certificates cannot be served", "domain", e.nameOf(d), "error", err)
		e.settle(d)
	}
	if installed && u.news {
		e.mu.Lock()
		e.bringNews(d)
		e.mu.Unlock()
	}
}

// settle ends the waiting for a key of the active Set of d. What cannot be
// served anyhow is left to an attempt, at once.
func (e *Engine) settle(d *domain) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.unopened = nil
	if d.loaded && d.state == idle {
		e.schedule(d, e.now())
	}
}

// waitsAt is why the active Set of d, at a Version, is not served yet, as long
// as it is not time to try again.
func (e *Engine) waitsAt(d *domain, version store.Version) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if u := d.unopened; u != nil && u.version == version && e.now().Before(u.at) {
		return u.err
	}
	return nil
}

// openSoon has the keys of d looked for at once, because somebody has asked.
func (e *Engine) openSoon(d *domain) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.unopened != nil {
		d.unopened.at = e.now()
	}
}

// openAll opens the keys of what Load has read. What takes too long is left to
// the attempts, so that a server comes up whose KMS does not answer.
func (e *Engine) openAll(ctx context.Context, domains []*domain) {
	ctx, cancel := context.WithTimeoutCause(ctx, openKeysLimit, errSlowKeys)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(parallelReads)
	for _, d := range domains {
		e.mu.Lock()
		closed := d.unopened != nil
		e.mu.Unlock()
		if closed {
			group.Go(func() error { e.openUp(ctx, d); return nil })
		}
	}
	_ = group.Wait() // nobody returns an error
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range domains {
		if d.unopened != nil && d.unopened.errors == 0 && d.state == idle { // its turn did not come
			e.schedule(d, e.now())
		}
	}
}

// openFirst is for a handshake with a Domain that waits for a key which nobody
// has tried to open yet. The client may go away meanwhile.
func (e *Engine) openFirst(ctx context.Context, d *domain) {
	e.mu.Lock()
	untried := d.unopened != nil && d.unopened.errors == 0
	e.mu.Unlock()
	if untried {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), firstRead)
		defer cancel()
		e.openUp(ctx, d)
	}
}

var errSlowKeys = fmt.Errorf("Load opens keys for %v", openKeysLimit)

// tellUnopened raises Errored for a key that is out of reach.
func (a *attempt) tellUnopened(ctx context.Context) {
	a.e.mu.Lock()
	u := a.d.unopened
	ev := status.Event{Kind: status.Errored}
	if u != nil {
		ev.Err, ev.Attempts, ev.NextAttempt = u.err, u.errors, u.at
	}
	a.e.mu.Unlock()
	if ev.Err != nil {
		_ = a.tell(ctx, time.Hour, ev) // an error is logged, and there is no veto
	}
}

// unopenedNow is what is known of a key that is out of reach, zero if none is.
// e.mu is held.
func (d *domain) unopenedNow() unopened {
	if d.unopened == nil {
		return unopened{}
	}
	return *d.unopened
}

// keysWanted is at, or when to try again to open a key, if that is earlier.
// e.mu is held.
func (d *domain) keysWanted(at time.Time) time.Time {
	if d.unopened != nil && d.unopened.errors > 0 {
		return earlier(at, d.unopened.at)
	}
	return at
}

// noteActive ends the waiting for a key of what is not active any more.
func (a *attempt) noteActive() {
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	u := a.d.unopened
	if u != nil && (a.active == nil || u.version != a.activeVersion || a.d.version == a.activeVersion) {
		a.d.unopened = nil
	}
}
