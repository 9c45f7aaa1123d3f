package acmetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lookAt makes the CA validate a name by one challenge, and returns the
// problem it found, or "".
func lookAt(t *testing.T, ca *CA, typ string, answer func(keyAuth string)) string {
	t.Helper()
	defer ca.Close()
	w := registered(t, ca)
	o := w.order(t, "example.com")
	for _, c := range w.post(t, o.doc.Authorizations[0], nil).doc.Challenges {
		if c.Type == typ {
			answer(c.Token + "." + thumbprint(w.key.Public()))
			w.post(t, c.URL, map[string]any{})
		}
	}
	for range 1000 {
		a := w.post(t, o.location(), nil)
		if a.is(pending) {
			continue
		}
		found := ca.Validations()
		if len(found) != 1 {
			t.Fatalf("%d validations, want 1", len(found))
		}
		if got, want := a.is(ready), found[0].Problem == ""; got != want {
			t.Errorf("the order is %v after problem %q", a.doc.Status, found[0].Problem)
		}
		if found[0].Problem != "" {
			authz := w.post(t, o.doc.Authorizations[0], nil)
			if !authz.is(invalid) || !strings.Contains(string(a.body), `"error"`) || !strings.Contains(string(authz.body), `"error"`) {
				t.Errorf("the problem is not told: order %s, authorization %s", a.body, authz.body)
			}
		}
		return found[0].Problem
	}
	t.Fatal("the validation does not end")
	return ""
}

func TestHTTP01(t *testing.T) {
	const path = "/.well-known/acme-challenge/"
	redirect := func(to string) func(string) http.HandlerFunc {
		return func(keyAuth string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/there" {
					fmt.Fprint(w, keyAuth)
					return
				}
				http.Redirect(w, r, to, http.StatusFound)
			}
		}
	}
	text := func(status int, body func(string) string) func(string) http.HandlerFunc {
		return func(keyAuth string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Host != "example.com" || !strings.HasPrefix(r.URL.Path, path) {
					t.Errorf("the validator asks %s for %s", r.Host, r.URL.Path)
				}
				w.WriteHeader(status)
				fmt.Fprint(w, body(keyAuth))
			}
		}
	}
	same := func(s string) string { return s }
	tests := []struct {
		name    string
		handler func(keyAuth string) http.HandlerFunc
		problem string
	}{
		{"accepts the key authorization", text(200, same), ""},
		{"accepts white space behind it", text(200, func(s string) string { return s + " \r\n\t" }), ""},
		{"refuses white space before it", text(200, func(s string) string { return " " + s }), unauthorized},
		{"refuses another body", text(200, func(string) string { return "hello\x1b[2J" }), unauthorized},
		{"refuses other statuses", text(404, same), unauthorized},
		{"refuses an endless body", text(200, func(s string) string { return s + strings.Repeat(" ", maxAnswer) }), connection},
		{"follows redirects to http", redirect("http://other.test/there"), ""},
		{"follows redirects within the site", redirect("/there"), ""},
		{"follows redirects to https", redirect("https://other.test/there"), ""},
		{"refuses redirects to other ports", redirect("http://other.test:8080/there"), connection},
		{"refuses redirects to other schemes", redirect("ftp://other.test/there"), connection},
		{"refuses redirects to addresses", redirect("http://127.0.0.1/there"), connection},
		{"refuses redirects in circles", redirect("/again"), connection},
		{"refuses redirects to nowhere", redirect("http://%zz/"), connection},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cert, err := new(CA).web.selfSigned()
				if err != nil {
					t.Fatal(err)
				}
				ca := &CA{TLS: &tls.Config{Certificates: []tls.Certificate{*cert}}}
				ca.HTTP = http.NotFoundHandler()
				got := lookAt(t, ca, typeHTTP01, func(keyAuth string) { ca.HTTP = tt.handler(keyAuth) })
				wantFinding(t, got, tt.problem)
			})
		})
	}
}

// selfSigned makes a certificate for sites that nobody verifies.
func (w *web) selfSigned() (*tls.Certificate, error) {
	root, err := w.authority()
	if err != nil {
		return nil, err
	}
	return root.serverCertificate()
}

func wantFinding(t *testing.T, got, typ string) {
	t.Helper()
	if typ == "" && got != "" || !strings.HasPrefix(got, typ) {
		t.Errorf("the CA finds %q, want %q", got, typ)
	}
}

