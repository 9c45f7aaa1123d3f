package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manageddomains/md"
)

// pair is a certificate and a key in files.
type pair struct {
	t         *testing.T
	cert, key string
}

func newPair(t *testing.T) *pair {
	dir := t.TempDir()
	return &pair{t: t, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
}

// mint makes a certificate and its key, as PEM.
func mint(t *testing.T, serial int64, life time.Duration, names ...string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "somebody"}, DNSNames: names,
		NotBefore: time.Now(), NotAfter: time.Now().Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (p *pair) write(cert, key []byte) {
	p.t.Helper()
	for name, data := range map[string][]byte{p.cert: cert, p.key: key} {
		if data == nil {
			continue
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			p.t.Fatal(err)
		}
		// The bubble's clock tells the file system nothing.
		if err := os.Chtimes(name, time.Now(), time.Now()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// servedSerial is the serial number of what m serves for name, zero for the
// fallback and for nothing.
func servedSerial(t *testing.T, m *md.Manager, name string) int64 {
	t.Helper()
	cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		return 0
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.SerialNumber.IsInt64() {
		return 0
	}
	return leaf.SerialNumber.Int64()
}

func TestFilesAreServedWatchedAndWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := newPair(t)
		p.write(mint(t, 1, 40*day, "example.test"))
		m := w.manager(md.Domain{Names: []string{"example.test"}, CertFiles: []string{p.cert}, KeyFiles: []string{p.key}})
		var expiring int
		var installed []string // serial numbers
		m.Notifier = md.NotifierFunc(func(_ context.Context, e md.Event) error {
			switch e.Kind {
			case "expiring":
				expiring++
			case "installed":
				installed = append(installed, e.Certificates[0].Serial)
			}
			return nil
		})
		if err := m.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := w.start(m)
		defer n.stopped()
		n.ready(time.Minute)
		if got := servedSerial(t, m, "example.test"); got != 1 {
			t.Errorf("serial %d is served, want 1", got)
		}
		if r := n.report("example.test"); len(r.Certificates) != 1 || r.State != "good" {
			t.Errorf("the status has %+v", r)
		}
		time.Sleep(2 * time.Minute)

		cert, key := mint(t, 2, 40*day, "example.test")
		p.write(cert, nil) // half of it
		time.Sleep(2 * time.Minute)
		if got := servedSerial(t, m, "example.test"); got != 1 {
			t.Errorf("half-written: serial %d is served, want 1", got)
		}
		if reason := n.report("example.test").Reason; !strings.Contains(reason, "does not match") {
			t.Errorf("the status says %q", reason)
		}
		p.write(nil, key)
		time.Sleep(2 * time.Minute)
		if got := servedSerial(t, m, "example.test"); got != 2 {
			t.Errorf("serial %d is served, want 2", got)
		}
		synctest.Wait()
		if !slices.Equal(installed, []string{"02"}) {
			t.Errorf("the Notifier was told that %q are served, want 02: what has changed", installed)
		}

		time.Sleep(35 * day)
		synctest.Wait()
		if expiring != 0 {
			t.Errorf("warned %d times before the last tenth of the life", expiring)
		}
		time.Sleep(3 * day)
		synctest.Wait()
		if expiring == 0 {
			t.Error("nobody was warned")
		}
		os.Remove(p.cert)
		time.Sleep(2 * time.Minute)
		if got := servedSerial(t, m, "example.test"); got != 2 {
			t.Errorf("with the file gone and nothing ordered: serial %d is served, want 2", got)
		}
		if got := len(w.ca.Orders()); got != 0 {
			t.Errorf("%d orders were made", got)
		}
	})
}

func TestWhatWasOrderedTakesOverFromFiles(t *testing.T) {
	for name, end := range map[string]func(p *pair){
		"gone":    func(p *pair) { os.Remove(p.cert); os.Remove(p.key) },
		"expired": func(*pair) { time.Sleep(30 * day) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p := newPair(t)
				p.write(mint(t, 1, 30*day, "example.test"))
				m := w.manager(md.Domain{
					Names: []string{"example.test"}, RenewMode: md.RenewAlways,
					CertFiles: []string{p.cert}, KeyFiles: []string{p.key},
				})
				n := w.start(m)
				defer n.stopped()
				time.Sleep(time.Hour)
				if got := len(w.ca.Certificates()); got != 1 {
					t.Errorf("%d certificates were ordered, want 1", got)
				}
				if got := servedSerial(t, m, "example.test"); got != 1 {
					t.Errorf("serial %d is served, want that of the files", got)
				}
				end(p)
				time.Sleep(2 * time.Minute)
				if _, err := w.serial("example.test"); err != nil {
					t.Errorf("what was ordered is not served: %v", err)
				}
			})
		})
	}
}

