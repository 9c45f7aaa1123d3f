package e2e_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/manageddomains/md"
)

// domainCommand writes a Domain into the configuration, or changes the one
// of that Name there: see testdata/README.md. Nodes read it when they start,
// or reload.
func (s *stage) domainCommand(c *command) error {
	d := md.Domain{Name: c.option("name")}
	for _, list := range []struct {
		option string
		add    func(word string) error
	}{
		{"cas", func(w string) error {
			a := s.cas[w]
			if a == nil {
				return fmt.Errorf("there is no ca %q", w)
			}
			d.CAs = append(d.CAs, a.configured())
			return nil
		}},
		{"keys", func(w string) error { d.KeyTypes = append(d.KeyTypes, md.KeyType(w)); return nil }},
		{"contacts", func(w string) error { d.Contacts = append(d.Contacts, w); return nil }},
		{"challenges", func(w string) error { return s.addChallenger(&d, w) }},
		{"warn", func(w string) error { return d.WarnWindow.UnmarshalText([]byte(w)) }},
		{"ari", func(w string) (err error) { d.ARI, err = parseSwitch(w); return err }},
		{"window", func(w string) error { return d.RenewWindow.UnmarshalText([]byte(w)) }},
	} {
		for _, word := range strings.FieldsFunc(c.option(list.option), func(r rune) bool { return r == ',' }) {
			if err := list.add(word); err != nil {
				return err
			}
		}
	}
	var err error
	if d.ActivationDelay, err = c.span("delay"); err != nil {
		return err
	}
	if c.has("hold") {
		d.HoldActivation = md.On
	}
	for name := c.need("a DNS name"); name != ""; name = c.next() {
		d.Names = append(d.Names, name)
	}
	s.forgetDomain(identity(d))
	s.domains = append(s.domains, d)
	return nil
}

func parseSwitch(word string) (md.Switch, error) {
	switch word {
	case "on":
		return md.On, nil
	case "off":
		return md.Off, nil
	}
	return md.Unset, fmt.Errorf("%q is neither on nor off", word)
}

func (s *stage) addChallenger(d *md.Domain, typ string) error {
	switch typ {
	case "http-01":
		d.Challengers = append(d.Challengers, &md.HTTP01{})
	case "tls-alpn-01":
		d.Challengers = append(d.Challengers, &md.TLSALPN01{})
	case "dns-01":
		d.Challengers = append(d.Challengers, &s.zone)
	default:
		return fmt.Errorf("domain: %w %q", errUnknown, typ)
	}
	return nil
}

// domainsFor is the configuration as the process behind a link reads it.
func (s *stage) domainsFor(l *link) []md.Domain {
	domains := slices.Clone(s.domains)
	for i := range domains {
		d := &domains[i]
		d.Challengers = slices.Clone(d.Challengers)
		for j, c := range d.Challengers {
			if c == md.Challenger(&s.zone) {
				d.Challengers[j] = &provider{zone: &s.zone, link: l}
			}
		}
	}
	return domains
}

// identity is the Name of a Domain.
func identity(d md.Domain) string {
	if d.Name != "" || len(d.Names) == 0 {
		return d.Name
	}
	return d.Names[0]
}

func (s *stage) forgetDomain(name string) {
	s.domains = slices.DeleteFunc(s.domains, func(d md.Domain) bool { return identity(d) == name })
}

// removeCommand takes Domains out of the configuration.
func (s *stage) removeCommand(c *command) error {
	for name := c.need("a Domain"); name != ""; name = c.next() {
		before := len(s.domains)
		if s.forgetDomain(name); len(s.domains) == before {
			return fmt.Errorf("there is no domain %q", name)
		}
	}
	return nil
}
