package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

// attemptLimit bounds one attempt with everything in it.
const attemptLimit = 15 * time.Minute

// task is what somebody has asked for; zero for a look of our own.
type task struct {
	renew    bool               // order, whatever policy says
	activate bool               // do not wait with the activation
	revoke   *acmeclient.Reason // renew, and then revoke what was there
	restore  string             // activate this one of the archive
}

// asked reports whether somebody waits for the result.
func (t task) asked() bool { return t.renew || t.activate || t.revoke != nil || t.restore != "" }

// attempt is one attempt to bring a Domain where it should be, from whatever
// is there. It belongs to one goroutine, which holds the Domain's lease.
type attempt struct {
	e    *Engine
	d    *domain
	def  *Domain
	log  *slog.Logger
	task task
	on   *onDemand // nil: the Domain was declared

	ca    acmeclient.CA // the one that is asked, once it is chosen
	noted []string      // names of which the ledger remembers what that CA has said
	began time.Time     // when it was asked for that

	active        *record.Set   // as the Store has it, nil if none can be read
	activeVersion store.Version // also of one that is broken
	job           *record.Job
	jobVersion    store.Version // before it was read, what job goes on from
	written       *record.Job   // the Job as the Store has it
	staged        *record.Set   // nil if nothing is staged
	stagedVersion store.Version

	accepted string // Job.Announced of a Job of ours that the Store does not have

	activateAt time.Time // when the staged Set may be activated, if it waits

	vetoedUntil time.Time // zero: the attempt was not vetoed

	graceEnds time.Time // for what is told although the attempt's context has ended

	unsaved      bool // job could not be written
	reconfigured bool // the configuration has changed since the last attempt
	activated    bool // what was staged is active
	cleared      bool // it was active before, and is not staged any more
	installed    bool // other certificates than before are served
	upToDate     bool // there is nothing to do, or it is done
	leftover     bool // staging could not be cleared
	forgotten    bool // the Domain was allowed on demand, and is not wanted any more
}

// errTooLong ends an attempt that has lasted for attemptLimit.
var errTooLong = fmt.Errorf("it took over %v", attemptLimit)

// errTooSoon ends an attempt that was asked for, but would spend the CA's
// limits.
var errTooSoon = errors.New("too soon")

// errVetoed ends an attempt that a Notifier has vetoed.
var errVetoed = errors.New("the Notifier vetoed the renewal")

// attempt brings d where it should be, and says in d.due when to look again.
func (e *Engine) attempt(ctx context.Context, d *domain, t task) error {
	loadErr := e.loadOne(ctx, d)
	if t.asked() {
		e.openSoon(d)
	}
	e.openUp(ctx, d)
	e.mu.Lock()
	a := &attempt{
		e: e, d: d, def: d.def, task: t, on: d.onDemand, log: e.log.With("domain", d.def.Name),
		job: d.job.Clone(), jobVersion: d.jobVersion, reconfigured: d.reconfigured, unsaved: d.unsaved,
	}
	e.mu.Unlock()
	if loadErr != nil {
		return a.conclude(ctx, loadErr)
	}
	lease, err := a.lease(ctx)
	if errors.Is(err, store.ErrHeld) {
		a.log.Debug("another process works on the Domain", "error", err)
		_ = a.tellInstalled(ctx) // which is no affair of the other's
		e.lookAgain(d, e.now().Add(e.leaseTTL()/4))
		return err
	}
	if err != nil {
		return a.conclude(ctx, fmt.Errorf("taking the lease: %w", err))
	}
	defer a.release(ctx, lease)
	err = e.guarded(a.log, func() error { return a.run(lease.Context()) })
	if cause := context.Cause(lease.Context()); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err) // such as that the lease is lost
	}
	if a.forgotten {
		return errors.Join(err, a.bury(lease.Context()))
	}
	return a.conclude(lease.Context(), err)
}

// lease takes the Domain's lease. Who was asked waits for it; the others come
// again later.
func (a *attempt) lease(ctx context.Context) (*store.Lease, error) {
	if a.task.asked() {
		return a.e.leases().Acquire(ctx, record.LeaseKey(a.def.Name))
	}
	return a.e.leases().Try(ctx, record.LeaseKey(a.def.Name))
}

func (a *attempt) release(ctx context.Context, lease *store.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.e.hookGrace())
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		a.log.Warn("releasing the lease failed; it ends by itself", "error", err)
	}
}

// run does what is left over from former attempts, and then what is due.
func (a *attempt) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{a.readJob, a.tidy, a.readActive, a.tellInstalled, a.readStaged, a.adopt, a.remember} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	err := a.afterFailure(ctx, a.bring(ctx))
	if revokeErr := a.revokeListed(ctx); a.task.revoke != nil {
		return errors.Join(err, revokeErr)
	}
	return err
}

// bring brings the Domain where it should be, now that it is known what there
// is.
func (a *attempt) bring(ctx context.Context) error {
	if a.task.restore != "" {
		return a.restore(ctx)
	}
	if a.stagedComplete() && a.task.revoke == nil {
		err := a.activateInTime(ctx)
		if errors.Is(err, errUnfit) && a.task.activate {
			return fmt.Errorf("%w: %w", errRefused, err) // who has asked for it is to know
		}
		if err != nil && !errors.Is(err, errUnfit) {
			return err
		}
	}
	if a.unused() && !a.task.asked() {
		return a.retire(ctx)
	}
	a.askRenewalInfo(ctx)
	decision := a.decide()
	if err := a.confirm(ctx, decision); err != nil {
		return err
	}
	decision = a.decide()                   // by what is wanted by now
	if decision.Due() && !a.task.activate { // Activate orders nothing
		return a.replace(ctx, decision)
	}
	if a.task.renew && !a.activated {
		return fmt.Errorf("%w: %s", errTooSoon, decision.Reason)
	}
	a.upToDate = a.activated || decision.Reason == "" && !a.dueElsewhere()
	return nil
}

