package migrate

import (
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// maxContacts bounds the contacts of an account, maxContact each of them (RFC
// 5321 §4.5.3.1 leaves an address 254 bytes).
const (
	maxContacts = 16
	maxContact  = 300
)

// registration is what a tool knows of an account.
type registration struct {
	ca       string // directory URL
	url      string
	contacts []string
	status   string // as the CA told it; empty if the tool does not keep it
}

// account takes an account, if it can be used. keyErr is why its key could not
// be read.
func (r *reader) account(path string, key crypto.Signer, keyErr error, reg registration) error {
	found, err := r.foundAccount(path, key, keyErr, reg)
	if err != nil {
		return r.refuse(anAccount, path, webURL(reg.url), err)
	}
	r.result.Accounts = append(r.result.Accounts, found)
	why := ""
	if found.Account.URL == "" {
		why = "its URL is not known: the CA will be asked for it"
	}
	r.tell(Row{Path: path, What: anAccount, Name: found.Account.URL, Taken: true, Why: why})
	return nil
}

func (r *reader) foundAccount(path string, key crypto.Signer, keyErr error, reg registration) (Account, error) {
	ca := webURL(reg.ca)
	if ca == "" {
		ca = r.opts.CA
	}
	switch {
	case keyErr != nil:
		return Account{}, keyErr
	case reg.status != "" && reg.status != "valid": // RFC 8555 §7.1.2
		return Account{}, fmt.Errorf("the account is %.40q", reg.status)
	case ca == "":
		return Account{}, errors.New("which CA it is at is not known")
	}
	if _, err := keyTypeOf(key.Public()); err != nil {
		return Account{}, err
	}
	a, err := record.NewAccount(key)
	if err != nil {
		return Account{}, err
	}
	a.URL, a.Contacts = webURL(reg.url), contacts(reg.contacts)
	return Account{Path: path, CA: ca, Account: *a}, nil
}

// contacts returns those of list that a CA would take: RFC 8555 §7.3 has them
// as URLs, and knows mailto.
func contacts(list []string) []string {
	var good []string
	for _, c := range list {
		c = strings.TrimSpace(c)
		if !strings.HasPrefix(c, "mailto:") && strings.Contains(c, "@") {
			c = "mailto:" + c
		}
		if u, err := url.Parse(c); err != nil || u.Scheme != "mailto" || !strings.Contains(u.Opaque, "@") || len(c) > maxContact {
			continue
		}
		if good = append(good, c); len(good) == maxContacts {
			break
		}
	}
	return good
}

// caByHost returns the directory URL of the one CA at host, empty if none or
// several are known there. In names of files, tools write a port behind "_".
func (r *reader) caByHost(host string) string {
	found := ""
	for _, ca := range append([]string{r.opts.CA}, r.opts.CAs...) {
		u, err := url.Parse(ca)
		if err != nil || ca == found || ca == "" || !isAt(u.Host, host) {
			continue
		}
		if found != "" {
			return ""
		}
		found = ca
	}
	return found
}

func isAt(host, name string) bool {
	return strings.EqualFold(host, name) || strings.EqualFold(strings.ReplaceAll(host, ":", "_"), name)
}

// caByURL returns the directory URL of the CA that something of it is at.
func (r *reader) caByURL(text string) string {
	if webURL(text) == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return r.caByHost(u.Host)
}
