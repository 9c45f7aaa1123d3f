package integration

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/internal/engine"
	"github.com/manageddomains/md/internal/record"
	"github.com/manageddomains/md/store"
)

// childVariable makes a process of this test binary a child that orders and
// renews until it is killed; its value is an order as JSON.
const childVariable = "MD_INTEGRATION_CHILD"

// childOrder tells a child what to do. Its files 3 and 4 are the listeners to
// serve at, for plain HTTP and HTTPS.
type childOrder struct {
	Dir     string // of the Store
	CA      string // directory URL
	CARoots string // file with the root of the CA's own server
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		fmt.Fprintln(os.Stderr, "child:", childMain(text))
		os.Exit(1) // it should have been killed
	}
	os.Exit(m.Run())
}

// leases returns a context with which leases last as long as that.
func leases(ctx context.Context, ttl time.Duration) context.Context {
	return engine.WithKnobs(ctx, engine.Knobs{LeaseTTL: ttl, Restless: true})
}

// manager makes the Manager of a child.
func (o *childOrder) manager(roots *x509.CertPool, log *slog.Logger) *md.Manager {
	return &md.Manager{
		Domains: []md.Domain{
			{Names: []string{"example.test", "www.example.test"}},
			{Names: []string{"other.test"}},
		},
		Default:     md.Domain{CAs: []md.CA{{Name: "local", URL: o.CA, Roots: roots, Limits: unlimited()}}},
		AcceptTerms: true,
		Store:       store.NewDir(o.Dir),
		Logger:      log,
		RetryDelay:  20 * time.Millisecond,
	}
}

// childMain gets certificates, and renews them over and over.
func childMain(text string) error {
	var o childOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	pemText, err := os.ReadFile(o.CARoots)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pemText)
	plain, err := adopt(os.NewFile(3, "plain"))
	if err != nil {
		return err
	}
	secure, err := adopt(os.NewFile(4, "secure"))
	if err != nil {
		return err
	}
	m := o.manager(roots, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	// A child that is killed leaves its leases behind, and the next one waits
	// for them to end. On a busy machine they may also end under the child
	// that holds them, which is one more thing to survive.
	ctx := leases(context.Background(), 200*time.Millisecond)
	served := make(chan error, 1)
	go func() { served <- m.Serve(ctx, website(), plain, secure) }()
	if err := m.Ready(ctx); err != nil {
		return err
	}
	for {
		for _, name := range []string{"example.test", "other.test"} {
			if err := m.Renew(ctx, name); err != nil {
				slog.Error("renewing failed", "error", err)
			}
		}
		select {
		case err := <-served:
			return err
		default:
		}
	}
}

// TestKill kills processes that order and renew, at random moments. After
// each kill no value in the Store is torn; in the end no account was
// registered twice, and no certificate is lost.
func TestKill(t *testing.T) {
	kills := 100
	if testing.Short() {
		kills = 10
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))

	p, seen := newPlace(t), new(witness)
	ca := p.startCA(t, localca.Config{Wrap: seen.wrap})
	dir := t.TempDir()
	o := &childOrder{
		Dir: filepath.Join(dir, "store"), CA: ca.DirectoryURL(), CARoots: filepath.Join(dir, "server.pem"),
	}
	if err := os.WriteFile(o.CARoots, ca.TLSRootsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range kills {
		// The first half second of a child's life has the most in it: the
		// lease of the last one, what it left behind, and several renewals.
		p.killChild(t, o, time.Duration(moments.Int64N(int64(600*time.Millisecond))))
		checkStore(t, o.Dir)
	}

	m := o.manager(ca.TLSRoots(), logged(t))
	ctx := leases(t.Context(), 2*time.Second) // not to be lost, however busy the machine
	p.runWith(ctx, t, m)
	ready(t, m)
	for _, name := range []string{"example.test", "other.test"} {
		if err := m.Renew(ctx, name); err != nil {
			t.Fatalf("after all kills, Renew(%s): %v", name, err)
		}
		p.connect(t, name, ca.Roots())
	}
	sets := checkStore(t, o.Dir)
	_, accounts, orders := seen.counts()
	if accounts != 1 {
		t.Errorf("%d accounts were registered, want 1", accounts)
	}
	if orders < 3 {
		t.Errorf("only %d orders were made: the children were killed before they did anything", orders)
	}
	if n := lost(t, seen, sets); n > 0 {
		t.Errorf("%d of %d certificates are in no Set", n, len(seen.finalized))
	}
	t.Logf("%d orders, %d finalized, %d Sets kept", orders, len(seen.finalized), len(sets))
}

