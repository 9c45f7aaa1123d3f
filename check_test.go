package md_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/challenge"
	"github.com/manageddomains/md/store"
)

// untouchable is a Store that panics whatever is asked of it.
type untouchable struct{ store.Store }

// dnsZone is a Challenger for dns-01 that does nothing.
type dnsZone struct{}

func (*dnsZone) Types() []string { return []string{challenge.TypeDNS01} }

func (*dnsZone) Present(context.Context, challenge.Challenge) error { return nil }

func (*dnsZone) CleanUp(context.Context, challenge.Challenge) error { return nil }

// named returns a Domain of which nothing is said but the names.
func named(names ...string) md.Domain { return md.Domain{Names: names} }

func with(d md.Domain, change func(*md.Domain)) md.Domain {
	change(&d)
	return d
}

func domains(list ...md.Domain) *md.Manager { return &md.Manager{Domains: list} }

// example returns a Manager for example.com with something else to it.
func example(change func(*md.Domain)) *md.Manager {
	return domains(with(named("example.com"), change))
}

// shared returns a Manager whose Domains share something.
func shared(change func(*md.Manager), list ...md.Domain) *md.Manager {
	m := domains(list...)
	change(m)
	return m
}

func withZone(m *md.Manager) { m.Challengers = []md.Challenger{new(dnsZone)} }

// bytes250 is the beginning of a name.
var bytes250 = strings.Repeat(strings.Repeat("a", 49)+".", 5)

