package acmetest

import (
	"crypto"
	"net/http"
	"net/mail"
	"strings"
	"time"
)

// account is one account (RFC 8555 §7.1.2). Its fields are guarded by the
// CA's mutex.
type account struct {
	path, ordersPath string
	key              crypto.PublicKey
	contacts         []string
	terms            bool
	status           string
	external         string
	created          time.Time
	orders           []*order
}

// The states of accounts, orders, authorizations and challenges
// (RFC 8555 §7.1.6).
const (
	pending     = "pending"
	ready       = "ready"
	processing  = "processing"
	valid       = "valid"
	invalid     = "invalid"
	deactivated = "deactivated"
	expired     = "expired"
)

// accountAt finds the account that a kid names.
func (ca *CA) accountAt(kid string) (*account, crypto.PublicKey, *problem) {
	s := ca.lock()
	defer ca.mu.Unlock()
	path, ours := strings.CutPrefix(kid, s.base)
	to := s.resources[path]
	if !ours || to == nil || to.kind != kindAccount {
		return nil, nil, refuse(accountDoesNotExist, "there is no account %q", kid)
	}
	if to.account.status != valid {
		// RFC 8555 §7.3.6.
		return nil, nil, refuse(unauthorized, "account %q is %s", kid, to.account.status).with(http.StatusUnauthorized)
	}
	return to.account, to.account.key, nil
}

// newAccount registers a key, or finds its account (RFC 8555 §7.3).
func (ca *CA) newAccount(rq *request) (*reply, *problem) {
	var want struct {
		Contact              []string    `json:"contact"`
		TermsOfServiceAgreed bool        `json:"termsOfServiceAgreed"`
		OnlyReturnExisting   bool        `json:"onlyReturnExisting"`
		Binding              *rawBinding `json:"externalAccountBinding"`
	}
	if p := rq.into(&want); p != nil {
		return nil, p
	}
	key, p := parseJWK(rq.jws.header.JWK)
	if p != nil {
		return nil, p
	}
	if old, rep, p := ca.existingAccount(key); old || p != nil {
		return rep, p
	}
	if want.OnlyReturnExisting {
		return nil, refuse(accountDoesNotExist, "no account has this key")
	}
	if p := ca.checkTerms(want.TermsOfServiceAgreed); p != nil {
		return nil, p
	}
	if p := checkContacts(want.Contact); p != nil {
		return nil, p
	}
	external, p := ca.checkBinding(rq, want.Binding)
	if p != nil {
		return nil, p
	}

	s := ca.lock()
	defer ca.mu.Unlock()
	name := thumbprint(key)
	if a := s.byThumbprint[name]; a != nil {
		// Another request with the same key was faster.
		return a.reply(s, http.StatusOK), nil
	}
	if external != "" {
		s.usedKeys[external] = true
	}
	a := &account{
		key: key, contacts: want.Contact, terms: want.TermsOfServiceAgreed,
		status: valid, external: external, created: time.Now(),
	}
	a.path = ca.add(s, &resource{kind: kindAccount, account: a}, strings.Join(a.contacts, ","))
	a.ordersPath = ca.add(s, &resource{kind: kindOrders, account: a}, strings.Join(a.contacts, ","))
	s.accounts = append(s.accounts, a)
	s.byThumbprint[name] = a
	return a.reply(s, http.StatusCreated), nil
}

// existingAccount answers for a key that has an account (RFC 8555 §7.3.1).
func (ca *CA) existingAccount(key crypto.PublicKey) (bool, *reply, *problem) {
	s := ca.lock()
	defer ca.mu.Unlock()
	a := s.byThumbprint[thumbprint(key)]
	if a == nil {
		return false, nil, nil
	}
	if a.status != valid {
		return true, nil, refuse(unauthorized, "the account of this key is %s", a.status).with(http.StatusUnauthorized)
	}
	return true, a.reply(s, http.StatusOK), nil
}

// checkTerms tells those who did not agree where the terms are (RFC 8555
// §7.3.3).
func (ca *CA) checkTerms(agreed bool) *problem {
	s := ca.lock()
	terms := s.terms
	ca.mu.Unlock()
	if terms == "" || agreed {
		return nil
	}
	p := refuse(userActionRequired, "the terms of service at %s must be agreed to", terms)
	p.instance = terms
	p.header = http.Header{"Link": {"<" + terms + `>;rel="terms-of-service"`}}
	return p
}

// checkContacts takes mailto URLs with one address each (RFC 8555 §7.3).
func checkContacts(contacts []string) *problem {
	for _, c := range contacts {
		address, ok := strings.CutPrefix(c, "mailto:")
		if !ok {
			return refuse(unsupportedContact, "contact %q is not a mailto URL", c)
		}
		parsed, err := mail.ParseAddress(address)
		if err != nil || parsed.Address != address || strings.ContainsAny(address, "?,") {
			return refuse(invalidContact, "contact %q is not one plain mail address", c)
		}
	}
	return nil
}

// reply shows the account. The state is locked.
func (a *account) reply(s *state, status int) *reply {
	r := inJSON(status, struct {
		Status  string   `json:"status"`
		Contact []string `json:"contact,omitempty"`
		Terms   bool     `json:"termsOfServiceAgreed,omitempty"`
		Orders  string   `json:"orders"`
	}{a.status, a.contacts, a.terms, s.base + a.ordersPath})
	r.header.Set("Location", s.base+a.path)
	return r
}

// serveAccount shows and changes an account (RFC 8555 §7.3.2, §7.3.6).
func (ca *CA) serveAccount(rq *request) (*reply, *problem) {
	if rq.account != rq.to.account {
		return nil, refuse(unauthorized, "this is another account")
	}
	var want struct {
		Contact *[]string `json:"contact"`
		Status  string    `json:"status"`
		Terms   bool      `json:"termsOfServiceAgreed"`
	}
	if !rq.jws.empty {
		if p := rq.into(&want); p != nil {
			return nil, p
		}
	}
	if want.Status != "" && want.Status != valid && want.Status != deactivated {
		return nil, refuse(malformed, "an account cannot be made %q", want.Status)
	}
	if want.Contact != nil {
		if p := checkContacts(*want.Contact); p != nil {
			return nil, p
		}
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	a := rq.account
	if want.Contact != nil {
		a.contacts = *want.Contact
	}
	a.terms = a.terms || want.Terms
	if want.Status == deactivated {
		a.status = deactivated
	}
	return a.reply(s, http.StatusOK), nil
}

// serveOrders lists the account's orders (RFC 8555 §7.1.2.1).
func (ca *CA) serveOrders(rq *request) (*reply, *problem) {
	if p := rq.postAsGet(); p != nil {
		return nil, p
	}
	if rq.account != rq.to.account {
		return nil, refuse(unauthorized, "these are the orders of another account")
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	urls := []string{}
	for _, o := range rq.account.orders {
		if o.state(time.Now()) != invalid {
			urls = append(urls, s.base+o.path)
		}
	}
	return inJSON(http.StatusOK, map[string]any{"orders": urls}), nil
}
