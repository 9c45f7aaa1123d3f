package migrate

import (
	"slices"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// autocert's DirCache is one directory:
//
//	<name>, <name>+rsa                      the private key and then the chain, as PEM
//	acme_account+key, acme_account.key      the account's key
//	<name>+token, <token>+http-01           challenges under way
//
// It does not say which CA they are from.
func (r *reader) readAutocert() error {
	e, err := r.dir.list(".")
	if err != nil {
		return err
	}
	for _, file := range e.files {
		switch {
		case slices.Contains(autocertAccounts, file):
			err = r.accountWithKey(file, registration{})
		case strings.HasSuffix(file, "+token"), strings.HasSuffix(file, "+http-01"):
			continue // of no use to anybody else
		case isAutocertFile(file):
			err = r.autocertFile(file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var autocertAccounts = []string{"acme_account+key", "acme_account.key"}

// isAutocertFile reports whether a file may be a certificate's.
func isAutocertFile(name string) bool {
	return slices.Contains(autocertAccounts, name) || isName(strings.ToLower(strings.TrimSuffix(name, "+rsa")))
}

// autocertFile reads a file that holds both key and chain.
func (r *reader) autocertFile(file string) error {
	data, err := r.dir.read(file)
	if err != nil {
		return r.refuse(aCertificate, file, "", err)
	}
	return r.certificate(file, data, data, record.Meta{})
}
