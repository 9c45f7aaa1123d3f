package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
)

// renewCommand: "renew NAME [on=a] [error~TEXT]" asks for a renewal now.
func (s *stage) renewCommand(c *command) error {
	s.guard.excuse()
	return s.ask(c, (*md.Manager).Renew)
}

// activateCommand: "activate NAME [on=a] [error~TEXT]" puts what waits into
// use.
func (s *stage) activateCommand(c *command) error {
	return s.ask(c, func(m *md.Manager, ctx context.Context, name string) error { return m.Activate(ctx, name) })
}

// revokeCommand: "revoke NAME [on=a] [error~TEXT]" is for a key that has
// become known.
func (s *stage) revokeCommand(c *command) error {
	s.guard.excuse()
	return s.ask(c, func(m *md.Manager, ctx context.Context, name string) error {
		return m.Revoke(ctx, name, acmeclient.KeyCompromise)
	})
}

// restoreCommand: "restore NAME [on=a] [error~TEXT]" puts what was in use
// before into use again.
func (s *stage) restoreCommand(c *command) error {
	return s.ask(c, func(m *md.Manager, ctx context.Context, name string) error {
		former, err := m.Archived(ctx, name)
		if err != nil {
			return err
		}
		if len(former) == 0 {
			return errors.New("nothing is archived")
		}
		return m.Restore(ctx, name, former[0].ID)
	})
}

// ask calls a method of a node's Manager for a name.
func (s *stage) ask(c *command, do func(m *md.Manager, ctx context.Context, name string) error) error {
	nodes, err := s.chosen(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	return c.wantError(do(nodes[0].node.m, ctx, c.need("a Domain")))
}

// wantError compares an error with the options error~TEXT of a command; with
// none of them, there must be no error.
func (c *command) wantError(err error) error {
	wanted := false
	for _, o := range slices.Clone(c.options) {
		if o.name != "error" || o.op != "~" {
			continue
		}
		wanted = true
		c.options = slices.DeleteFunc(c.options, func(other option) bool { return other == o })
		if err == nil || !strings.Contains(err.Error(), o.value) {
			return fmt.Errorf("got error %v, want one that says %q", err, o.value)
		}
	}
	if wanted {
		return nil
	}
	return err
}
