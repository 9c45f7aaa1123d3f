package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/store"
)

// readCounter is a Store that counts what is read.
type readCounter struct {
	store.Memory
	reads atomic.Int64
}

// Get implements store.Store.
func (s *readCounter) Get(ctx context.Context, key string) ([]byte, store.Version, error) {
	s.reads.Add(1)
	return s.Memory.Get(ctx, key)
}

// List implements store.Store.
func (s *readCounter) List(ctx context.Context, prefix string) iter.Seq2[store.Item, error] {
	s.reads.Add(1)
	return s.Memory.List(ctx, prefix)
}

// Scan implements store.Scanner.
func (s *readCounter) Scan(ctx context.Context, prefix string) iter.Seq2[store.Entry, error] {
	s.reads.Add(1)
	return s.Memory.Scan(ctx, prefix)
}

// besieged is a Manager that serves example.test and names on demand.
type besieged struct {
	*place
	m     *md.Manager
	ca    *localca.CA
	seen  *witness
	store *readCounter
	asked atomic.Int64 // questions to OnDemand
}

// besiege starts a Manager with an OnDemand, and waits until example.test is
// served.
func besiege(t *testing.T, onDemand func(ctx context.Context, name string) error) *besieged {
	t.Helper()
	b := &besieged{place: newPlace(t), seen: new(witness), store: new(readCounter)}
	b.ca = b.startCA(t, localca.Config{Wrap: b.seen.wrap})
	b.m = &md.Manager{
		Domains: []md.Domain{{Names: []string{"example.test"}}}, AcceptTerms: true, Store: b.store, Default: md.Domain{CAs: at(b.ca)},
		OnDemand: func(ctx context.Context, name string, _ *tls.ClientHelloInfo) (md.Domain, error) {
			b.asked.Add(1)
			return md.Domain{}, onDemand(ctx, name)
		},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), // each unknown name is a line on the debug level
	}
	b.run(t, b.m)
	ready(t, b.m)
	waitFor(t, func() bool { return atRest(b.m) })
	return b
}

// shake makes one handshake for name from a loopback address. Written, if not
// nil, is called when the ClientHello is sent.
func (b *besieged) shake(name, from string, written func()) ([]*x509.Certificate, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	plain, err := dialer.Dial("tcp", b.address())
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	conn := tls.Client(&announcing{Conn: plain, written: written}, &tls.Config{
		ServerName: name, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}, // cheap for the attackers
	})
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates, nil
}

// announcing is a connection that tells of its first write.
type announcing struct {
	net.Conn
	written func()
}

// Write implements net.Conn.
func (a *announcing) Write(p []byte) (int, error) {
	n, err := a.Conn.Write(p)
	if a.written != nil {
		a.written()
		a.written = nil
	}
	return n, err
}

// attackers are the addresses from which attacks come.
func attackers() []string {
	if runtime.GOOS != "linux" { // others have one address of loopback only
		return []string{"127.0.0.1"}
	}
	return []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}
}

// cost is what an attack costs this process, clients included.
type cost struct {
	goroutines int   // more than before, at most
	heap       int64 // bytes more than before, when it is over
	reads      int64 // of the Store
	asked      int64 // questions to OnDemand
}

// during measures what attack costs. All the while, clients that want
// example.test must get its certificate.
func (b *besieged) during(t *testing.T, attack func()) cost {
	t.Helper()
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	reads, asked := b.store.reads.Load(), b.asked.Load()
	var watching sync.WaitGroup
	over := make(chan struct{})
	peak, visits := goroutines, 0
	watching.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, runtime.NumGoroutine())
			case <-over:
				return
			}
		}
	})
	watching.Go(func() {
		for ; ; visits++ {
			b.visit(t)
			select {
			case <-over:
				return
			default:
			}
		}
	})
	attack()
	close(over)
	watching.Wait()
	c := cost{goroutines: peak - goroutines, heap: heapInUse() - heap, reads: b.store.reads.Load() - reads, asked: b.asked.Load() - asked}
	t.Logf("%d goroutines more at most; %d kB of heap more when it was over; %d reads of the Store; %d questions to OnDemand; %d visits meanwhile",
		c.goroutines, c.heap>>10, c.reads, c.asked, visits+1)
	return c
}

