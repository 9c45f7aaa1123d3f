package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/manageddomains/md/store"
	"github.com/manageddomains/md/store/storetest"
)

// disk is what is wrong with the Store for all nodes.
type disk struct {
	mu       sync.Mutex // guards what follows
	troubles []*diskTrouble
}

// diskTrouble is a fault that meets the next so many operations of a kind.
type diskTrouble struct {
	kind   string // "any": all kinds
	prefix string // of the keys that it meets
	fault  storetest.Fault
	delay  time.Duration
	left   int
}

var diskFaults = map[string]storetest.Fault{
	"lost":        storetest.FaultBefore,
	"reply-lost":  storetest.FaultAfter,
	"hangs":       storetest.FaultHang,
	"hangs-after": storetest.FaultHangAfter,
}

// fault says how to break an operation, after having slowed it down.
func (d *disk) fault(op storetest.Op) storetest.Fault {
	d.mu.Lock()
	var hit *diskTrouble
	for _, t := range d.troubles {
		if t.left > 0 && strings.HasPrefix(op.Key, t.prefix) && (t.kind == "any" || t.kind == op.Kind) {
			t.left--
			hit = t
			break
		}
	}
	d.mu.Unlock()
	if hit == nil {
		return storetest.FaultNone
	}
	time.Sleep(hit.delay)
	return hit.fault
}

func (d *disk) add(t diskTrouble) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.troubles = append(d.troubles, &t)
}

func (d *disk) repair() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.troubles = nil
}

// works reports whether nothing is wrong with the Store.
func (d *disk) works() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.troubles {
		if t.left > 0 {
			return false
		}
	}
	return true
}

// storeCommand lets something happen to the Store: "store full", "store down",
// "store slow 2s" and "store fault put lost times=1", each with an optional
// prefix of keys; "store works" ends all of that.
func (s *stage) storeCommand(c *command) error {
	return obey(storeWords, "store", s, c)
}

var storeWords = map[string]func(s *stage, c *command) error{
	"full": func(s *stage, c *command) error {
		s.disk.add(diskTrouble{kind: "put", prefix: c.next(), fault: storetest.FaultBefore, left: math.MaxInt})
		return nil
	},
	"down": func(s *stage, c *command) error {
		s.disk.add(diskTrouble{kind: "any", prefix: c.next(), fault: storetest.FaultBefore, left: math.MaxInt})
		return nil
	},
	"slow": func(s *stage, c *command) error {
		delay, err := c.needSpan()
		s.disk.add(diskTrouble{kind: "any", prefix: c.next(), delay: delay, left: math.MaxInt})
		return err
	},
	"fault":   (*stage).addDiskTrouble,
	"works":   func(s *stage, _ *command) error { s.disk.repair(); return nil },
	"put":     (*stage).overwrite,
	"wipe":    (*stage).wipe,
	"save":    (*stage).saveBackup,
	"restore": (*stage).restoreBackup,
}

// addDiskTrouble: "store fault KIND FAULT [PREFIX] [times=N]".
func (s *stage) addDiskTrouble(c *command) error {
	t := diskTrouble{kind: c.need("a kind of operations")}
	word := c.need("a fault")
	fault, ok := diskFaults[word]
	if !ok || !slices.Contains([]string{"any", "get", "put", "delete", "list"}, t.kind) {
		return fmt.Errorf("store: %w %q or %q", errUnknown, t.kind, word)
	}
	var err error
	t.fault, t.prefix = fault, c.next()
	t.left, err = c.times()
	s.disk.add(t)
	return err
}

// overwrite: "store put KEY SECTION" puts a section of the scenario into the
// Store, at a key or at the one key below a prefix that ends in "/".
func (s *stage) overwrite(c *command) error {
	key, section := c.need("a key"), c.need("a section")
	value, ok := s.script.values[section]
	if !ok {
		return fmt.Errorf("the scenario has no section %q", section)
	}
	if strings.HasSuffix(key, "/") {
		found := s.world.keys(key)
		if len(found) != 1 {
			return fmt.Errorf("below %s there are %v, not one key", key, found)
		}
		key = found[0]
	}
	s.guard.destroyed(key)
	_, err := s.store.Put(context.Background(), key, []byte(value), store.Any)
	return err
}

// wipe: "store wipe [PREFIX]" removes all below a prefix, or everything.
func (s *stage) wipe(c *command) error {
	prefix := cmp.Or(c.next(), "/")
	var errs []error
	for _, key := range s.world.keys(strings.TrimPrefix(prefix, "/")) {
		s.guard.destroyed(key)
		errs = append(errs, s.store.Delete(context.Background(), key, store.Any))
	}
	return errors.Join(errs...)
}

// saveBackup: "store save" makes a backup of all that the Store has.
func (s *stage) saveBackup(*command) error {
	s.backup = make(map[string][]byte)
	for _, key := range s.world.keys("") {
		value, _, err := s.store.Get(context.Background(), key)
		if err != nil {
			return err
		}
		s.backup[key] = value
	}
	return nil
}

// restoreBackup: "store restore" is an operator who puts the backup back:
// what has come since is gone.
func (s *stage) restoreBackup(*command) error {
	if s.backup == nil {
		return errors.New("store restore: there is no backup; save one first")
	}
	s.guard.excuse()
	ctx := context.Background()
	var errs []error
	for _, key := range s.world.keys("") {
		errs = append(errs, s.store.Delete(ctx, key, store.Any))
	}
	for key, value := range s.backup {
		_, err := s.store.Put(ctx, key, value, store.Any)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
