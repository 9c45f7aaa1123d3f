package integration

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/store"
)

// hmac is the key of a binding, as CAs give it out.
func hmac(seed byte) string {
	return base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{seed}, 32))
}

// binding is what the owner of a binding is given.
func binding(id string, seed byte) acmeclient.EAB {
	return acmeclient.EAB{KeyID: id, HMAC: acmeclient.NewSecret(hmac(seed))}
}

// bindingFile keeps a binding as Apache's mod_md reads it.
func bindingFile(t *testing.T, id string, seed byte) acmeclient.EAB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "eab.json")
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"kid": %q, "hmac": %q}`, id, hmac(seed)), 0o600); err != nil {
		t.Fatal(err)
	}
	return acmeclient.EAB{File: path}
}

// startBound starts a Pebble whose accounts need one of the bindings one and
// two.
func (p *place) startBound(t *testing.T) *pebble {
	t.Helper()
	return p.startPebble(t, pebbleConfig{bindings: map[string]string{"one": hmac('1'), "two": hmac('2')}})
}

// bound is the CA with a binding.
func (c *pebble) bound(eab acmeclient.EAB) []md.CA {
	ca := c.at()
	ca.EAB = eab
	return []md.CA{ca}
}

func TestBindingsThatPebbleRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		eab  acmeclient.EAB
		kind string // of the Problem
		told string // part of the error
	}{
		{"when there is none", acmeclient.EAB{}, "externalAccountRequired", "externalAccountBinding"},
		{"when its key is wrong", binding("one", '2'), "unauthorized", "external account binding"},
		{"when nobody knows its identifier", binding("three", '1'), "unauthorized", "kid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			authority := p.startBound(t)
			m := &md.Manager{
				Domains: []md.Domain{{Names: []string{"127.0.0.1"}}}, AcceptTerms: true, Store: new(store.Memory),
				Default: md.Domain{CAs: authority.bound(test.eab)}, Logger: logged(t),
			}
			err := m.Renew(restless(t.Context()), "127.0.0.1")
			var problem *md.Problem
			if !errors.As(err, &problem) || problem.Kind() != test.kind || !strings.Contains(err.Error(), test.told) {
				t.Errorf("Renew = error %v, want a Problem %s that names %q", err, test.kind, test.told)
			}
			if strings.Contains(fmt.Sprint(err), hmac('2')) {
				t.Error("the error has the binding's key")
			}
			if _, accounts, _ := authority.seen.counts(); accounts != 0 {
				t.Errorf("%d accounts were registered, want none", accounts)
			}
		})
	}
}

// TestBindings moves a Domain from one binding to another and back, each
// time with another process.
func TestBindings(t *testing.T) {
	p := newPlace(t)
	authority := p.startBound(t)
	kept := new(store.Memory)
	for _, step := range []struct {
		name     string
		eab      acmeclient.EAB
		accounts int // registered so far
	}{
		{"the first", binding("one", '1'), 1},
		{"another, from a file", bindingFile(t, "two", '2'), 2},
		{"the first again", binding("one", '1'), 2},
	} {
		m := &md.Manager{
			Domains: []md.Domain{{Names: []string{"127.0.0.1"}}}, AcceptTerms: true, Store: kept,
			Default: md.Domain{CAs: authority.bound(step.eab)}, Logger: logged(t),
		}
		stop := p.run(t, m)
		if err := m.Renew(restless(t.Context()), "127.0.0.1"); err != nil {
			t.Errorf("with %s binding, Renew = error %v", step.name, err)
		}
		p.connect(t, "127.0.0.1", authority.roots)
		stop()
		if _, accounts, _ := authority.seen.counts(); accounts != step.accounts {
			t.Errorf("after %s binding, %d accounts are registered, want %d", step.name, accounts, step.accounts)
		}
	}
}
