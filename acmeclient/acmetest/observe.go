package acmetest

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// Account is what the CA knows of an account.
type Account struct {
	URL        string
	Thumbprint string // of its key (RFC 7638)
	Contacts   []string
	Status     string
	External   string // key identifier of the external account, if any
	Created    time.Time
}

// Order is what the CA knows of an order.
type Order struct {
	URL       string
	Account   string    // URL
	Names     []string  // ascending
	Status    string    // as it is, even where a fault shows another
	Replaces  string    // certificate identifier, if any
	Profile   string    // empty: the CA has none
	NotBefore time.Time // as the order asked, or zero; so is NotAfter
	NotAfter  time.Time
	Created   time.Time
	Finalized time.Time // zero: it was not
}

// Certificate is what the CA knows of a certificate that it issued.
type Certificate struct {
	URL     string
	Order   string   // URL
	Account string   // URL
	Names   []string // of the order, ascending
	DER     []byte
	Leaf    *x509.Certificate
	Wrong   Wrong // in what way it is not what was ordered
	Issued  time.Time
	Revoked time.Time // zero: it is not
	Reason  int       // of the revocation
}

// Validation is what the CA found when it looked at a name.
type Validation struct {
	Name    string // with "*." for wildcards
	Type    string
	Account string // URL
	At      time.Time
	Problem string // empty: the name is validated
}

// Requests returns the number of requests by Op.Kind, lost ones included.
func (ca *CA) Requests() map[string]int {
	s := ca.lock()
	defer ca.mu.Unlock()
	return maps.Clone(s.requests)
}

// Accounts returns the accounts, oldest first.
func (ca *CA) Accounts() []Account {
	s := ca.lock()
	defer ca.mu.Unlock()
	var all []Account
	for _, a := range s.accounts {
		all = append(all, Account{
			URL: s.base + a.path, Thumbprint: thumbprint(a.key), Contacts: slices.Clone(a.contacts),
			Status: a.status, External: a.external, Created: a.created,
		})
	}
	return all
}

// Orders returns the orders, oldest first.
func (ca *CA) Orders() []Order {
	s := ca.lock()
	defer ca.mu.Unlock()
	now := time.Now()
	var all []Order
	for _, o := range s.orders {
		all = append(all, Order{
			URL: s.base + o.path, Account: s.base + o.account.path, Names: slices.Clone(o.names),
			Status: o.state(now), Replaces: o.replaces, Profile: o.profile,
			NotBefore: o.notBefore, NotAfter: o.notAfter, Created: o.created, Finalized: o.finalized,
		})
	}
	return all
}

// Certificates returns the certificates that were issued, oldest first.
func (ca *CA) Certificates() []Certificate {
	s := ca.lock()
	defer ca.mu.Unlock()
	var all []Certificate
	for _, c := range s.certificates {
		all = append(all, Certificate{
			URL: s.base + c.paths[0], Order: s.base + c.order.path, Account: s.base + c.order.account.path,
			Names: slices.Clone(c.order.names), DER: slices.Clone(c.leaf.Raw), Leaf: c.leaf,
			Wrong: c.wrong, Issued: c.issued, Revoked: c.revoked, Reason: c.reason,
		})
	}
	return all
}

// Validations returns the validations that ended, oldest first.
func (ca *CA) Validations() []Validation {
	s := ca.lock()
	defer ca.mu.Unlock()
	return slices.Clone(s.validations)
}

// Trace returns one line for each request, oldest first, to be printed when a
// test fails. It reaches back some thousand requests.
func (ca *CA) Trace() []string {
	s := ca.lock()
	defer ca.mu.Unlock()
	return slices.Clone(s.trace)
}