func TestCheckFinds(t *testing.T) {
	for _, test := range []struct {
		name string
		m    *md.Manager
		want []string // Domain, field, and a part of what is wrong
	}{
		{"no names", domains(md.Domain{}), []string{"number 1: Names: at least one"}},
		{"no names of a Domain with a Name", domains(md.Domain{Name: "shop"}), []string{"shop: Names: at least one"}},
		{"an empty name", domains(named("")), []string{"number 1: Names: empty"}},
		{"an empty name behind another", domains(named("example.com", "")), []string{"example.com: Names: empty"}},
		{"a dot alone", domains(named(".")), []string{".: Names: empty"}},
		{"another kind of dot alone", domains(named("。")), []string{"。: Names: "}},
		{"a name in two Domains", domains(named("example.com"), named("www.example.org", "example.com")),
			[]string{`www.example.org: Names: example.com is in Domain "example.com" already`}},
		{"a name in two Domains, in Unicode and in ASCII", domains(named("a.example", "bücher.example"), named("b.example", "xn--bcher-kva.example")),
			[]string{`b.example: Names: xn--bcher-kva.example is in Domain "a.example" already`}},
		{"a name in two Domains, in different case", domains(named("a.example", "www.example"), named("b.example", "WWW.Example")),
			[]string{"b.example: Names: www.example is in"}},
		{"a name in two Domains, with and without final dot", domains(named("a.example", "www.example"), named("b.example", "www.example.")),
			[]string{"b.example: Names: www.example is in"}},
		{"a name in two Domains, with a final dot that is not ASCII", domains(named("a.example", "www.example"), named("b.example", "www.example。")),
			[]string{"b.example: Names: www.example is in"}},
		{"two final dots", domains(named("example.com..")), []string{"example.com..: Names: not a DNS name"}},
		{"a Name twice", domains(md.Domain{Name: "shop", Names: []string{"a.example"}}, md.Domain{Name: "shop", Names: []string{"b.example"}}),
			[]string{"shop: Name: another Domain has the same"}},
		{"a Name that another Domain has by default", domains(named("a.example"), md.Domain{Name: "a.example", Names: []string{"b.example"}}),
			[]string{"a.example: Name: another Domain has the same"}},
		{"a slash in a Name", domains(md.Domain{Name: "a/b", Names: []string{"a.example"}}), []string{"a/b: Name: slash"}},
		{"a control character in a Name", domains(md.Domain{Name: "a\nb", Names: []string{"a.example"}}), []string{"a\nb: Name: control character"}},
		{"a Name that is too long", domains(md.Domain{Name: strings.Repeat("a", 256), Names: []string{"a.example"}}), []string{": Name: 255"}},
		{"a wildcard that nobody can prove", domains(named("*.example.com")), []string{"*.example.com: Challengers: needs a challenger for dns-01"}},
		{"a wildcard that the Domain's own challengers cannot prove",
			shared(withZone,
				with(named("*.example.com"), func(d *md.Domain) { d.Challengers = []md.Challenger{&md.HTTP01{}} })),
			[]string{"*.example.com: Challengers: needs a challenger for dns-01"}},
		{"a wildcard in the middle", domains(named("www.*.example.com")), []string{"www.*.example.com: Names: whole first label"}},
		{"a wildcard in a label", domains(named("w*.example.com")), []string{"w*.example.com: Names: whole first label"}},
		{"a wildcard of a wildcard", domains(named("*.*.example.com")), []string{"*.*.example.com: Names: whole first label"}},
		{"a wildcard alone", domains(named("*")), []string{"*: Names: whole first label"}},
		{"a wildcard of nothing", domains(named("*.")), []string{"*.: Names: whole first label"}},
		{"an IPv4 address with a final dot", domains(named("192.0.2.1.")), []string{"192.0.2.1.: Names: of an address"}},
		{"an IPv4 address in wide digits", domains(named("１９２.0.2.1")), []string{"１９２.0.2.1: Names: ends in a number"}},
		{"what was meant to be an IPv4 address", domains(named("192.0.2.256")), []string{"192.0.2.256: Names: ends in a number"}},
		{"an address of no host", domains(named("0.0.0.0")), []string{"0.0.0.0: Names: no address of one host"}},
		{"an address of many hosts", domains(named("ff02::1")), []string{"ff02::1: Names: no address of one host"}},
		{"an address that means something on one machine only", domains(named("fe80::1%eth0")), []string{"fe80::1%eth0: Names: no address of one host"}},
		{"an address in two Domains", domains(named("192.0.2.1"), md.Domain{Name: "b", Names: []string{"::ffff:192.0.2.1"}}),
			[]string{"b: Names: 192.0.2.1 is in"}},
		{"an address that DNS should prove", domains(md.Domain{Names: []string{"192.0.2.1"}, Challengers: []md.Challenger{new(dnsZone)}}),
			[]string{"192.0.2.1: Challengers: an IP address, which DNS cannot prove"}},
		{"an address at a CA that takes none", domains(with(named("192.0.2.1"), func(d *md.Domain) {
			d.CAs = []md.CA{{Name: "zerossl", EAB: md.EAB{KeyID: "kid", HMAC: md.NewSecret(strings.Repeat("a", 43))}}}
		})), []string{"192.0.2.1: CAs: none of them issues for IP addresses"}},
		{"a profile that is required but not named", domains(with(named("a.example"), func(d *md.Domain) { d.ProfileRequired = md.On })),
			[]string{"a.example: ProfileRequired: no Profile"}},
		{"a profile that is no text", domains(with(named("a.example"), func(d *md.Domain) { d.Profile = "short\nlived" })), []string{"a.example: Profile: control characters"}},
		{"a root that is no text", domains(with(named("a.example"), func(d *md.Domain) { d.Chain = "\xff" })), []string{"a.example: Chain: cannot be meant"}},
		{"a lifetime of less than nothing", domains(with(named("a.example"), func(d *md.Domain) { d.Lifetime = -1 })), []string{"a.example: Lifetime: an hour is the least"}},
		{"a lifetime of a minute", domains(with(named("a.example"), func(d *md.Domain) { d.Lifetime = time.Minute })), []string{"a.example: Lifetime: an hour is the least"}},
		{"an OCSP that is none", domains(with(named("a.example"), func(d *md.Domain) { d.OCSP = 2 })), []string{"a.example: OCSP: neither OCSPOff nor OCSPMust"}},
		{"a RenewMode that is none", domains(with(named("a.example"), func(d *md.Domain) { d.RenewMode = 9 })), []string{"a.example: RenewMode: no RenewMode"}},
		{"a Switch that is none", domains(with(named("a.example"), func(d *md.Domain) { d.ReuseKey = 7 })), []string{"a.example: ReuseKey: neither Unset, On nor Off"}},
		{"several names at the Tailscale daemon", domains(with(named("a.example", "b.example"), func(d *md.Domain) {
			d.CAs = []md.CA{{Protocol: "tailscale", URL: "file:///run/tailscaled.sock"}}
		})), []string{"a.example: CAs: one certificate for one name"}},
		{"a wildcard of an IP address", domains(named("*.192.0.2.1")), []string{"*.192.0.2.1: Names: of an address"}},
		{"invalid punycode", domains(named("xn--a.example")), []string{"xn--a.example: Names: not a DNS name"}},
		{"writing in both directions", domains(named("a\u05d0.example")), []string{"a\u05d0.example: Names: not a DNS name"}},
		{"an underscore", domains(named("a_b.example")), []string{"a_b.example: Names: not a DNS name"}},
		{"a space", domains(named("a b.example")), []string{"a b.example: Names: not a DNS name"}},
		{"a port", domains(named("example.com:443")), []string{"example.com:443: Names: not a DNS name"}},
		{"a URL", domains(named("https://example.com")), []string{"https://example.com: Names: not a DNS name"}},
		{"an empty label", domains(named("a..example")), []string{"a..example: Names: not a DNS name"}},
		{"a label over 63 bytes", domains(named(strings.Repeat("a", 64) + ".example")), []string{": Names: not a DNS name"}},
		{"a name over 253 bytes", domains(named(bytes250 + "abcd")), []string{": Names: not a DNS name"}},
		{"a name of two thousand bytes", domains(named(strings.Repeat("a.", 1000))), []string{": Names: longer than 253"}},
		{"a wildcard over 253 bytes", shared(withZone, named("*."+bytes250+"ab")),
			[]string{": Names: longer than 253"}},
		{"a window of all the lifetime", example(func(d *md.Domain) { d.RenewWindow.Percent = 100 }), []string{"example.com: RenewWindow: 1% to 99%"}},
		{"a negative share", example(func(d *md.Domain) { d.RenewWindow.Percent = -1 }), []string{"example.com: RenewWindow: 1% to 99%"}},
		{"a negative window", example(func(d *md.Domain) { d.RenewWindow.Length = -time.Hour }), []string{"example.com: RenewWindow: not negative"}},
		{"a window that is two", example(func(d *md.Domain) { d.RenewWindow = md.Window{Percent: 1, Length: time.Hour} }), []string{"example.com: RenewWindow: not both"}},
		{"an unknown CA", example(func(d *md.Domain) { d.CAs = []md.CA{{Name: "acme corp"}} }), []string{"example.com: CAs: not known"}},
		{"a CA that has closed", example(func(d *md.Domain) { d.CAs = []md.CA{{Name: "Buypass"}} }), []string{"example.com: CAs: closed its ACME service"}},
		{"a CA without TLS", example(func(d *md.Domain) { d.CAs = []md.CA{{URL: "http://ca.example/directory"}} }), []string{"example.com: CAs: not https"}},
		{"a CA twice", example(func(d *md.Domain) { d.CAs = make([]md.CA, 2) }), []string{"example.com: CAs: is there twice"}},
		{"an unknown key type", example(func(d *md.Domain) { d.KeyTypes = []md.KeyType{"P-224"} }), []string{"example.com: KeyTypes: not known"}},
		{"a key type twice", example(func(d *md.Domain) { d.KeyTypes = []md.KeyType{md.P256, md.RSA2048, "p256"} }), []string{"example.com: KeyTypes: P-256 is there twice"}},
		{"no Challenger in the list", example(func(d *md.Domain) { d.Challengers = []md.Challenger{new(dnsZone), nil} }), []string{"example.com: Challengers: number 2 is nil"}},
		{"a built-in Challenger that is a nil pointer", example(func(d *md.Domain) { d.Challengers = []md.Challenger{(*md.HTTP01)(nil), (*md.TLSALPN01)(nil)} }),
			[]string{"example.com: Challengers: number 1 is nil", "example.com: Challengers: number 2 is nil"}},
		{"a contact that is nothing", example(func(d *md.Domain) { d.Contacts = []string{""} }), []string{"example.com: Contacts: not an e-mail address"}},
		{"a contact without host", example(func(d *md.Domain) { d.Contacts = []string{"admin@"} }), []string{"example.com: Contacts: not an e-mail address"}},
		{"two addresses in one contact", example(func(d *md.Domain) { d.Contacts = []string{"MAILTO:a@a.example,b@b.example"} }), []string{"example.com: Contacts: not an e-mail address"}},
		{"a contact with header fields", example(func(d *md.Domain) { d.Contacts = []string{"mailto:a@a.example?subject=x"} }), []string{"example.com: Contacts: not an e-mail address"}},
		{"a contact with a control character", example(func(d *md.Domain) { d.Contacts = []string{"a\x00@a.example"} }), []string{"example.com: Contacts: not an e-mail address"}},
		{"a contact that is hardly a URL", example(func(d *md.Domain) { d.Contacts = []string{"call me: 12"} }), []string{"example.com: Contacts: neither"}},
		{"a negative CheckInterval", shared(func(m *md.Manager) { m.CheckInterval = -1 }), []string{": CheckInterval: less than nothing"}},
		{"a negative RetryDelay", shared(func(m *md.Manager) { m.RetryDelay = -1 }), []string{": RetryDelay: less than nothing"}},
		{"Names in the Default", shared(func(m *md.Manager) { m.Default.Names = []string{"example.com"} }), []string{": Default: Name and Names"}},
		{"a Name in the Default", shared(func(m *md.Manager) { m.Default.Name = "shop" }), []string{": Default: Name and Names"}},
		{"no Challenger in the Manager's list, once", shared(func(m *md.Manager) { m.Challengers = []md.Challenger{nil} }, named("a.example"), named("b.example")),
			[]string{": Challengers: number 1 is nil"}},
		{"a wrong Default, once", shared(func(m *md.Manager) {
			m.Default = md.Domain{CAs: []md.CA{{Name: "acme corp"}}, KeyTypes: []md.KeyType{"x"}, Challengers: []md.Challenger{nil, new(dnsZone)}}
		}, named("a.example"), named("*.b.example")),
			[]string{": Default.Challengers: number 1 is nil", ": Default.CAs: not known", ": Default.KeyTypes: not known"}},
		{"a wrong Default that no Domain uses", shared(func(m *md.Manager) { m.Default.RenewWindow.Percent = 100 }), []string{": Default.RenewWindow: 1% to 99%"}},
		{"all there is at once", shared(func(m *md.Manager) { m.RetryDelay = -1 },
			named("a b.example"), md.Domain{Name: "shop"}, with(named("c.example"), func(d *md.Domain) { d.KeyTypes, d.Contacts = []md.KeyType{"x"}, []string{"y"} })),
			[]string{": RetryDelay: less", "a b.example: Names: not a DNS name", "shop: Names: at least one", "c.example: Contacts: not an", "c.example: KeyTypes: not known"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.m.Store = untouchable{} // Check does no I/O
			checkConfigErrors(t, test.m.Check(), test.want)
		})
	}
}