// proof is what a tls-alpn-01 certificate says.
type proof struct {
	names      []string
	identifier []byte
	critical   bool
	signedBy   *ecdsa.PrivateKey
	issuer     string
	addresses  []net.IP
	protocol   string
}

func (p proof) config(t *testing.T) *tls.Config {
	key := ecdsaKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "proof"}, DNSNames: p.names, IPAddresses: p.addresses,
	}
	if p.identifier != nil {
		template.ExtraExtensions = []pkix.Extension{{Id: oidACMEIdentifier, Critical: p.critical, Value: p.identifier}}
	}
	parent, signer := *template, key
	if p.issuer != "" {
		parent.Subject = pkix.Name{CommonName: p.issuer}
	}
	if p.signedBy != nil {
		signer = p.signedBy
	}
	der, err := x509.CreateCertificate(rand.Reader, template, &parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		NextProtos:   []string{p.protocol},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

func TestTLSALPN01(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*proof)
		problem string
	}{
		{"accepts the certificate of RFC 8737", func(*proof) {}, ""},
		{"accepts the name in another case", func(p *proof) { p.names = []string{"Example.COM"} }, ""},
		{"refuses another name", func(p *proof) { p.names = []string{"other.test"} }, unauthorized},
		{"refuses more names", func(p *proof) { p.names = append(p.names, "other.test") }, unauthorized},
		{"refuses addresses beside the name", func(p *proof) { p.addresses = []net.IP{{127, 0, 0, 1}} }, unauthorized},
		{"refuses no name", func(p *proof) { p.names = nil }, unauthorized},
		{"refuses no acmeIdentifier", func(p *proof) { p.identifier = nil }, unauthorized},
		{"refuses an uncritical acmeIdentifier", func(p *proof) { p.critical = false }, unauthorized},
		{"refuses a wrong acmeIdentifier", func(p *proof) { p.identifier[5] ^= 1 }, unauthorized},
		{"refuses a bare hash", func(p *proof) { p.identifier = p.identifier[2:] }, unauthorized},
		{"refuses another issuer", func(p *proof) { p.issuer = "another" }, unauthorized},
		{"refuses another signer", func(p *proof) { p.signedBy = ecdsaKey(t) }, unauthorized},
		{"refuses no protocol", func(p *proof) { p.protocol = "" }, unauthorized},
		{"refuses another protocol", func(p *proof) { p.protocol = "h2" }, tlsProblem},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := &CA{TLS: &tls.Config{}}
				got := lookAt(t, ca, typeTLSALPN01, func(keyAuth string) {
					sum := sha256.Sum256([]byte(keyAuth))
					p := proof{names: []string{"example.com"}, identifier: append([]byte{4, 32}, sum[:]...), critical: true, protocol: acmeTLS1}
					tt.change(&p)
					ca.TLS = p.config(t)
					if p.protocol == "" {
						ca.TLS.NextProtos = nil
					}
				})
				wantFinding(t, got, tt.problem)
			})
		})
	}
}

func TestTLSALPN01BySNI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sni atomic.Value
		ca := &CA{TLS: &tls.Config{NextProtos: []string{acmeTLS1}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			sni.Store(h.ServerName + " " + strings.Join(h.SupportedProtos, ","))
			return nil, errors.New("none")
		}}}
		wantFinding(t, lookAt(t, ca, typeTLSALPN01, func(string) {}), tlsProblem)
		if got, want := sni.Load(), "example.com acme-tls/1"; got != want {
			t.Errorf("the hello has %q, want %q", got, want)
		}
	})
}

func TestDNS01(t *testing.T) {
	tests := []struct {
		name    string
		lookup  func(value string) ([]string, error)
		problem string
	}{
		{"accepts the record", func(v string) ([]string, error) { return []string{v}, nil }, ""},
		{"accepts it among others", func(v string) ([]string, error) { return []string{"a", v, "b"}, nil }, ""},
		{"refuses others", func(string) ([]string, error) { return []string{"a"}, nil }, unauthorized},
		{"refuses none", func(string) ([]string, error) { return nil, nil }, dnsProblem},
		{"refuses failures", func(string) ([]string, error) { return nil, errors.New("SERVFAIL") }, dnsProblem},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var value string
				ca := &CA{LookupTXT: func(_ context.Context, name string) ([]string, error) {
					if name != "_acme-challenge.example.com" {
						t.Errorf("the CA looks up %q", name)
					}
					return tt.lookup(value)
				}}
				got := lookAt(t, ca, typeDNS01, func(keyAuth string) { value = digestOf(keyAuth) })
				wantFinding(t, got, tt.problem)
			})
		})
	}
}

