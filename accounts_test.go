package md_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/store"
)

// at returns a Manager for example.com at a CA.
func at(ca md.CA) *md.Manager { return example(func(d *md.Domain) { d.CAs = []md.CA{ca} }) }

const goodHMAC = "dGhpcyBpcyBhIGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzLg"

// Every way to say wrongly what makes an account, or how to reach a CA, is one
// ConfigError that names the Domain and the field.
func TestCheckFindsWrongAccounts(t *testing.T) {
	eab := func(kid, hmac string) *md.Manager {
		return at(md.CA{URL: "https://ca.example/directory", EAB: md.EAB{KeyID: kid, HMAC: md.NewSecret(hmac)}})
	}
	key := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://ca.example/directory"
	for _, test := range []struct {
		name string
		m    *md.Manager
		want string // Domain, field, and a part of what is wrong
	}{
		{"an EAB without KeyID", eab("", goodHMAC), "example.com: CAs: no KeyID"},
		{"an EAB without HMAC", eab("kid", ""), "example.com: CAs: no HMAC"},
		{"an HMAC that is no base64", eab("kid", "not base64!"), "example.com: CAs: neither base64url nor base64"},
		{"an HMAC that was cut off", eab("kid", "c2hvcnQ"), "example.com: CAs: too few for a key"},
		{"an HMAC that was printed", eab("kid", "***"), "example.com: CAs: neither base64url nor base64"},
		{"an HMAC without end", eab("kid", strings.Repeat("A", 5000)), "example.com: CAs: more than"},
		{"a KeyID with a space", eab("a b", goodHMAC), "example.com: CAs: cannot be meant"},
		{"a KeyID without end", eab(strings.Repeat("a", 5000), goodHMAC), "example.com: CAs: more than"},
		{"an EAB in a file and as values", at(md.CA{URL: url, EAB: md.EAB{KeyID: "kid", File: "eab.json"}}), "example.com: CAs: leave one of them out"},
		{"no EAB at a CA that needs one", at(md.CA{Name: "google"}), "example.com: CAs: needs an external account binding"},
		{"a wrong EAB for rehearsals", at(md.CA{URL: url, RehearsalEAB: md.EAB{KeyID: "kid"}}), "example.com: CAs: for rehearsals"},
		{"an AccountKey that is a nil pointer", at(md.CA{URL: url, AccountKey: (*ecdsa.PrivateKey)(nil)}), "example.com: CAs: nil *ecdsa.PrivateKey"},
		{"an AccountKey on a curve that CAs do not take", at(md.CA{URL: url, AccountKey: key(elliptic.P521())}), "example.com: CAs: CAs take EC P-256"},
		{"an AccountKey of another kind", at(md.CA{URL: url, AccountKey: edwards}), "example.com: CAs: CAs take EC P-256"},
		{"a Proxy that is no URL", at(md.CA{URL: url, Proxy: "::"}), "example.com: CAs: Proxy"},
		{"a Proxy of another scheme", at(md.CA{URL: url, Proxy: "ftp://proxy.example"}), "example.com: CAs: Proxy"},
		{"a Proxy that the HTTPClient cannot use", func() *md.Manager {
			m := at(md.CA{URL: url, Proxy: "http://proxy.example:3128"})
			m.HTTPClient = &http.Client{Transport: roundTripper(nil)}
			return m
		}(), "example.com: CAs: cannot be given one"},
		{"an unknown name", at(md.CA{Name: "letsencript"}), "example.com: CAs: is not known; known are letsencrypt"},
		{"a name and the URL of another", at(md.CA{Name: "letsencrypt", URL: url}), "example.com: CAs: leave one of them out"},
		{"an unknown Protocol", at(md.CA{URL: url, Protocol: "scep"}), "example.com: CAs: scep"},
		{"no Contacts at a CA that needs some", at(md.CA{Name: "sslcom-rsa", EAB: md.EAB{KeyID: "kid", HMAC: md.NewSecret(goodHMAC)}}), "example.com: Contacts: needs an e-mail address"},
		{"a wrong EAB in the Default", shared(func(m *md.Manager) { m.Default.CAs = []md.CA{{URL: url, EAB: md.EAB{KeyID: "kid"}}} }, named("a.example"), named("b.example")),
			": Default.CAs: no HMAC"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.m.Store = untouchable{}
			err := test.m.Check()
			checkConfigErrors(t, err, []string{test.want})
			if err != nil && strings.Contains(err.Error(), goodHMAC) {
				t.Errorf("the error has the HMAC: %v", err)
			}
		})
	}
}

