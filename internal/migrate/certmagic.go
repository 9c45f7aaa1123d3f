package migrate

import (
	"encoding/json"
	"net/url"
	"path"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// certmagic's file storage, which is also Caddy's data directory:
//
//	certificates/<issuer>/<name>/<name>.{crt,key,json}   <name> as in the certificate, "wildcard_" for "*"
//	acme/<issuer>/users/<email>/<user>.{json,key}
//
// where <issuer> is made of the CA's host and path. The whole URL stands in
// the certificates' JSON alone.
func (r *reader) readCertmagic() error {
	cas := make(map[string]string) // by issuer
	for _, ca := range append(r.opts.CAs, r.opts.CA) {
		cas[certmagicIssuer(ca)] = ca
	}
	err := r.eachDir("certificates", func(issuer string) error {
		return r.eachDir(issuer, func(site string) error { return r.certmagicSite(site, path.Base(issuer), cas) })
	})
	if err != nil {
		return err
	}
	return r.eachDir("acme", func(issuer string) error {
		return r.eachDir(path.Join(issuer, "users"), func(user string) error {
			return r.certmagicUser(user, cas[path.Base(issuer)])
		})
	})
}

func (r *reader) certmagicSite(site, issuer string, cas map[string]string) error {
	base := path.Join(site, path.Base(site))
	chain, err := r.dir.read(base + ".crt")
	if err != nil {
		return r.refuse(aCertificate, base+".crt", "", err)
	}
	key, err := r.dir.read(base + ".key")
	if err != nil {
		return r.refuse(aCertificate, base+".crt", "", err)
	}
	text, err := r.dir.readIfThere(base + ".json")
	if fatal(err) {
		return err
	}
	var meta struct {
		Data struct {
			URL     string `json:"url"`
			CA      string `json:"ca"`
			Account string `json:"account"`
		} `json:"issuer_data"`
	}
	_ = json.Unmarshal(text, &meta) // without it, the certificate is as good
	ca := webURL(meta.Data.CA)
	if ca != "" {
		cas[issuer] = ca
	} else {
		ca = cas[issuer]
	}
	return r.certificate(base+".crt", chain, key, record.Meta{CA: ca, Account: meta.Data.Account, Certificate: meta.Data.URL})
}

// certmagicUser reads the accounts in a user's directory, which has one. Its
// files are named after what is before the "@".
func (r *reader) certmagicUser(user, ca string) error {
	e, err := r.dir.list(user)
	if err != nil {
		return r.refuse(aDirectory, user, "", err)
	}
	for _, file := range e.files {
		name, ok := strings.CutSuffix(file, ".key")
		if !ok {
			continue
		}
		text, err := r.dir.readIfThere(path.Join(user, name+".json"))
		if fatal(err) {
			return err
		}
		var account struct {
			Status   string   `json:"status"`
			Contact  []string `json:"contact"`
			Location string   `json:"location"`
		}
		_ = json.Unmarshal(text, &account) // without it, the CA can be asked by the key
		reg := registration{ca: ca, url: account.Location, contacts: account.Contact, status: account.Status}
		if err := r.accountWithKey(path.Join(user, file), reg); err != nil {
			return err
		}
	}
	return nil
}

// accountWithKey takes an account of which the key is in a PEM file.
func (r *reader) accountWithKey(path string, reg registration) error {
	data, err := r.dir.read(path)
	if err != nil {
		return r.account(path, nil, err, reg)
	}
	key, err := onlyKey(data)
	return r.account(path, key, err, reg)
}

// certmagicIssuer returns the name that certmagic gives the CA of a directory URL
// in paths.
func certmagicIssuer(ca string) string {
	u, err := url.Parse(ca)
	if err != nil {
		return ""
	}
	name := u.Host
	if p := strings.Trim(u.Path, "/"); p != "" {
		name += "-" + strings.ReplaceAll(p, "/", "-")
	}
	return strings.ToLower(strings.ReplaceAll(name, ":", "-"))
}