func TestUnreachableNames(t *testing.T) {
	tests := []struct {
		name    string
		dial    func(context.Context) (net.Conn, error)
		typ     string
		problem string
		took    time.Duration
	}{
		{"refuse connections", func(context.Context) (net.Conn, error) { return nil, errors.New("refused") }, typeHTTP01, connection, 0},
		{"do not exist", func(context.Context) (net.Conn, error) { return nil, &net.DNSError{Err: "no such host"} }, typeHTTP01, dnsProblem, 0},
		{"do not answer to http-01", silent, typeHTTP01, connection, 10 * time.Second},
		{"do not answer to tls-alpn-01", silent, typeTLSALPN01, connection, 10 * time.Second},
		{"swallow packets", func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, typeHTTP01, connection, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run("are those that "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := &CA{Dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
					if !strings.HasPrefix(addr, "example.com:") {
						t.Errorf("the CA dials %s", addr)
					}
					return tt.dial(ctx)
				}}
				start := time.Now()
				wantFinding(t, lookAt(t, ca, tt.typ, func(string) {}), tt.problem)
				if got := ca.Validations()[0].At.Sub(start); got != tt.took {
					t.Errorf("the validation took %v, want %v", got, tt.took)
				}
			})
		})
	}
}

// silent connects to a server that reads all and says nothing.
func silent(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		buffer := make([]byte, 512)
		for {
			if _, err := server.Read(buffer); err != nil {
				return
			}
		}
	}()
	return client, nil
}

func TestPerspectives(t *testing.T) {
	for failing, want := range map[int64]string{0: "", 3: unauthorized} {
		t.Run(fmt.Sprintf("%d of five see something else", failing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var value string
				var count, together atomic.Int64
				ca := &CA{Perspectives: 5, LookupTXT: func(context.Context, string) ([]string, error) {
					n := count.Add(1)
					together.Add(1)
					time.Sleep(time.Second) // so that all five are here at once
					if got := together.Load(); got != 5 {
						t.Errorf("%d look together, want 5", got)
					}
					if n == failing {
						return []string{"other"}, nil
					}
					return []string{value}, nil
				}}
				got := lookAt(t, ca, typeDNS01, func(keyAuth string) { value = digestOf(keyAuth) })
				wantFinding(t, got, want)
				if count.Load() != 5 {
					t.Errorf("%d looked, want 5", count.Load())
				}
				if want != "" && !strings.Contains(got, "of 5") {
					t.Errorf("%q does not say which perspective", got)
				}
			})
		})
	}
}

func TestChallengesAreValidatedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &CA{LookupTXT: func(context.Context, string) ([]string, error) {
			time.Sleep(3 * time.Second)
			return nil, nil
		}}
		defer ca.Close()
		w := registered(t, ca)
		o := w.order(t, "a.test")
		chal := w.post(t, o.doc.Authorizations[0], nil).doc.Challenges[0].URL
		for range 3 {
			if a := w.post(t, chal, map[string]any{}); !a.is(processing) {
				t.Errorf("an answered challenge is %v, want processing", a.doc.Status)
			}
		}
		start := time.Now()
		if a := w.post(t, o.doc.Authorizations[0], nil); !a.is(pending) || time.Since(start) != settleTime {
			t.Errorf("a look sees %v after %v, want pending after %v", a.doc.Status, time.Since(start), settleTime)
		}
		time.Sleep(3 * time.Second)
		if a := w.post(t, chal, map[string]any{}); !a.is(invalid) {
			t.Errorf("the failed challenge is %v, want invalid", a.doc.Status)
		}
		if got := len(ca.Validations()); got != 1 {
			t.Errorf("%d validations, want 1", got)
		}
	})
}

func TestCloseEndsValidations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := &CA{LookupTXT: func(ctx context.Context, _ string) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, ValidationTimeout: 24 * time.Hour}
		w := registered(t, ca)
		o := w.order(t, "a.test")
		w.post(t, w.post(t, o.doc.Authorizations[0], nil).doc.Challenges[0].URL, map[string]any{})
		ca.Close()
		ca.Close()
		if got := len(ca.Validations()); got != 1 {
			t.Errorf("%d validations ended, want 1", got)
		}
		if _, err := w.do(t.Context(), http.MethodGet, ca.DirectoryURL(), nil); err == nil {
			t.Error("a closed CA answers")
		}
	})
}