// roundTripper is a way to a CA that is not an *http.Transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCheckAcceptsAccounts(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := md.NewSecret(goodHMAC)
	m := domains(
		with(named("a.example"), func(d *md.Domain) { d.CAs = []md.CA{{Name: "google", EAB: md.EAB{KeyID: "kid", HMAC: secret}}} }),
		with(named("b.example"), func(d *md.Domain) {
			d.CAs = []md.CA{{Name: "zerossl", EAB: md.EAB{File: "/nonexistent/eab.json"}}}
		}),
		with(named("c.example"), func(d *md.Domain) { d.CAs = []md.CA{{Name: "google", AccountKey: key}} }),
		with(named("d.example"), func(d *md.Domain) {
			d.Contacts, d.CAs = []string{"a@a.example"}, []md.CA{{Name: "sslcom-ecc", EAB: md.EAB{KeyID: "kid", HMAC: secret}}}
		}),
		with(named("e.example"), func(d *md.Domain) { d.CAs = []md.CA{{Proxy: "socks5://me:secret@proxy.example:1080"}} }),
	)
	m.Store = untouchable{}
	if err := m.Check(); err != nil {
		t.Errorf("Check: %v, want nil", err)
	}
}

// However a Manager or a Domain is printed, nobody sees a secret.
func TestSecretsAreNotPrinted(t *testing.T) {
	const password = "hunter2hunter2"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	domain := md.Domain{Names: []string{"example.com"}, CAs: []md.CA{{
		URL: "https://ca.example/directory", AccountKey: key, Proxy: "http://me:" + password + "@proxy.example",
		EAB: md.EAB{KeyID: "kid", HMAC: md.NewSecret(goodHMAC)}, RehearsalEAB: md.EAB{KeyID: "kid", HMAC: md.NewSecret(goodHMAC)},
	}}}
	m := &md.Manager{Domains: []md.Domain{domain}, Default: domain, Store: new(store.Memory), Logger: slog.New(slog.DiscardHandler)}
	m.Default.Names = nil
	if err := m.Load(context.Background()); err != nil { // so that there is an engine
		t.Fatal(err)
	}
	var texts []string
	for _, v := range []any{domain, &domain, []md.Domain{domain}, m, domain.CAs, domain.CAs[0].EAB, &domain.CAs[0].EAB} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T", "%z"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "v", v)
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(err.Error())
		}
		texts = append(texts, log.String(), string(text))
	}
	for _, text := range texts {
		lower := strings.ToLower(text)
		for what, secret := range map[string]string{
			"the HMAC": goodHMAC, "the HMAC in hexadecimal": fmt.Sprintf("%x", goodHMAC), "the proxy's password": password,
			"the proxy's password in hexadecimal": fmt.Sprintf("%x", password), "the AccountKey": new(big.Int).SetBytes(d).String(), "the AccountKey in hexadecimal": fmt.Sprintf("%x", d),
		} {
			if strings.Contains(lower, strings.ToLower(secret)) {
				t.Errorf("it has %s: %.300s", what, text)
			}
		}
	}
}

// The methods for accounts say what is wrong with the CA that they are given.
func TestAccountMethodsCheckTheCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx := context.Background()
		m := w.manager()
		for name, call := range map[string]func(ca md.CA) error{
			"RollAccountKey":    func(ca md.CA) error { return m.RollAccountKey(ctx, ca) },
			"DeactivateAccount": func(ca md.CA) error { return m.DeactivateAccount(ctx, ca) },
			"ExportAccount":     func(ca md.CA) error { _, err := m.ExportAccount(ctx, ca); return err },
			"ImportAccount":     func(ca md.CA) error { return m.ImportAccount(ctx, ca, []byte("junk"), false) },
		} {
			if err := call(md.CA{Name: "acme corp"}); err == nil || !strings.Contains(err.Error(), "is not known") {
				t.Errorf("%s at an unknown CA: got error %v", name, err)
			}
			good := md.CA{URL: w.ca.DirectoryURL()}
			missing := good
			missing.EAB.File = "/nonexistent/eab.json"
			err := call(missing)
			if name == "ImportAccount" {
				if err == nil || !strings.Contains(err.Error(), "not PEM") {
					t.Errorf("ImportAccount of junk: got error %v", err)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), "EAB file") {
				t.Errorf("%s without its EAB file: got error %v", name, err)
			}
			if err := call(good); !errors.Is(err, md.ErrNoAccount) {
				t.Errorf("%s without an account: got error %v, want ErrNoAccount", name, err)
			}
		}
		for _, name := range []string{"zerossl", "sslcom-rsa"} {
			ca := md.CA{Name: name, EAB: md.EAB{KeyID: "kid", HMAC: md.NewSecret(goodHMAC)}}
			if err := m.RollAccountKey(ctx, ca); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("RollAccountKey at %s: got error %v, want ErrUnsupported", name, err)
			}
		}
		if err := m.DeactivateAccount(ctx, md.CA{Name: "tailscale"}); !errors.Is(err, md.ErrNoAccount) {
			t.Errorf("the account at Tailscale: got error %v, want ErrNoAccount", err)
		}
	})
}
