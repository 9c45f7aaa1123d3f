// Package challengetest holds the promises of a challenge.Challenger as
// tests.
package challengetest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/manageddomains/md/challenge"
)

// knownTypes are the challenge types that CAs use. A type that is none of
// them is most likely misspelled.
var knownTypes = [...]string{
	challenge.TypeHTTP01,
	challenge.TypeTLSALPN01,
	challenge.TypeDNS01,
	"dns-account-01",
	"dns-persist-01",
}

// oneValue are the types of which only one value per name can be visible:
// what is looked at for them is found by the name alone, and is not a list.
var oneValue = [...]string{challenge.TypeTLSALPN01}

// timeLimit bounds each subtest, in which a DNS provider may have to wait for
// its servers.
const timeLimit = 5 * time.Minute

// Run tests c against each promise of challenge.Challenger, for each type
// that c knows, with names below example.com.
//
// The function see looks as a CA would and reports whether the answer to ch
// is visible, that is whether the CA would be content with it. It is also
// called concurrently, and fails t only if it cannot look.
//
// Others are instances of the same kind, made as another process would make
// them, that must be able to clean up after c. Without any, that promise is
// not tested.
//
// If c is a challenge.Waiter, Run waits before it looks.
func Run(t *testing.T, c challenge.Challenger, see func(t *testing.T, ctx context.Context, ch challenge.Challenge) bool, others ...challenge.Challenger) {
	types := c.Types()
	t.Run("its types are known to CAs", func(t *testing.T) {
		if len(types) == 0 {
			t.Error("Types is empty, so that Present is never called")
		}
		for i, typ := range types {
			if !slices.Contains(knownTypes[:], typ) {
				t.Errorf("type %q is not one of %q", typ, knownTypes)
			}
			if slices.Contains(types[:i], typ) {
				t.Errorf("type %q is there twice", typ)
			}
		}
	})
	for _, typ := range types {
		t.Run(typ, func(t *testing.T) {
			runType(t, suite{c: c, typ: typ, see: see, others: others})
		})
	}
}

// suite is what the subtests of one type work with.
type suite struct {
	c      challenge.Challenger
	typ    string
	see    func(t *testing.T, ctx context.Context, ch challenge.Challenge) bool
	others []challenge.Challenger
}

func runType(t *testing.T, s suite) {
	for _, promise := range []struct {
		name string
		test func(t *testing.T, ctx context.Context, s suite)
	}{
		{"Present makes the answer visible", testPresent},
		{"Present may be called twice", testPresentTwice},
		{"two values for one name can be pending", testTwoValues},
		{"two names can be pending", testTwoNames},
		{"names can be presented at once", testConcurrent},
		{"CleanUp takes only its own answer away", testOnlyItsOwn},
		{"CleanUp needs no Present", testCleanUpAlone},
		{"CleanUp works from another instance", testOtherInstance},
		{"an ended context is obeyed or does no harm", testEndedContext},
	} {
		t.Run(promise.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), timeLimit)
			defer cancel()
			promise.test(t, ctx, s)
		})
	}
}

func testPresent(t *testing.T, ctx context.Context, s suite) {
	ch := s.challenge(t, "present")
	s.checkSeen(t, ctx, ch, false)
	s.present(t, ctx, ch)
	s.checkSeen(t, ctx, ch, true)
	s.cleanUp(t, ctx, ch)
	s.checkSeen(t, ctx, ch, false)
}

func testPresentTwice(t *testing.T, ctx context.Context, s suite) {
	ch := s.challenge(t, "twice")
	s.present(t, ctx, ch)
	s.present(t, ctx, ch)
	s.checkSeen(t, ctx, ch, true)
	// One CleanUp undoes both: there is no count of them after a crash.
	s.cleanUp(t, ctx, ch)
	s.checkSeen(t, ctx, ch, false)
}

func testTwoValues(t *testing.T, ctx context.Context, s suite) {
	first, second := s.challenge(t, "values"), s.challenge(t, "values")
	s.present(t, ctx, first)
	s.present(t, ctx, second)
	if !slices.Contains(oneValue[:], s.typ) {
		s.checkSeen(t, ctx, first, true)
	}
	s.checkSeen(t, ctx, second, true)
}

func testTwoNames(t *testing.T, ctx context.Context, s suite) {
	first, second := s.challenge(t, "name1"), s.challenge(t, "name2")
	s.present(t, ctx, first)
	s.present(t, ctx, second)
	s.checkSeen(t, ctx, first, true)
	s.checkSeen(t, ctx, second, true)
	s.cleanUp(t, ctx, first)
	s.checkSeen(t, ctx, first, false)
	s.checkSeen(t, ctx, second, true)
}