// checkConfigErrors checks that err is a join of ConfigErrors, as wanted.
func checkConfigErrors(t *testing.T, err error, want []string) {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v, want a join of *ConfigError", err)
	}
	all := joined.Unwrap()
	if len(all) != len(want) {
		t.Errorf("got %d errors, want %d:\n%v", len(all), len(want), err)
	}
	for i, err := range all[:min(len(all), len(want))] {
		var e *md.ConfigError
		if !errors.As(err, &e) {
			t.Errorf("error %d is %v, want a *ConfigError", i, err)
			continue
		}
		place, text, _ := cutLast(want[i])
		if got := e.Domain + ": " + e.Field; !strings.HasSuffix(got, place) {
			t.Errorf("error %d is about %q, want %q", i, got, place)
		}
		if !strings.Contains(e.Err.Error(), text) {
			t.Errorf("error %d says %q, want %q in it", i, e.Err, text)
		}
		if !strings.Contains(e.Error(), e.Field) {
			t.Errorf("error %d reads %q, want it to name %s", i, e, e.Field)
		}
	}
}

// cutLast cuts "domain: field: text" before the text.
func cutLast(s string) (place, text string, ok bool) {
	for _, field := range []string{"Names", "Name", "Challengers", "RenewWindow", "CAs", "KeyTypes", "Contacts", "CheckInterval", "RetryDelay", "Default", "Store",
		"ProfileRequired", "Profile", "Chain", "Lifetime", "OCSP", "RenewMode", "ReuseKey"} {
		if i := strings.Index(s, field+": "); i >= 0 {
			return s[:i+len(field)], s[i+len(field)+2:], true
		}
	}
	return s, "", false
}