// visit makes a handshake as an honest client of example.test.
func (b *besieged) visit(t *testing.T) {
	conn, err := tls.Dial("tcp", b.address(), &tls.Config{ServerName: "example.test", RootCAs: b.ca.Roots()})
	if err != nil {
		t.Errorf("during the attack, connecting to example.test: %v", err)
		return
	}
	conn.Close()
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyUnknownNames has a few clients make handshakes for very many names
// that nobody wants.
func TestManyUnknownNames(t *testing.T) {
	handshakes := 10_000
	if testing.Short() {
		handshakes = 2_000
	}
	const clients = 64
	b := besiege(t, func(context.Context, string) error { return md.ErrNotManaged })
	cost := b.during(t, func() {
		var next atomic.Int64
		var attacking sync.WaitGroup
		for client := range clients {
			from := attackers()[client%len(attackers())]
			attacking.Go(func() {
				for i := next.Add(1); i <= int64(handshakes); i = next.Add(1) {
					_, err := b.shake(fmt.Sprintf("host.attack-%d.test", i), from, nil)
					if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
						t.Errorf("a handshake for a name that nobody wants ended with %v, want the alert unrecognized_name", err)
						return
					}
				}
			})
		}
		attacking.Wait()
	})
	if limit := 16 * clients; cost.goroutines > limit {
		t.Errorf("%d clients at a time cost %d goroutines, more than %d", clients, cost.goroutines, limit)
	}
	if limit := int64(16 << 20); cost.heap > limit {
		t.Errorf("%d bytes stay, more than %d", cost.heap, limit)
	}
	// 32 questions a minute for each client: minutes, not handshakes, count.
	if limit := int64(handshakes) / 2; cost.asked > limit || cost.asked < 1 {
		t.Errorf("OnDemand was asked %d times, want at most %d", cost.asked, limit)
	}
	if limit := int64(200); cost.reads > limit {
		t.Errorf("the Store was read %d times, more than %d", cost.reads, limit)
	}
	if got := b.m.UnknownNames(); got < uint64(handshakes) {
		t.Errorf("%d handshakes for unknown names are counted, want %d", got, handshakes)
	}
	if _, _, orders := b.seen.counts(); orders != 1 {
		t.Errorf("%d orders were made, want 1, for example.test", orders)
	}
}

// TestOneSlowName has many clients want one name of which OnDemand thinks for
// a while.
func TestOneSlowName(t *testing.T) {
	const name, handshakes = "slow.test", 1_000
	sent := make(chan struct{}) // closed when all hellos are
	var left, certified, fallback, failed atomic.Int64
	left.Store(handshakes)
	b := besiege(t, func(ctx context.Context, _ string) error {
		select {
		case <-sent:
		case <-ctx.Done(): // so busy is the machine
		}
		return nil
	})
	cost := b.during(t, func() {
		var waiting sync.WaitGroup
		for i := range handshakes {
			waiting.Go(func() {
				tell := sync.OnceFunc(func() {
					if left.Add(-1) == 0 {
						close(sent)
					}
				})
				defer tell() // if it could not connect
				certs, err := b.shake(name, attackers()[i%len(attackers())], tell)
				switch {
				case err != nil:
					failed.Add(1)
				case verifies(certs, b.ca.Roots()):
					certified.Add(1)
				default:
					fallback.Add(1)
				}
			})
		}
		waiting.Wait()
	})
	t.Logf("%d clients got the certificate, %d the fallback, %d neither", certified.Load(), fallback.Load(), failed.Load())
	if limit := 10 * handshakes; cost.goroutines > limit {
		t.Errorf("%d clients cost %d goroutines, more than %d", handshakes, cost.goroutines, limit)
	}
	if limit := int64(64 << 20); cost.heap > limit {
		t.Errorf("%d bytes stay, more than %d", cost.heap, limit)
	}
	// Clients that give up let the next one ask.
	if cost.asked < 1 || cost.asked > 1+failed.Load() {
		t.Errorf("OnDemand was asked %d times, want once", cost.asked)
	}
	if limit := int64(200); cost.reads > limit {
		t.Errorf("the Store was read %d times, more than %d", cost.reads, limit)
	}
	waitFor(t, func() bool {
		certs, err := b.shake(name, "127.0.0.1", nil)
		return err == nil && verifies(certs, b.ca.Roots())
	})
	if _, _, orders := b.seen.counts(); orders != 2 {
		t.Errorf("%d orders were made, want 2", orders)
	}
}

// verifies reports whether a chain leads to one of roots.
func verifies(chain []*x509.Certificate, roots *x509.CertPool) bool {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err == nil
}
