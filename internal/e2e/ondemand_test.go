package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/internal/engine"
)

// customers allow the names that are in it, on demand.
type customers struct {
	mu    sync.Mutex
	names map[string]bool
	fails error
	asked []string // "name" with a hello, "name again" without
}

func newCustomers(names ...string) *customers {
	c := &customers{names: make(map[string]bool)}
	for _, n := range names {
		c.names[n] = true
	}
	return c
}

func (c *customers) allow(_ context.Context, name string, hello *tls.ClientHelloInfo) (md.Domain, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if hello == nil {
		name += " again"
	}
	c.asked = append(c.asked, name)
	name, _, _ = strings.Cut(name, " ")
	switch {
	case c.fails != nil:
		return md.Domain{}, c.fails
	case !c.names[name]:
		return md.Domain{}, md.ErrNotManaged
	}
	return md.Domain{}, nil
}

func (c *customers) set(name string, allowed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names[name] = allowed
}

// hourly has the clock looked at each hour, for tests that take months.
func hourly() context.Context {
	return engine.WithKnobs(context.Background(), engine.Knobs{Tick: time.Hour})
}

// count tells how often question was asked.
func (c *customers) count(question string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(c.asked), func(q string) bool { return q != question }))
}

func TestANameIsHadOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers("shop.test")
		m := w.manager(md.Domain{Names: []string{"example.test"}})
		m.OnDemand = c.allow
		n := w.start(m)
		defer n.stopped()
		n.ready(time.Minute)

		// Many handshakes at once: one question, one certificate.
		var clients sync.WaitGroup
		var served atomic.Int32
		for range 20 {
			clients.Go(func() {
				if _, err := w.serial("shop.test"); err != nil {
					t.Errorf("the handshake failed: %v", err)
					return
				}
				served.Add(1)
			})
		}
		clients.Wait()
		if got := served.Load(); got != 20 {
			t.Errorf("%d clients got the certificate, want 20", got)
		}
		if got := c.count("shop.test"); got != 1 {
			t.Errorf("OnDemand was asked %d times, want once", got)
		}
		if got := len(w.ca.Certificates()); got != 2 {
			t.Errorf("the CA has issued %d certificates, want 2", got)
		}
		if _, err := w.serial("other.test"); err == nil {
			t.Error("a name that nobody wants was served")
		}
		if _, err := w.serial("example.test"); err != nil {
			t.Errorf("the declared name: %v", err)
		}
	})
}

func TestARefusedNameIsNotAskedForAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers()
		m := w.manager()
		m.OnDemand = c.allow
		n := w.start(m)
		defer n.stopped()
		for range 10 {
			if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "no.test"}); !errors.Is(err, md.ErrNotManaged) {
				t.Fatalf("got %v, want ErrNotManaged", err)
			}
		}
		if got := c.count("no.test"); got != 1 {
			t.Errorf("asked %d times within a moment, want once", got)
		}
		time.Sleep(61 * time.Second)
		c.set("no.test", true)
		if _, err := w.serial("no.test"); err != nil {
			t.Errorf("a minute later, and allowed by then: %v", err)
		}
	})
}

func TestOnDemandHangsOrPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := make(chan struct{})
		m := w.manager(md.Domain{Names: []string{"example.test"}})
		m.OnDemand = func(_ context.Context, name string, _ *tls.ClientHelloInfo) (md.Domain, error) {
			if name == "hang.test" {
				<-release
			}
			panic("no database")
		}
		n := w.start(m)
		n.ready(time.Minute)
		for _, name := range []string{"hang.test", "panic.test"} {
			if _, err := w.serial(name); err == nil {
				t.Errorf("%s was served", name)
			}
		}
		if _, err := w.serial("example.test"); err != nil {
			t.Errorf("another name: %v", err)
		}
		close(release)
		synctest.Wait()
		n.stopped()
	})
}

func TestANameOnDemandFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers("shop.test")
		c.fails = errors.New("the database is away")
		m := w.manager()
		m.OnDemand = c.allow
		n := w.start(m)
		defer n.stopped()
		if _, err := w.serial("shop.test"); err == nil {
			t.Error("served although nobody could say so")
		}
		c.mu.Lock()
		c.fails = nil
		c.mu.Unlock()
		time.Sleep(6 * time.Second)
		if _, err := w.serial("shop.test"); err != nil {
			t.Errorf("seconds later: %v", err)
		}
	})
}

func TestWhatWasHadOnDemandIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers("shop.test")
		m := w.manager()
		m.OnDemand = c.allow
		n := w.startIn(hourly(), m)
		before, err := w.serial("shop.test")
		if err != nil {
			t.Fatal(err)
		}
		n.stopped()

		// The database is away at the restart: what is there is served.
		c.fails = errors.New("the database is away")
		m = w.manager()
		m.OnDemand = c.allow
		if err := m.Load(context.Background()); err != nil {
			t.Fatal(err)
		}
		n = w.startIn(hourly(), m)
		defer func() { n.stopped() }()
		after, err := w.serial("shop.test")
		if err != nil || after != before {
			t.Errorf("after the restart: serial %s, %v; want %s", after, err, before)
		}
		if got := c.count("shop.test"); got != 1 {
			t.Errorf("asked %d times in handshakes, want once", got)
		}
		time.Sleep(2 * time.Hour)
		if got := c.count("shop.test again"); got == 0 {
			t.Error("OnDemand was not asked again after the restart")
		}
		c.mu.Lock()
		c.fails = nil
		c.mu.Unlock()

		// It is renewed while somebody uses it.
		for range 80 {
			time.Sleep(day)
			if _, err := w.serial("shop.test"); err != nil {
				t.Fatal(err)
			}
		}
		if after, _ = w.serial("shop.test"); after == before {
			t.Error("it was not renewed although clients use it")
		}

		// Nobody does any more: it is not renewed, and forgotten when it expires.
		issued := len(w.ca.Certificates())
		time.Sleep(100 * day)
		if got := len(w.ca.Certificates()); got > issued+1 {
			t.Errorf("%d certificates were ordered for nobody", got-issued)
		}
		time.Sleep(100 * day)
		for item, err := range w.store.List(context.Background(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(item.Key, "domains/") || strings.HasPrefix(item.Key, "declared/") || strings.HasPrefix(item.Key, "jobs/") {
				t.Errorf("%s is still there", item.Key)
			}
		}
		if _, err := w.serial("shop.test"); err != nil {
			t.Errorf("wanted again: %v", err)
		}
	})
}

