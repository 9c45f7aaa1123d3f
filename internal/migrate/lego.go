package migrate

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// lego's folder:
//
//	certificates/<name>.{crt,key,json,issuer.crt}   "_" for "*" in names
//	accounts/<host>/<email>/account.json            the key in keys/<email>.key; from version 5
//	accounts/<host>/<id>/<key type>/account.json    the key in <id>.key beside it
//
// The CA's URL is not kept: it is known again by its host.
func (r *reader) readLego() error {
	urls := make(map[string]string) // of accounts, by CA
	err := r.eachDir("accounts", func(host string) error { return r.legoAccounts(host, path.Base(host), urls) })
	if err != nil {
		return err
	}
	e, err := r.dir.list("certificates")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.refuse(aDirectory, "certificates", "", err)
	}
	for _, file := range e.files {
		name, ok := strings.CutSuffix(file, ".crt")
		if !ok || strings.HasSuffix(name, ".issuer") && slices.Contains(e.files, strings.TrimSuffix(name, ".issuer")+".crt") {
			continue
		}
		if err := r.legoCertificate(path.Join("certificates", name), urls); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) legoCertificate(base string, accounts map[string]string) error {
	at := base + ".crt"
	chain, err := r.dir.read(at)
	if err != nil {
		return r.refuse(aCertificate, at, "", err)
	}
	key, err := r.dir.read(base + ".key")
	if err != nil {
		return r.refuse(aCertificate, at, "", err)
	}
	text, err := r.dir.readIfThere(base + ".json")
	if fatal(err) {
		return err
	}
	var meta struct {
		URL       string `json:"certUrl"`
		StableURL string `json:"certStableUrl"`
	}
	_ = json.Unmarshal(text, &meta) // without it, the certificate is as good
	if p, err := parsePEM(chain); err == nil && len(p.chain) == 1 {
		// Told not to bundle, lego writes the issuer into a file of its own.
		issuer, err := r.dir.readIfThere(base + ".issuer.crt")
		if fatal(err) {
			return err
		}
		chain = slices.Concat(chain, []byte("\n"), issuer)
	}
	certificate := cmp.Or(webURL(meta.StableURL), meta.URL)
	ca := r.caByURL(certificate)
	return r.certificate(at, chain, key, record.Meta{CA: ca, Account: accounts[ca], Certificate: certificate})
}

// legoAccounts looks for accounts in the directories below at.
func (r *reader) legoAccounts(at, host string, urls map[string]string) error {
	if strings.Count(at, "/") > maxDepth {
		return nil
	}
	return r.eachDir(at, func(place string) error {
		text, err := r.dir.readIfThere(path.Join(place, "account.json"))
		if err != nil {
			return r.refuse(anAccount, path.Join(place, "account.json"), "", err)
		}
		if len(text) > 0 {
			return r.legoAccount(place, host, text, urls)
		}
		return r.legoAccounts(place, host, urls)
	})
}

func (r *reader) legoAccount(place, host string, text []byte, urls map[string]string) error {
	at := path.Join(place, "account.json")
	var account struct {
		Email        string `json:"email"`
		Registration struct {
			URI  string `json:"uri"`
			Body struct {
				Status  string   `json:"status"`
				Contact []string `json:"contact"`
			} `json:"body"`
		} `json:"registration"`
	}
	if json.Unmarshal(text, &account) != nil {
		return r.refuse(anAccount, at, "", errors.New("it is not JSON as lego writes it"))
	}
	ca := cmp.Or(r.caByHost(host), r.caByURL(account.Registration.URI))
	body := account.Registration.Body
	reg := registration{ca: ca, url: account.Registration.URI, contacts: body.Contact, status: body.Status}
	if len(reg.contacts) == 0 {
		reg.contacts = []string{account.Email}
	}
	key, err := r.legoKey(place)
	if err != nil {
		return r.refuse(anAccount, at, webURL(reg.url), err)
	}
	before := len(r.result.Accounts)
	if err := r.accountWithKey(key, reg); err != nil {
		return err
	}
	if ca != "" && len(r.result.Accounts) > before && urls[ca] == "" {
		urls[ca] = reg.url
	}
	return nil
}

// legoKey finds the key of the account in a directory.
func (r *reader) legoKey(place string) (string, error) {
	for _, dir := range []string{path.Join(place, "keys"), place} {
		e, err := r.dir.list(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, file := range e.files {
			if strings.HasSuffix(file, ".key") {
				return path.Join(dir, file), nil
			}
		}
	}
	return "", errNoKey
}
