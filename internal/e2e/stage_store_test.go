package e2e_test

import (
	"context"
	"errors"
	"fmt"
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
// prefix of keys; "store works" ends all of that. "store put KEY VALUE" writes
// a section of the scenario, "store wipe PREFIX" removes all below it.
func (s *stage) storeCommand(c *command) error {
	const many = 1 << 30
	verb := c.next()
	switch verb {
	case "full":
		s.disk.add(diskTrouble{kind: "put", prefix: c.next(), fault: storetest.FaultBefore, left: many})
	case "down":
		s.disk.add(diskTrouble{kind: "any", prefix: c.next(), fault: storetest.FaultBefore, left: many})
	case "slow":
		delay, err := parseSpan(c.next())
		s.disk.add(diskTrouble{kind: "any", prefix: c.next(), delay: delay, left: many})
		return err
	case "fault":
		return s.addDiskTrouble(c)
	case "works":
		s.disk.repair()
	case "put":
		return s.overwrite(c.next(), c.next())
	case "wipe":
		return s.wipe(c.next())
	default:
		return fmt.Errorf("store: unknown word %q", verb)
	}
	return nil
}

// addDiskTrouble: "store fault KIND FAULT [PREFIX] [times=N]".
func (s *stage) addDiskTrouble(c *command) error {
	t := diskTrouble{kind: c.next()}
	word := c.next()
	fault, ok := diskFaults[word]
	if !ok {
		return fmt.Errorf("store: unknown fault %q", word)
	}
	var err error
	t.fault, t.prefix = fault, c.next()
	t.left, err = c.times()
	s.disk.add(t)
	return err
}

// overwrite puts a section of the scenario into the Store, at a key or at the
// one key below a prefix that ends in "/".
func (s *stage) overwrite(key, section string) error {
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

func (s *stage) wipe(prefix string) error {
	if prefix == "" {
		prefix = "/"
	}
	var errs []error
	for _, key := range s.world.keys(strings.TrimPrefix(prefix, "/")) {
		s.guard.destroyed(key)
		errs = append(errs, s.store.Delete(context.Background(), key, store.Any))
	}
	return errors.Join(errs...)
}
