package migrate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// acmeShChain is the file of a certificate's chain.
const acmeShChain = "fullchain.cer"

// acme.sh's home:
//
//	<name>/{<name>.key,fullchain.cer,<name>.conf}         RSA
//	<name>_ecc/{<name>.key,fullchain.cer,<name>.conf}     ECDSA
//	ca/<host>/<path of the URL>/{account.key,account.json,ca.conf}
func (r *reader) readAcmeSh() error {
	urls := make(map[string]string) // of accounts, by CA
	if err := r.acmeShAccounts("ca", "", urls); err != nil {
		return err
	}
	return r.eachDir(".", func(place string) error { return r.acmeShCertificate(place, urls) })
}

// acmeShCertificate reads the directory of a certificate. Others, such as that
// of the DNS scripts, have no chain in them.
func (r *reader) acmeShCertificate(place string, accounts map[string]string) error {
	at := path.Join(place, acmeShChain)
	chain, err := r.dir.read(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.refuse(aCertificate, at, "", err)
	}
	base := path.Join(place, strings.TrimSuffix(place, "_ecc"))
	key, err := r.dir.read(base + ".key")
	if err != nil {
		return r.refuse(aCertificate, at, "", err)
	}
	text, err := r.dir.readIfThere(base + ".conf")
	if fatal(err) {
		return err
	}
	conf := shellValues(text)
	ca := conf["Le_API"]
	return r.certificate(at, chain, key, record.Meta{
		CA: ca, Account: accounts[ca], Order: conf["Le_LinkOrder"], Certificate: conf["Le_LinkCert"],
	})
}

// acmeShAccounts looks for accounts in a directory and those below it. What of
// the path is behind "ca" is the CA's URL without its scheme.
func (r *reader) acmeShAccounts(at, server string, urls map[string]string) error {
	if strings.Count(at, "/") > maxDepth {
		return nil
	}
	return r.eachDir(at, func(place string) error {
		server := path.Join(server, path.Base(place))
		if err := r.acmeShAccounts(place, server, urls); err != nil {
			return err
		}
		if _, err := r.dir.root.Lstat(path.Join(place, "account.key")); err != nil {
			return nil
		}
		return r.acmeShAccount(place, server, urls)
	})
}

func (r *reader) acmeShAccount(place, server string, urls map[string]string) error {
	ca := "https://" + server
	if !strings.Contains(server, "/") {
		ca = r.caByHost(server) // version 2 kept the host only
	}
	conf, err := r.dir.readIfThere(path.Join(place, "ca.conf"))
	if fatal(err) {
		return err
	}
	text, err := r.dir.readIfThere(path.Join(place, "account.json"))
	if fatal(err) {
		return err
	}
	var account struct {
		Status  string   `json:"status"`
		Contact []string `json:"contact"`
	}
	_ = json.Unmarshal(text, &account) // without it, the CA can be asked by the key
	values := shellValues(conf)
	reg := registration{ca: ca, url: values["ACCOUNT_URL"], contacts: account.Contact, status: account.Status}
	if len(reg.contacts) == 0 {
		reg.contacts = []string{values["CA_EMAIL"]}
	}
	if ca != "" {
		urls[ca] = reg.url
	}
	return r.accountWithKey(path.Join(place, "account.key"), reg)
}

// shellValues reads lines of NAME='value' as acme.sh writes them. Values with
// line breaks or quotes stand there in base64, between two marks.
func shellValues(text []byte) map[string]string {
	values := make(map[string]string)
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if !ok {
			continue
		}
		if len(value) >= 2 && (value[0] == '\'' || value[0] == '"') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		if coded, ok := strings.CutPrefix(value, "__ACME_BASE64__START_"); ok {
			plain, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(coded, "__ACME_BASE64__END_"))
			if err != nil {
				continue
			}
			value = string(plain)
		}
		values[name] = value
	}
	return values
}