// The validators reach the second node, which has not heard of the name; then
// a client comes to it.
func TestANameOnDemandWithTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers("shop.test")
		first, second := w.manager(), w.manager()
		first.OnDemand, second.OnDemand = c.allow, c.allow
		one := w.start(first)
		defer one.stopped()
		two := w.start(second)
		defer two.stopped()
		synctest.Wait()
		before := leafOf(t, first, "shop.test")
		if after := leafOf(t, second, "shop.test"); !before.Equal(after) {
			t.Error("the second node serves another certificate")
		}
		if got := len(w.ca.Orders()); got != 1 {
			t.Errorf("%d orders, want 1", got)
		}
	})
}

func TestOnDemandEndsADomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers("shop.test")
		m := w.manager()
		m.OnDemand = c.allow
		n := w.startIn(hourly(), m)
		defer n.stopped()
		if _, err := w.serial("shop.test"); err != nil {
			t.Fatal(err)
		}
		c.set("shop.test", false)
		for range 70 {
			time.Sleep(day)
			_, _ = w.serial("shop.test")
		}
		if got := len(w.ca.Certificates()); got != 1 {
			t.Errorf("%d certificates, want 1: it was not renewed", got)
		}
		if _, err := w.serial("shop.test"); err == nil {
			t.Error("still served although OnDemand has ended it")
		}
	})
}

func TestADeclaredDomainTakesOverFromOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := newCustomers("shop.test")
		m := w.manager()
		m.OnDemand = c.allow
		n := w.startIn(hourly(), m)
		defer n.stopped()
		before, err := w.serial("shop.test")
		if err != nil {
			t.Fatal(err)
		}
		for _, names := range [][]string{{"shop.test"}, {"www.shop.test", "shop.test"}} {
			if err := m.Update(context.Background(), []md.Domain{{Names: names}}); err != nil {
				t.Fatal(err)
			}
			if after, err := w.serial("shop.test"); err != nil || after != before {
				t.Errorf("%v declared: serial %s, %v; want %s", names, after, err, before)
			}
		}
		n.ready(time.Minute)
		if _, err := w.serial("www.shop.test"); err != nil {
			t.Error(err)
		}
	})
}

func TestNamesThatOnDemandIsNotAskedFor(t *testing.T) {
	c := newCustomers()
	m := &md.Manager{OnDemand: c.allow}
	for _, name := range []string{
		"localhost", "192.0.2.1", "2001:db8::1", "www.www.example.com", "a.b.b.example.com", "x..example.com", ".example.com",
		"under_score.example.com", "-a.example.com", "a-.example.com", "*.example.com", "a.b.1", strings.Repeat("a.", 130) + "test",
		strings.Repeat("a", 64) + ".test", "ex ample.test", "\x00.test", "ünï.test",
	} {
		if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); !errors.Is(err, md.ErrNotManaged) {
			t.Errorf("%q: got %v, want ErrNotManaged", name, err)
		}
	}
	if len(c.asked) > 0 {
		t.Errorf("OnDemand was asked for %q", c.asked)
	}
}

// from is a connection from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func TestOnDemandUnderAttack(t *testing.T) {
	c := newCustomers()
	m := &md.Manager{OnDemand: c.allow}
	hello := func(name, ip string) error {
		_, err := m.GetCertificate(&tls.ClientHelloInfo{
			ServerName: name, Conn: from{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}},
		})
		return err
	}
	for i := range 10_000 { // one client
		if err := hello(fmt.Sprintf("n%d.site%d.test", i, i), "192.0.2.7"); !errors.Is(err, md.ErrNotManaged) {
			t.Fatalf("got %v, want ErrNotManaged", err)
		}
	}
	if got := len(c.asked); got > 33 {
		t.Errorf("one client had OnDemand asked %d times, want about 32", got)
	}
	c.asked = nil
	for i := range 10_000 { // many clients, one registered domain
		_ = hello(fmt.Sprintf("n%d.victim.test", i), fmt.Sprintf("198.51.%d.%d", i/256%256, i%256))
	}
	if got := len(c.asked); got > 65 {
		t.Errorf("names below one domain had OnDemand asked %d times, want about 64", got)
	}
	c.asked = nil
	for i := range 1000 { // one network of IPv6
		_ = hello(fmt.Sprintf("n%d.six%d.test", i, i), fmt.Sprintf("2001:db8::%x", i))
	}
	if got := len(c.asked); got > 33 {
		t.Errorf("one IPv6 network had OnDemand asked %d times, want about 32", got)
	}
}
