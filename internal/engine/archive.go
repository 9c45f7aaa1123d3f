package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/manageddomains/md/status"
)

// Archived returns the former Sets of a Domain, newest first.
func (e *Engine) Archived(ctx context.Context, name string) ([]status.Archived, error) {
	e.mu.Lock()
	d := e.find(name)
	e.mu.Unlock()
	if d == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotManaged, name)
	}
	former, err := e.records.Archived(ctx, e.nameOf(d))
	if err != nil {
		return nil, err
	}
	list := make([]status.Archived, 0, len(former))
	for _, f := range former {
		list = append(list, status.Archived{ID: f.ID, Certificates: describe(certificatesOf(f.Set))})
	}
	return list, nil
}

// errRefused ends an attempt that was asked for something that cannot be done.
// It says nothing against the Domain.
var errRefused = errors.New("refused")

// Restore makes a former Set of a Domain its active one.
func (e *Engine) Restore(ctx context.Context, name, id string) error {
	return e.perform(ctx, name, task{restore: id})
}

// restore stages a former Set and activates it; what was active goes to the
// archive.
func (a *attempt) restore(ctx context.Context) error {
	set, err := a.e.records.FromArchive(ctx, a.def.Name, a.task.restore)
	if err == nil {
		err = a.check(set, a.active)
	}
	if err == nil {
		err = a.canOpen(ctx, set)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if a.staged != nil { // also an order in progress: its key may be needed
		if err := a.e.records.Keep(ctx, a.def.Name, a.staged); err != nil {
			return err
		}
	}
	if err := a.stage(ctx, set); err != nil {
		return err
	}
	if err := a.activate(ctx, set); err != nil {
		return err
	}
	a.log.Info("former certificates are restored", "id", a.task.restore)
	a.job.Tell(a.e.now(), "restored", a.task.restore)
	a.upToDate = true
	return nil
}