func TestCheckAccepts(t *testing.T) {
	for _, test := range []struct {
		name string
		m    *md.Manager
	}{
		{"the zero Manager", new(md.Manager)},
		{"a name in every spelling, once", domains(named("Bücher.example", "xn--bcher-kva.example", "BÜCHER.EXAMPLE.", "bücher。example"))},
		{"a wildcard and a name that it covers in another Domain", shared(withZone,
			named("*.example.com"), named("www.example.com"))},
		{"a wildcard that the Default's challengers prove", shared(func(m *md.Manager) { m.Default.Challengers = []md.Challenger{new(dnsZone)} }, named("*.example.com"))},
		{"a name of 253 bytes", domains(named(bytes250 + "abc"))},
		{"a label of 63 bytes", domains(named(strings.Repeat("a", 63) + ".example"))},
		{"a name of one label", domains(named("localhost"))},
		{"a Name that is no DNS name", domains(md.Domain{Name: "The shop (2)", Names: []string{"example.com"}})},
		{"all ways to write a contact", example(func(d *md.Domain) {
			d.Contacts = []string{"a@a.example", "mailto:a@a.example", " Mailto:a@a.example ", "tel:+1-201-555-0123"}
		})},
		{"all key types", example(func(d *md.Domain) {
			d.KeyTypes = []md.KeyType{md.P256, md.P384, md.P521, md.RSA2048, md.RSA3072, md.RSA4096}
		})},
		{"known CAs", example(func(d *md.Domain) { d.CAs = []md.CA{{Name: "LetsEncrypt-Staging"}} })},
		{"the named built-in Challengers", example(func(d *md.Domain) { d.Challengers = []md.Challenger{&md.HTTP01{}, &md.TLSALPN01{}} })},
		{"windows of both kinds", domains(
			with(named("a.example"), func(d *md.Domain) { d.RenewWindow.Percent = 33 }),
			with(named("b.example"), func(d *md.Domain) { d.RenewWindow.Length = 21 * 24 * time.Hour }))},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.m.Store = untouchable{}
			if err := test.m.Check(); err != nil {
				t.Errorf("Check: %v, want nil", err)
			}
		})
	}
}