func testConcurrent(t *testing.T, ctx context.Context, s suite) {
	var names sync.WaitGroup
	defer names.Wait() // also if a challenge cannot be made
	for i := range 8 {
		ch := s.challenge(t, fmt.Sprint("at-once", i))
		names.Go(func() {
			if err := s.tryPresent(ctx, ch); err != nil {
				t.Errorf("Present for %s: %v", ch.Name, err)
				return
			}
			s.checkSeen(t, ctx, ch, true)
			if err := s.c.CleanUp(ctx, ch); err != nil {
				t.Errorf("CleanUp for %s: %v", ch.Name, err)
			}
			s.checkSeen(t, ctx, ch, false)
		})
	}
}

func testOnlyItsOwn(t *testing.T, ctx context.Context, s suite) {
	first, second := s.challenge(t, "own"), s.challenge(t, "own")
	s.present(t, ctx, first)
	s.present(t, ctx, second)
	s.cleanUp(t, ctx, first)
	s.checkSeen(t, ctx, first, false)
	s.checkSeen(t, ctx, second, true)
	s.cleanUp(t, ctx, second)
	s.checkSeen(t, ctx, second, false)
}

func testCleanUpAlone(t *testing.T, ctx context.Context, s suite) {
	never := s.challenge(t, "alone")
	s.cleanUp(t, ctx, never)
	pending := s.challenge(t, "alone")
	s.present(t, ctx, pending)
	s.cleanUp(t, ctx, never)
	s.checkSeen(t, ctx, pending, true)
	s.cleanUp(t, ctx, pending)
	s.cleanUp(t, ctx, pending)
	s.checkSeen(t, ctx, pending, false)
}

func testOtherInstance(t *testing.T, ctx context.Context, s suite) {
	if len(s.others) == 0 {
		t.Skip("there is only one instance")
	}
	for i, other := range s.others {
		ch := s.challenge(t, fmt.Sprint("other", i))
		s.present(t, ctx, ch)
		if err := other.CleanUp(ctx, ch); err != nil {
			t.Errorf("CleanUp by instance %d: %v", i, err)
		}
		s.checkSeen(t, ctx, ch, false)
	}
}

// testEndedContext wants the truth of Present and CleanUp: nil means done,
// whatever has become of the context.
func testEndedContext(t *testing.T, ctx context.Context, s suite) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	ch := s.challenge(t, "ended")
	if err := s.tryPresent(ended, ch); err == nil {
		s.checkSeen(t, ctx, ch, true)
	}
	s.present(t, ctx, ch)
	if err := s.c.CleanUp(ended, ch); err == nil {
		s.checkSeen(t, ctx, ch, false)
	}
	s.cleanUp(t, ctx, ch)
	s.checkSeen(t, ctx, ch, false)
}

// challenge makes a challenge for a name below example.com, which is cleaned
// up when the test is over.
func (s suite) challenge(t *testing.T, label string) challenge.Challenge {
	t.Helper()
	ch := challenge.Challenge{
		Type:  s.typ,
		Name:  label + ".example.com",
		Token: randomText(32),
	}
	ch.KeyAuthorization = ch.Token + "." + randomText(32)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
		defer cancel()
		if err := s.c.CleanUp(ctx, ch); err != nil {
			t.Errorf("CleanUp for %s after the test: %v", ch.Name, err)
		}
	})
	return ch
}

// randomText returns base64url of n random bytes.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func (s suite) tryPresent(ctx context.Context, ch challenge.Challenge) error {
	if err := s.c.Present(ctx, ch); err != nil {
		return err
	}
	if w, ok := s.c.(challenge.Waiter); ok {
		return w.Wait(ctx, ch)
	}
	return nil
}

func (s suite) present(t *testing.T, ctx context.Context, ch challenge.Challenge) {
	t.Helper()
	if err := s.tryPresent(ctx, ch); err != nil {
		t.Fatalf("Present for %s: %v", ch.Name, err)
	}
}

func (s suite) cleanUp(t *testing.T, ctx context.Context, ch challenge.Challenge) {
	t.Helper()
	if err := s.c.CleanUp(ctx, ch); err != nil {
		t.Fatalf("CleanUp for %s: %v", ch.Name, err)
	}
}

func (s suite) checkSeen(t *testing.T, ctx context.Context, ch challenge.Challenge, want bool) {
	t.Helper()
	if got := s.see(t, ctx, ch); got != want {
		t.Errorf("the answer for %s is visible: %v, want %v", ch.Name, got, want)
	}
}
