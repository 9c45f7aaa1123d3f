package integration

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/store"
)

// certificates is how many certificates each round of BenchmarkObtain gets,
// and workers how many orders the floor has under way at once: as many as a
// Manager has at one CA.
const (
	certificates = 100
	workers      = 32
)

// memory is a Store that counts its Puts.
type memory struct {
	store.Memory
	puts atomic.Int64
}

// Put implements store.Store.
func (m *memory) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	m.puts.Add(1)
	return m.Memory.Put(ctx, key, value, old)
}

// dir is a Store that counts its Puts.
type dir struct {
	*store.Dir
	puts atomic.Int64
}

// Put implements store.Store.
func (d *dir) Put(ctx context.Context, key string, value []byte, old store.Version) (store.Version, error) {
	d.puts.Add(1)
	return d.Dir.Put(ctx, key, value, old)
}

// BenchmarkObtain measures how long a Manager takes to get certificates for
// 100 Domains of one name each, from an empty Store, from a CA in process
// that validates at once. Each round is run beside its floor: the same
// requests made by a bare loop (see bare). Reported are both times, their
// ratio, and the Store's Puts for each certificate.
func BenchmarkObtain(b *testing.B) {
	for _, kind := range []struct {
		name       string
		challenger md.Challenger
	}{
		{"http-01", &md.HTTP01{}},
		{"tls-alpn-01", &md.TLSALPN01{}},
	} {
		b.Run("memory/"+kind.name, func(b *testing.B) {
			benchmarkObtain(b, kind.name, kind.challenger, func() (md.Store, *atomic.Int64) {
				s := new(memory)
				return s, &s.puts
			})
		})
		b.Run("dir/"+kind.name, func(b *testing.B) {
			benchmarkObtain(b, kind.name, kind.challenger, func() (md.Store, *atomic.Int64) {
				s := &dir{Dir: store.NewDir(filepath.Join(b.TempDir(), "store"))}
				return s, &s.puts
			})
		})
	}
}

func benchmarkObtain(b *testing.B, challengeType string, challenger md.Challenger, open func() (md.Store, *atomic.Int64)) {
	var floor, ours time.Duration
	var puts int64
	rounds := 0
	f, p := startBare(b, challengeType), newPlace(b)
	for b.Loop() {
		rounds++
		b.StopTimer()
		ca := startCA(b, localca.Config{HTTPPort: port(f.plain), TLSPort: port(f.secure)})
		began := time.Now()
		if err := f.obtain(b.Context(), ca, manyNames(certificates), workers); err != nil {
			b.Fatal(err)
		}
		floor += time.Since(began)

		s, counted := open()
		m := &md.Manager{
			Default:     md.Domain{CAs: at(p.startCA(b, localca.Config{})), Challengers: []md.Challenger{challenger}},
			AcceptTerms: true, Store: s, Logger: slog.New(slog.DiscardHandler),
		}
		for _, name := range manyNames(certificates) {
			m.Domains = append(m.Domains, md.Domain{Names: []string{name}})
		}
		b.StartTimer()
		began = time.Now()
		stop := p.run(b, m)
		ready(b, m)
		ours += time.Since(began)
		b.StopTimer()
		stop()
		puts += counted.Load()
		b.StartTimer()
	}
	b.ReportMetric(float64(floor.Milliseconds())/float64(rounds), "floor-ms")
	b.ReportMetric(float64(ours.Milliseconds())/float64(rounds), "manager-ms")
	b.ReportMetric(float64(ours)/float64(floor), "×floor")
	b.ReportMetric(float64(puts)/float64(rounds*certificates), "puts/cert")
}