// decide asks policy what is due.
func (a *attempt) decide() policy.Decision {
	rules := a.def.rules()
	rules.Restless = a.e.knobs.Load().Restless
	return policy.Next(rules, a.facts(), a.e.now())
}

// facts are what policy must know: of the Set that waits in staging, if one
// does, else of the active one.
func (a *attempt) facts() policy.Facts {
	f := policy.Facts{
		Certificates: factsOf(a.newest(), a.job),
		NotBefore:    a.job.NextRun,
		CA:           cmp.Or(a.job.CA, a.def.CAs[0].URL),
		Forced:       a.task.renew && !a.activated,
		Revoked:      a.task.revoke != nil || !a.stagedComplete() && someToBeRevoked(a.job, a.inUse()),
	}
	if a.reconfigured || a.task.revoke != nil {
		f.NotBefore = time.Time{}
	}
	return f
}

// newest are the certificates that were obtained last: the staged ones if the
// staged Set is complete, else those in use.
func (a *attempt) newest() []certificate {
	if a.stagedComplete() {
		return certificatesOf(a.staged)
	}
	return a.inUse()
}

// inUse are the certificates of the active Set. Where it is the one that is
// served, they are known.
func (a *attempt) inUse() []certificate {
	a.e.mu.Lock()
	known := a.active != nil && a.d.version == a.activeVersion
	certs := a.d.certs
	a.e.mu.Unlock()
	if known {
		return certs
	}
	return certificatesOf(a.active)
}

// stagedComplete reports whether all that is wanted is in staging. A Set that
// lacks a key type is being completed, though each of its certificates is
// there.
func (a *attempt) stagedComplete() bool {
	if a.staged == nil || !a.staged.Complete() {
		return false
	}
	return !slices.ContainsFunc(a.def.KeyTypes, func(t acmeclient.KeyType) bool {
		return a.staged.Credential(string(t)) == nil
	})
}

// replace renews what is due, also where something waits to be activated that
// is due already. That stays in staging until there is an order for another: it
// may be better than what is in use for as long as the CA is away.
func (a *attempt) replace(ctx context.Context, decision policy.Decision) error {
	if a.stagedComplete() {
		if a.task.revoke == nil {
			a.e.letGo(a.d, a.staged) // it is in the Store, and not to be written over its successor
		} else if err := a.dropStaged(ctx, a.staged, errors.New(decision.Reason)); !errors.Is(err, errDropped) {
			return err
		}
	}
	if err := a.renew(ctx, decision); err != nil {
		return err
	}
	a.upToDate = true
	return nil
}

// renew gets the certificates of the key types that are due, and activates
// them together with those that are not.
func (a *attempt) renew(ctx context.Context, decision policy.Decision) error {
	if err := a.choose(ctx); err != nil {
		return err
	}
	if d := a.decide(); a.task.renew && !d.Due() { // it is this CA that has issued a moment ago, and not the first
		return fmt.Errorf("%w: %s", errTooSoon, d.Reason)
	}
	a.log.Info("renewing", "reason", decision.Reason, "names", a.def.Shown, "ca", caName(a.ca))
	a.job.Tell(a.e.now(), "starting", decision.Reason)
	if err := a.tell(ctx, time.Hour, status.Event{Kind: status.Renewing, Attempts: a.job.Errors}); err != nil {
		return fmt.Errorf("%w: %w", errVetoed, err)
	}
	from, err := a.issuer(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, t := range decision.KeyTypes {
		cred, err := a.obtained(t)
		if err != nil {
			cred, err = from.issue(ctx, acmeclient.KeyType(t))
		}
		if err == nil {
			err = a.stageComplete(ctx, cred, decision.KeyTypes)
		}
		switch {
		case err == nil:
		case errors.As(err, new(*keyTypeError)) && ctx.Err() == nil:
			failed = append(failed, err) // the others may go well, and be of use without it
		default:
			return errors.Join(append(failed, err)...)
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	return a.activateInTime(ctx)
}

// A keyTypeError says what is wrong with keys of one type: that none can be made,
// or that the CA does not take them.
type keyTypeError struct{ error }

func (e *keyTypeError) Unwrap() error { return e.error }

// issuer returns what gets certificates from the CA that was chosen.
func (a *attempt) issuer(ctx context.Context) (issuer, error) {
	if a.ca.Protocol == acmeclient.Tailscale {
		return tailscaleIssuer{a}, nil
	}
	return &acmeIssuer{attempt: a, spent: make(map[string]bool)}, a.rehearse(ctx)
}

// putJob writes the Job if the Store has another.
func (a *attempt) putJob(ctx context.Context) error {
	if reflect.DeepEqual(a.job, a.written) {
		return nil
	}
	v, err := a.e.records.PutJob(ctx, a.def.Name, a.job, a.jobVersion)
	if err != nil {
		return err
	}
	a.jobVersion, a.written = v, a.job.Clone()
	return nil
}

// step says what the attempt is doing, in the log and in the status.
func (a *attempt) step(what string) {
	a.log.Debug("step", "what", what)
	a.e.mu.Lock()
	defer a.e.mu.Unlock()
	a.d.activity = what
}
