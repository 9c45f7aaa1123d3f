package migrate

import (
	"crypto"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const renewal = `# renew_before_expiry = 30 days
version = 2.11.0
archive_dir = /etc/letsencrypt/archive/example.com
cert = /etc/letsencrypt/live/example.com/cert.pem
privkey = /etc/letsencrypt/live/example.com/privkey.pem
chain = /etc/letsencrypt/live/example.com/chain.pem
fullchain = /etc/letsencrypt/live/example.com/fullchain.pem

# Options used in the renewal process
[renewalparams]
account = c0abbb93a768f260fb3b1a8cc84b0c77
authenticator = webroot
webroot_path = /var/www,
server = https://acme-v02.api.letsencrypt.org/directory
key_type = ecdsa
[[webroot_map]]
example.com = /var/www
server = https://not.this.one/
`

const certbotAccount = "accounts/acme-v02.api.letsencrypt.org/directory/c0abbb93a768f260fb3b1a8cc84b0c77/"

// certbotTree is /etc/letsencrypt after two issuances of one certificate.
func certbotTree(t *testing.T) (files map[string]string, key, account crypto.Signer) {
	t.Helper()
	was, is, acc := ecKey(t), ecKey(t), rsaKey()
	ca, _ := issuer()
	cert := leaf(t, is, []string{"example.com", "www.example.com"})
	return map[string]string{
		"live/README":                        "This directory contains your keys and certificates.",
		"live/example.com/README":            "…",
		"live/example.com/cert.pem":          "-> ../../archive/example.com/cert2.pem",
		"live/example.com/chain.pem":         "-> ../../archive/example.com/chain2.pem",
		"live/example.com/fullchain.pem":     "-> ../../archive/example.com/fullchain2.pem",
		"live/example.com/privkey.pem":       "-> ../../archive/example.com/privkey2.pem",
		"archive/example.com/fullchain1.pem": chain(t, was, "example.com"),
		"archive/example.com/privkey1.pem":   keyPEM(t, was),
		"archive/example.com/cert2.pem":      certPEM(cert),
		"archive/example.com/chain2.pem":     certPEM(ca),
		"archive/example.com/fullchain2.pem": certPEM(cert, ca),
		"archive/example.com/privkey2.pem":   keyPEM(t, is),
		"renewal/example.com.conf":           renewal,
		certbotAccount + "private_key.json":  jwkOf(t, acc),
		certbotAccount + "regr.json":         `{"body": {"contact": ["mailto:me@example.com"]}, "uri": "` + accountURL + `"}`,
		certbotAccount + "meta.json":         `{"creation_dt": "2021-05-05T05:05:05Z", "creation_host": "host", "register_to_eff": null}`,
	}, is, acc
}

func TestCertbot(t *testing.T) {
	files, key, account := certbotTree(t)
	place := tree(t, files)
	for _, sub := range []string{"", "live", "live/example.com"} {
		t.Run("at its directory "+sub, func(t *testing.T) {
			result := read(t, filepath.Join(place, sub), Certbot, Options{})
			wantReport(t, result,
				"account "+certbotAccount+"private_key.json ("+accountURL+"): taken",
				"certificate live/example.com/fullchain.pem (example.com): taken")
			if len(result.Certificates) != 1 || len(result.Accounts) != 1 {
				t.Fatal("not everything is taken")
			}
			got := result.Certificates[0]
			wantKey(t, got.Credential.Key, key)
			if want := []string{"example.com", "www.example.com"}; !slices.Equal(got.Names, want) {
				t.Errorf("it is for %q, want %q", got.Names, want)
			}
			c := got.Credential
			if c.CA != letsEncrypt || c.Account != accountURL || c.KeyType != "P-256" || len(c.Chain) != 2 || !c.When.Equal(now.AddDate(0, 0, -30)) {
				t.Errorf("it is of %q by %q, of type %s with %d certificates, from %v", c.CA, c.Account, c.KeyType, len(c.Chain), c.When)
			}
			a := result.Accounts[0]
			wantKey(t, a.Account.Key, account)
			if a.CA != letsEncrypt || a.Account.URL != accountURL || !slices.Equal(a.Account.Contacts, []string{"mailto:me@example.com"}) {
				t.Errorf("the account is %q at %q of %q", a.Account.URL, a.CA, a.Account.Contacts)
			}
		})
	}
}

// One lineage is asked for: others are not read.
func TestCertbotReadsOneLineage(t *testing.T) {
	files, _, _ := certbotTree(t)
	files["live/other.test/fullchain.pem"] = "no PEM"
	place := tree(t, files)
	result := read(t, filepath.Join(place, "live", "example.com"), Certbot, Options{})
	if len(result.Certificates) != 1 || len(result.Report) != 2 {
		t.Errorf("%d certificates are taken, and the report is %v", len(result.Certificates), result.Report)
	}
}

func TestCertbotFollowsItsOwnLinksOnly(t *testing.T) {
	secret := tree(t, map[string]string{"fullchain1.pem": "secret", "privkey1.pem": "secret"})
	for name, target := range map[string]string{
		"an absolute path":        filepath.Join(secret, "privkey1.pem"),
		"a path that leads out":   "../../../" + filepath.Base(secret) + "/privkey1.pem",
		"the accounts":            "../../" + certbotAccount + "private_key.json",
		"another kind of file":    "../../archive/example.com/fullchain2.pem",
		"a file without number":   "../../archive/example.com/privkey.pem",
		"a path with other steps": "../../archive/../archive/privkey2.pem",
		"a deeper file":           "../../archive/example.com/x/privkey2.pem",
		"itself":                  "privkey.pem",
	} {
		t.Run("not to "+name, func(t *testing.T) {
			files, _, _ := certbotTree(t)
			files["live/example.com/privkey.pem"] = "-> " + target
			result := read(t, tree(t, files), Certbot, Options{})
			if len(result.Certificates) != 0 || !strings.Contains(result.Report[1].Why, "a symbolic link that certbot does not make") {
				t.Errorf("%d certificates are taken: %+v", len(result.Certificates), result.Report)
			}
		})
	}
	t.Run("and not a second one", func(t *testing.T) {
		files, _, _ := certbotTree(t)
		files["archive/example.com/privkey2.pem"] = "-> privkey1.pem"
		result := read(t, tree(t, files), Certbot, Options{})
		if len(result.Certificates) != 0 || result.Report[1].Why != errNotFile.Error() {
			t.Errorf("%d certificates are taken: %+v", len(result.Certificates), result.Report)
		}
	})
}

// What somebody has copied, without links and without accounts, can be used.
func TestCertbotWithoutLinks(t *testing.T) {
	key := ecKey(t)
	place := tree(t, map[string]string{
		"archive/README":                 "",
		"live/example.com/fullchain.pem": chain(t, key, "example.com"),
		"live/example.com/privkey.pem":   sec1(t, key),
	})
	result := read(t, place, Certbot, Options{})
	wantReport(t, result, "certificate live/example.com/fullchain.pem (example.com): taken, which CA it is from is not known")
}

func TestCertbotTellsWhatItCannotUse(t *testing.T) {
	files, _, _ := certbotTree(t)
	delete(files, "archive/example.com/privkey2.pem")
	files[certbotAccount+"private_key.json"] = `{"kty": "RSA", "n": "AQAB"}`
	files[certbotAccount+"regr.json"] = `no JSON`
	files["live/empty/x"] = ""
	result := read(t, tree(t, files), Certbot, Options{})
	wantReport(t, result,
		"account "+certbotAccount+"private_key.json (): a number of the JSON Web Key is missing or cannot be read",
		`certificate live/empty/fullchain.pem (): "live/empty/fullchain.pem" is missing`,
		`certificate live/example.com/fullchain.pem (): "archive/example.com/privkey2.pem" is missing`)
}
