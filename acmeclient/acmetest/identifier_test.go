package acmetest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"
)

func ordered(ids ...identifier) map[string]any { return map[string]any{"identifiers": ids} }

func TestRefusedAddresses(t *testing.T) {
	ca := &CA{HTTPPort: 1, IPAddresses: true, Policy: func(name string) error {
		if name == "198.51.100.1" {
			return errNoSuchCertificate
		}
		return nil
	}}
	defer ca.Close()
	w := registered(t, ca)
	for name, test := range map[string]struct {
		id   identifier
		want string
	}{
		"of no type":                    {identifier{"", "192.0.2.1"}, unsupportedIdentifier},
		"of another type":               {identifier{"email", "a@b.test"}, unsupportedIdentifier},
		"that are DNS names":            {identifier{"ip", "a.test"}, malformed},
		"that call themselves DNS":      {identifier{"dns", "192.0.2.1"}, rejectedIdentifier},
		"with leading zeros":            {identifier{"ip", "192.0.2.01"}, malformed},
		"in long form":                  {identifier{"ip", "2001:db8:0:0:0:0:0:1"}, malformed},
		"in upper case":                 {identifier{"ip", "2001:DB8::1"}, malformed},
		"with a zone":                   {identifier{"ip", "fe80::1%eth0"}, malformed},
		"of IPv4 in the shape of IPv6":  {identifier{"ip", "::ffff:192.0.2.1"}, malformed},
		"in brackets":                   {identifier{"ip", "[2001:db8::1]"}, malformed},
		"that are refused by the owner": {identifier{"ip", "198.51.100.1"}, rejectedIdentifier},
	} {
		t.Run("are those "+name, func(t *testing.T) {
			a := w.post(t, w.url("newOrder"), ordered(test.id))
			if got := a.problem(); got != test.want {
				t.Errorf("got %d %s, want %s", a.status, a.body, test.want)
			}
		})
	}
	a := w.post(t, w.url("newOrder"), ordered(identifier{"ip", "198.51.100.1"}, identifier{"ip", "192.0.2.1"}))
	if want := `"identifier":{"type":"ip","value":"198.51.100.1"}`; !strings.Contains(string(a.body), want) {
		t.Errorf("the refusal is %s, want it to be about %s", a.body, want)
	}
}

func TestAddressesAreOfferedHTTPAndTLSOnly(t *testing.T) {
	s := newSite()
	ca := &CA{HTTP: s, TLS: s.tlsConfig(), LookupTXT: s.lookupTXT, IPAddresses: true}
	defer ca.Close()
	w := registered(t, ca)
	o := w.post(t, w.url("newOrder"), ordered(identifier{"ip", "2001:db8::1"}))
	a := w.post(t, o.doc.Authorizations[0], nil)
	var got []string
	for _, c := range a.doc.Challenges {
		got = append(got, c.Type)
	}
	if want := []string{typeHTTP01, typeTLSALPN01}; !slices.Equal(got, want) {
		t.Errorf("the challenges are %q, want %q", got, want)
	}
	for _, body := range [][]byte{o.body, a.body} {
		if want := `{"type":"ip","value":"2001:db8::1"}`; !strings.Contains(string(body), want) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
}

func TestValidatorsAskAddressesByTheirForms(t *testing.T) {
	for address, want := range map[string]struct{ host, sni string }{
		"192.0.2.1":   {"192.0.2.1", "1.2.0.192.in-addr.arpa"},
		"2001:db8::1": {"[2001:db8::1]", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	} {
		t.Run("for "+address, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hosts, names := make(chan string, 9), make(chan string, 9)
				ca := &CA{
					IPAddresses: true,
					HTTP:        http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host }),
					TLS: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
						names <- hello.ServerName
						return nil, http.ErrServerClosed
					}},
				}
				defer ca.Close()
				w := registered(t, ca)
				for i := range 2 { // the first that fails ends the authorization
					o := w.post(t, w.url("newOrder"), ordered(identifier{"ip", address}))
					w.post(t, w.post(t, o.doc.Authorizations[0], nil).doc.Challenges[i].URL, map[string]any{})
					synctest.Wait()
				}
				if got := <-hosts; got != want.host {
					t.Errorf("http-01 asks for host %q, want %q", got, want.host)
				}
				if got := <-names; got != want.sni {
					t.Errorf("tls-alpn-01 asks for %q, want %q", got, want.sni)
				}
			})
		})
	}
}

func TestChallengeCertificatesOfAddresses(t *testing.T) {
	c := &acme.Client{Key: ecdsaKey(t)}
	keyAuth, err := c.HTTP01ChallengeResponse("token")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		of, at string
		right  bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"2001:db8::1", "2001:db8::1", true},
		{"192.0.2.2", "192.0.2.1", false},
		{"a.test", "192.0.2.1", false},
		{"1.2.0.192.in-addr.arpa", "192.0.2.1", false},
		{"192.0.2.1", "a.test", false},
	} {
		cert, err := c.TLSALPN01ChallengeCert("token", test.of)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		err = checkChallengeCertificate(leaf, target{name: test.at, keyAuth: keyAuth})
		if got := err == nil; got != test.right {
			t.Errorf("a certificate of %s at %s: got %v, want it to be taken: %v", test.of, test.at, err, test.right)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%a", "", "[::]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if checkAddress(value) != nil {
			return
		}
		if id := identify(value); id.Type != typeIP || strings.ToLower(value) != value {
			t.Errorf("the address %q is taken, but is %v", value, id)
		}
		if got := reverseName(value); !isDNSName(got) {
			t.Errorf("the reverse name of %q is %q, which is no DNS name", value, got)
		}
	})
}
