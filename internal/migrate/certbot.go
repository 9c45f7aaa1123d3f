package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// certbot's configuration directory:
//
//	live/<lineage>/{fullchain,privkey,cert,chain}.pem   links to ../../archive/<lineage>/fullchain7.pem
//	renewal/<lineage>.conf                              where it is from: server, account
//	accounts/<host>/<path of the URL>/<id>/             private_key.json (JWK), regr.json, meta.json
func (r *reader) readCertbot() error {
	urls := make(map[string]string) // of accounts, by id
	if err := r.certbotAccounts("accounts", "", urls); err != nil {
		return err
	}
	return r.eachDir("live", func(place string) error {
		if r.only != "" && path.Base(place) != r.only {
			return nil
		}
		return r.certbotLineage(path.Base(place), urls)
	})
}

func (r *reader) certbotLineage(name string, accounts map[string]string) error {
	at := path.Join("live", name, "fullchain.pem")
	chain, err := r.certbotFile(name, "fullchain")
	if err != nil {
		return r.refuse(aCertificate, at, "", err)
	}
	key, err := r.certbotFile(name, "privkey")
	if err != nil {
		return r.refuse(aCertificate, at, "", err)
	}
	conf, err := r.dir.readIfThere(path.Join("renewal", name+".conf"))
	if fatal(err) {
		return err
	}
	params := renewalParams(conf) // without it, the certificate is as good
	return r.certificate(at, chain, key, record.Meta{CA: params["server"], Account: accounts[params["account"]]})
}

// certbotFile reads a file of a lineage: what the link leads to, if it is one
// that certbot makes, or the file itself, if somebody has put it there.
func (r *reader) certbotFile(lineage, kind string) ([]byte, error) {
	name := path.Join("live", lineage, kind+".pem")
	info, err := r.dir.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return r.dir.read(name)
	}
	target, err := r.dir.root.Readlink(name)
	if err != nil {
		return nil, err
	}
	file, ok := strings.CutPrefix(filepath.ToSlash(target), "../../archive/")
	dir, file, found := strings.Cut(file, "/")
	number, isKind := strings.CutPrefix(strings.TrimSuffix(file, ".pem"), kind)
	if !ok || !found || !isKind || dir == "" || dir == "." || dir == ".." || number == "" || strings.Trim(number, "0123456789") != "" {
		return nil, errors.New("it is a symbolic link that certbot does not make, and is not followed")
	}
	return r.dir.read(path.Join("archive", dir, file))
}

// renewalParams reads the section of that name: lines of "name = value".
func renewalParams(conf []byte) map[string]string {
	params := make(map[string]string)
	section := ""
	for line := range bytes.Lines(conf) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "[") {
			section = text
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		if ok && section == "[renewalparams]" && !strings.HasPrefix(text, "#") {
			params[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return params
}

// maxDepth bounds how deep accounts may lie: a directory for the host, and
// one for each part of the URL's path.
const maxDepth = 8

// certbotAccounts looks for accounts in a directory and those below it. What
// of the path is behind "accounts" is the CA's URL without its scheme.
func (r *reader) certbotAccounts(at, server string, urls map[string]string) error {
	if strings.Count(at, "/") > maxDepth {
		return nil
	}
	return r.eachDir(at, func(place string) error {
		key, err := r.dir.readIfThere(path.Join(place, "private_key.json"))
		if len(key) == 0 && err == nil {
			return r.certbotAccounts(place, path.Join(server, path.Base(place)), urls)
		}
		if fatal(err) {
			return err
		}
		return r.certbotAccount(place, "https://"+server, key, err, urls)
	})
}

func (r *reader) certbotAccount(place, ca string, key []byte, keyErr error, urls map[string]string) error {
	text, err := r.dir.readIfThere(path.Join(place, "regr.json"))
	if fatal(err) {
		return err
	}
	var regr struct {
		URI  string `json:"uri"`
		Body struct {
			Contact []string `json:"contact"`
			Status  string   `json:"status"`
		} `json:"body"`
	}
	_ = json.Unmarshal(text, &regr) // without it, the CA can be asked by the key
	urls[path.Base(place)] = regr.URI
	reg := registration{ca: ca, url: regr.URI, contacts: regr.Body.Contact, status: regr.Body.Status}
	at := path.Join(place, "private_key.json")
	if keyErr != nil {
		return r.account(at, nil, keyErr, reg)
	}
	signer, err := parseJWK(key)
	return r.account(at, signer, err, reg)
}