func TestFilesThatCannotBeUsedAreConfigErrors(t *testing.T) {
	p, other := newPair(t), newPair(t)
	p.write(mint(t, 1, day, "example.test"))
	other.write(mint(t, 2, day, "example.test"))
	empty := newPair(t)
	empty.write([]byte{}, []byte{})
	for _, test := range []struct {
		name        string
		certs, keys []string
		want        string
	}{
		{"no key", []string{p.cert}, nil, "there are 1, but 0 KeyFiles"},
		{"no certificate", nil, []string{p.key}, "there are 0, but 1 KeyFiles"},
		{"a name is empty", []string{""}, []string{p.key}, "number 1 has no name"},
		{"not there", []string{p.cert + "x"}, []string{p.key}, "no such file"},
		{"a directory", []string{filepath.Dir(p.cert)}, []string{p.key}, "is not a regular file"},
		{"mismatched", []string{p.cert}, []string{other.key}, "does not match"},
		{"empty", []string{empty.cert}, []string{empty.key}, "failed to find"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newWorld(t).manager(md.Domain{Names: []string{"example.test"}, CertFiles: test.certs, KeyFiles: test.keys})
			err := m.Load(t.Context())
			var config *md.ConfigError
			if !errors.As(err, &config) || config.Domain != "example.test" || config.Field != "CertFiles" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a ConfigError for CertFiles with %q", err, test.want)
			}
		})
	}
}

func TestAnUpdateBringsOtherFiles(t *testing.T) {
	p, other := newPair(t), newPair(t)
	p.write(mint(t, 1, day, "example.test"))
	other.write(mint(t, 2, day, "example.test"))
	domain := md.Domain{Names: []string{"example.test"}, CertFiles: []string{p.cert}, KeyFiles: []string{p.key}}
	m := newWorld(t).manager(domain)
	if err := m.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	domain.CertFiles, domain.KeyFiles = []string{other.cert}, []string{other.key}
	if err := m.Update(t.Context(), []md.Domain{domain}); err != nil {
		t.Fatal(err)
	}
	if got := servedSerial(t, m, "example.test"); got != 2 {
		t.Errorf("serial %d is served after the Update, want 2", got)
	}
	domain.KeyFiles = []string{p.key}
	var config *md.ConfigError
	if err := m.Update(t.Context(), []md.Domain{domain}); !errors.As(err, &config) {
		t.Errorf("files that do not match: got %v, want a ConfigError", err)
	}
}

func TestRenewManual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.manager(md.Domain{Names: []string{"example.test"}, RenewMode: md.RenewManual})
		n := w.startIn(hourly(), m)
		defer n.stopped()
		time.Sleep(day)
		if got := len(w.ca.Orders()); got != 0 {
			t.Errorf("%d orders without being asked, want none", got)
		}
		if err := m.Renew(t.Context(), "example.test"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.serial("example.test"); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * day)
		if got := len(w.ca.Orders()); got != 1 {
			t.Errorf("%d orders, want 1", got)
		}
	})
}