// killChild starts a child that serves at p and kills it after a while.
func (p *place) killChild(t *testing.T, o *childOrder, after time.Duration) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+string(text))
	child.Stderr = &told
	plain, secure := p.files(t)
	defer plain.Close()
	defer secure.Close()
	child.ExtraFiles = []*os.File{plain, secure}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	select {
	case <-time.After(after):
		if err := child.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
	case err := <-ended:
		t.Fatalf("a child ended by itself (%v); it told:\n%s", err, told.String())
	}
}

// checkStore fails the test unless every value in dir decodes, and returns
// the Sets by their keys.
func checkStore(t *testing.T, dir string) map[string]*record.Set {
	t.Helper()
	sets := make(map[string]*record.Set)
	s := store.NewDir(dir)
	for item, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatalf("listing the Store: %v", err)
		}
		value, _, err := s.Get(t.Context(), item.Key)
		if err != nil {
			t.Fatalf("reading %s: %v", item.Key, err)
		}
		set, err := decode(item.Key, value)
		if err != nil {
			t.Fatalf("%s is torn: %v\n%q", item.Key, err, value)
		}
		if set != nil {
			sets[item.Key] = set
		}
	}
	return sets
}

// decode reads a value of the Store for what its key says that it is.
func decode(key string, value []byte) (*record.Set, error) {
	room, rest, _ := strings.Cut(key, "/")
	switch room {
	case "domains", "staging", "archive":
		if strings.Contains(rest, "/broken-") {
			return nil, errors.New("a value was found to be broken")
		}
		return record.DecodeSet(value)
	case "accounts":
		_, err := record.DecodeAccount(value)
		return nil, err
	case "jobs":
		if !json.Valid(value) {
			return nil, errors.New("it is not JSON")
		}
	case "leases", "challenges":
		if len(value) == 0 {
			return nil, errors.New("it is empty")
		}
	default:
		return nil, errors.New("nobody should have written it")
	}
	return nil, nil
}

// lost counts the certificates that the CA was asked to issue and that are in
// none of the Sets.
func lost(t *testing.T, seen *witness, sets map[string]*record.Set) int {
	t.Helper()
	kept := make(map[string]bool) // by public key
	for key, set := range sets {
		for i := range set.Credentials {
			c := &set.Credentials[i]
			if len(c.Chain) == 0 {
				continue
			}
			leaf, err := x509.ParseCertificate(c.Chain[0])
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			kept[string(leaf.RawSubjectPublicKeyInfo)] = true
		}
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	n := 0
	for _, key := range seen.finalized {
		if !kept[string(key)] {
			n++
		}
	}
	return n
}

// TestChecksOfTestKill shows that what TestKill looks for would be found.
func TestChecksOfTestKill(t *testing.T) {
	k := newKept(t)
	k.obtain(t)
	s := store.NewDir(k.dir)
	for key := range checkStore(t, k.dir) {
		value, _, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, torn := range [][]byte{value[:len(value)/2], value[:len(value)-1], append(value[:len(value):len(value)], value...)} {
			if _, err := decode(key, torn); err == nil {
				t.Errorf("a torn %s decodes: %q", key, torn)
			}
		}
	}
	if n := lost(t, k.seen, checkStore(t, k.dir)); n != 0 {
		t.Errorf("%d certificates are lost, want none", n)
	}
	if n := lost(t, k.seen, nil); n != 1 {
		t.Errorf("%d certificates are lost without any Set, want 1", n)
	}
}