func TestConfigErrorNamesDomainAndField(t *testing.T) {
	cause := errors.New("too many")
	for _, test := range []struct {
		err  md.ConfigError
		want string
	}{
		{md.ConfigError{Domain: "example.com", Field: "CAs", Err: cause}, `md: Domain "example.com": CAs: too many`},
		{md.ConfigError{Field: "Store", Err: cause}, "md: Store: too many"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if !errors.Is(&test.err, cause) {
			t.Errorf("%v does not wrap %v", &test.err, cause)
		}
	}
}

func TestDefaultStoreIs(t *testing.T) {
	dir := t.TempDir()
	state, config := filepath.Join(dir, "state"), filepath.Join(dir, "config")
	list := string(filepath.ListSeparator)
	for _, test := range []struct {
		name, state, config string
		want                string // "" is a ConfigError
	}{
		{"the state directory", state, config, state},
		{"the first of several state directories", state + list + filepath.Join(dir, "other"), config, state},
		{"in the user's configuration directory", "", config, filepath.Join(config, "md")},
		{"in the user's configuration directory if the first state directory is empty", list + state, config, filepath.Join(config, "md")},
		{"nowhere if there is neither", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("STATE_DIRECTORY", test.state)
			setConfigDir(t, test.config)
			got, err := md.DefaultStore(new(md.Manager))
			if test.want == "" {
				checkConfigErrors(t, new(md.Manager).Check(), []string{": Store: set Store"})
				checkConfigErrors(t, new(md.Manager).Run(context.Background()), []string{": Store: set Store"})
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := store.Locate(got, "key"); got != filepath.Join(test.want, "key") {
				t.Errorf("values are kept at %s, want them below %s", got, test.want)
			}
		})
	}
}

// setConfigDir sets the environment from which os.UserConfigDir takes the
// directory; empty means that there is none.
func setConfigDir(t *testing.T, dir string) {
	t.Helper()
	switch runtime.GOOS {
	case "windows":
		t.Setenv("AppData", dir)
	case "darwin", "ios", "plan9":
		t.Skip("the directory cannot be chosen")
	default:
		t.Setenv("XDG_CONFIG_HOME", dir)
		t.Setenv("HOME", "")
	}
}

// Every method of a Manager whose configuration cannot work says so.
func TestWrongConfiguration(t *testing.T) {
	ctx := context.Background()
	wrong := func() *md.Manager {
		m := domains(named("example.com", "a b.example"))
		m.Store = untouchable{}
		return m
	}
	for _, call := range []struct {
		name string
		do   func(m *md.Manager) error
	}{
		{"Check", func(m *md.Manager) error { return m.Check() }},
		{"Load", func(m *md.Manager) error { return m.Load(ctx) }},
		{"Run", func(m *md.Manager) error { return m.Run(ctx) }},
		{"Ready", func(m *md.Manager) error { return m.Ready(ctx) }},
		{"Update", func(m *md.Manager) error { return m.Update(ctx, nil) }},
		{"Renew", func(m *md.Manager) error { return m.Renew(ctx, "example.com") }},
		{"ListenAndServe", func(m *md.Manager) error { return m.ListenAndServe(ctx, nil) }},
		{"Serve", func(m *md.Manager) error { return m.Serve(ctx, nil, nil, nil) }},
		{"GetCertificate", func(m *md.Manager) error {
			_, err := m.GetCertificate(hello("example.com"))
			if !errors.Is(err, md.ErrNotManaged) {
				return fmt.Errorf("%w is not ErrNotManaged", err)
			}
			return err
		}},
		{"GetConfigForClient with a validator", func(m *md.Manager) error {
			h := hello("example.com")
			h.SupportedProtos = []string{challenge.ALPNProto}
			_, err := m.GetConfigForClient(h)
			return err
		}},
	} {
		t.Run("is told by "+call.name, func(t *testing.T) {
			var e *md.ConfigError
			if err := call.do(wrong()); !errors.As(err, &e) || e.Domain != "example.com" || e.Field != "Names" {
				t.Errorf("got %v, want a *ConfigError about the Names of example.com", err)
			}
		})
	}
	t.Run("serves and reports nothing", func(t *testing.T) {
		m := wrong()
		if _, err := handshake(m, client("example.com")); err == nil {
			t.Error("a handshake succeeded")
		}
		if config, err := m.GetConfigForClient(hello("example.com")); config != nil || err != nil {
			t.Errorf("GetConfigForClient: %v, %v, want nil, nil for a browser", config, err)
		}
		for d := range m.Status() {
			t.Errorf("Status tells of %s", d.Name)
		}
	})
}
