package live

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// fallbackFor returns the certificate for name, and its leaf.
func fallbackFor(t *testing.T, f *Fallback, name string, now time.Time) (*tls.Certificate, *x509.Certificate) {
	t.Helper()
	certificate, err := f.Certificate(name, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return certificate, leaf
}

func TestFallback(t *testing.T) {
	var f Fallback
	now := time.Now()
	for _, test := range []struct{ name, covers string }{
		{"example.com", "example.com"},
		{"Example.COM.", "example.com"},
		{"*.example.com", "www.example.com"},
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8::1", "2001:db8::1"},
		{"", ""},
	} {
		t.Run("covers "+test.name, func(t *testing.T) {
			_, leaf := fallbackFor(t, &f, test.name, now)
			if test.covers != "" {
				if err := leaf.VerifyHostname(test.covers); err != nil {
					t.Error(err)
				}
			}
			if got := len(leaf.DNSNames) + len(leaf.IPAddresses); got > 1 {
				t.Errorf("got %d names, want at most one", got)
			}
			if got := leaf.Subject.CommonName; got != fallbackName {
				t.Errorf("got common name %q, want %q", got, fallbackName)
			}
			if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
				t.Errorf("is not self-signed: %v", err)
			}
			if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("is a CA: %v, key usage %v, want no CA that signs handshakes", leaf.IsCA, leaf.KeyUsage)
			}
			if got, want := leaf.NotAfter.Sub(leaf.NotBefore), 14*24*time.Hour; got != want {
				t.Errorf("lives for %v, want %v", got, want)
			}
		})
	}
}

func TestFallbackHasOneKeyAndOneCertificateForEachName(t *testing.T) {
	var f Fallback
	now := time.Now()
	a, aLeaf := fallbackFor(t, &f, "a.example", now)
	b, bLeaf := fallbackFor(t, &f, "b.example", now)
	if a.PrivateKey != b.PrivateKey {
		t.Error("two names have two keys, want one")
	}
	if aLeaf.SerialNumber.Cmp(bLeaf.SerialNumber) == 0 {
		t.Error("two certificates have one serial number")
	}
	if again, _ := fallbackFor(t, &f, "A.example.", now); again != a {
		t.Error("a second hello got another certificate, want the same")
	}
	var other Fallback
	if c, _ := fallbackFor(t, &other, "a.example", now); c.PrivateKey == a.PrivateKey {
		t.Error("two Fallbacks have the same key")
	}
}

func TestFallbackIsMadeAnew(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		it    string
		after time.Duration
		same  bool
	}{
		{"not at once", 0, true},
		{"not within the first days", 6 * 24 * time.Hour, true},
		{"when half its life is over", 7 * 24 * time.Hour, false},
		{"when it has expired", 365 * 24 * time.Hour, false},
		{"when the clock was set back", -2 * time.Hour, false},
	} {
		t.Run(test.it, func(t *testing.T) {
			var f Fallback
			now := start.Add(test.after)
			first, _ := fallbackFor(t, &f, "example.com", start)
			second, leaf := fallbackFor(t, &f, "example.com", now)
			if got := first == second; got != test.same {
				t.Errorf("got the same certificate: %v, want %v", got, test.same)
			}
			if now.Before(leaf.NotBefore) || leaf.NotAfter.Sub(now) < fallbackReserve {
				t.Errorf("at %v it is valid from %v to %v, want it in date for some days", now, leaf.NotBefore, leaf.NotAfter)
			}
			if got := len(f.minted); got != 1 {
				t.Errorf("got %d certificates kept, want 1", got)
			}
		})
	}
}

func TestFallbackIsBounded(t *testing.T) {
	var f Fallback
	now := time.Now()
	for i := range maxFallbacks + 20 {
		fallbackFor(t, &f, fmt.Sprintf("n%d.example", i), now)
	}
	if got := len(f.minted); got != maxFallbacks {
		t.Errorf("got %d certificates kept, want %d", got, maxFallbacks)
	}
	last := fmt.Sprintf("n%d.example", maxFallbacks+19)
	if _, ok := f.minted[last]; !ok {
		t.Error("the last certificate was not kept")
	}
}

func TestFallbackForManyAtOnce(t *testing.T) {
	var f Fallback
	now := time.Now()
	var wg sync.WaitGroup
	got := make([]*tls.Certificate, 32)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = f.Certificate("example.com", now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != got[0] {
			t.Fatalf("hello %d got another certificate than hello 0, want one minted for all", i)
		}
	}
}

func TestFallbackRefuses(t *testing.T) {
	var f Fallback
	for _, name := range []string{"ä.example", strings.Repeat("a", maxName+1)} {
		c, err := f.Certificate(name, time.Now())
		if err == nil || c != nil {
			t.Errorf("for %.20q got %v and error %v, want an error", name, c != nil, err)
		}
	}
	if got := len(f.minted); got != 0 {
		t.Errorf("got %d places kept for names that have no certificate, want none", got)
	}
}

// FuzzFallback checks that no name breaks anything.
func FuzzFallback(f *testing.F) {
	for _, name := range []string{"example.com", "*.example.com", "", ".", "192.0.2.1", "fe80::1%eth0", "\x00", "ä.example"} {
		f.Add(name)
	}
	var fallback Fallback
	f.Fuzz(func(t *testing.T, name string) {
		c, err := fallback.Certificate(name, time.Now())
		if err != nil {
			return
		}
		if _, err := x509.ParseCertificate(c.Certificate[0]); err != nil {
			t.Errorf("the certificate for %q cannot be parsed: %v", name, err)
		}
	})
}

func BenchmarkFallback(b *testing.B) {
	var f Fallback
	now := time.Now()
	b.Run("minted", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := f.Certificate(fmt.Sprint("n", i), now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("found", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Certificate("example.com", now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
