package migrate

import (
	"crypto"
	"crypto/elliptic"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wantOrigin checks where a certificate is from.
func wantOrigin(t *testing.T, f Found, names []string, keyType, ca, account, certificate string) {
	t.Helper()
	c := f.Credential
	if !slices.Equal(f.Names, names) || c.KeyType != keyType || c.CA != ca || c.Account != account || c.Certificate != certificate {
		t.Errorf("%s is for %q, of type %s, from %q by %q at %q;\nwant %q, %s, %q, %q, %q",
			f.Path, f.Names, c.KeyType, c.CA, c.Account, c.Certificate, names, keyType, ca, account, certificate)
	}
}

// wantAccount checks an account.
func wantAccount(t *testing.T, a Account, key crypto.Signer, ca, url string, contacts ...string) {
	t.Helper()
	wantKey(t, a.Account.Key, key)
	if a.CA != ca || a.Account.URL != url || !slices.Equal(a.Account.Contacts, contacts) {
		t.Errorf("the account is %q at %q of %q, want %q, %q, %q", a.Account.URL, a.CA, a.Account.Contacts, url, ca, contacts)
	}
}

func TestCertmagic(t *testing.T) {
	const le, local = "acme-v02.api.letsencrypt.org-directory", "local"
	site := func(issuer, name string, key crypto.Signer, names ...string) map[string]string {
		base := "certificates/" + issuer + "/" + name + "/" + name
		return map[string]string{base + ".crt": chain(t, key, names...), base + ".key": keyPEM(t, key)}
	}
	key, wild, inner, account := ecKey(t), curveKey(t, elliptic.P384()), ecKey(t), ecKey(t)
	files := map[string]string{
		"certificates/" + le + "/example.com/example.com.json": `{"sans": ["example.com"], "issuer_data": {
			"url": "https://acme-v02.api.letsencrypt.org/acme/cert/04", "ca": "` + letsEncrypt + `", "account": "` + accountURL + `",
			"renewal_info": {"suggestedWindow": {}}}}`,
		"acme/" + le + "/users/me@example.com/me.json": `{"status": "valid", "contact": ["mailto:me@example.com"], "termsOfServiceAgreed": true, "location": "` + accountURL + `"}`,
		"acme/" + le + "/users/me@example.com/me.key":  sec1(t, account),
		"acme/acme.test-dir/users/default/default.key": sec1(t, account),
		"locks/issue_cert_x.lock":                      "{}",
		"ocsp/example.com-12345678":                    "x",
		"last_clean.json":                              "{}",
	}
	for _, more := range []map[string]string{
		site(le, "example.com", key, "example.com"), site(le, "wildcard_.example.com", wild, "*.example.com"), site(local, "inner.test", inner, "inner.test"),
	} {
		for name, content := range more {
			files[name] = content
		}
	}
	result := read(t, tree(t, files), Certmagic, Options{})
	wantReport(t, result,
		"certificate certificates/"+le+"/example.com/example.com.crt (example.com): taken",
		"certificate certificates/"+le+"/wildcard_.example.com/wildcard_.example.com.crt (*.example.com): taken",
		"certificate certificates/local/inner.test/inner.test.crt (inner.test): taken, which CA it is from is not known",
		"account acme/"+le+"/users/me@example.com/me.key ("+accountURL+"): taken",
		"account acme/acme.test-dir/users/default/default.key (): which CA it is at is not known")
	if len(result.Certificates) != 3 || len(result.Accounts) != 1 {
		t.Fatal("not everything is taken")
	}
	wantOrigin(t, result.Certificates[0], []string{"example.com"}, "P-256", letsEncrypt, accountURL, "https://acme-v02.api.letsencrypt.org/acme/cert/04")
	// Of the second, the JSON is missing: the directory tells the CA.
	wantOrigin(t, result.Certificates[1], []string{"*.example.com"}, "P-384", letsEncrypt, "", "")
	wantOrigin(t, result.Certificates[2], []string{"inner.test"}, "P-256", "", "", "")
	wantAccount(t, result.Accounts[0], account, letsEncrypt, accountURL, "mailto:me@example.com")

	// A CA that the caller knows is known again by the directory's name.
	result = read(t, tree(t, files), Certmagic, Options{CAs: []string{"https://acme.test/dir"}})
	if len(result.Accounts) != 2 {
		t.Fatalf("%d accounts are taken, want 2", len(result.Accounts))
	}
	wantAccount(t, result.Accounts[1], account, "https://acme.test/dir", "")
	if got, want := result.Report[4].Why, "its URL is not known: the CA will be asked for it"; got != want {
		t.Errorf("the report says %q, want %q", got, want)
	}
}

func TestCertmagicNamesIssuers(t *testing.T) {
	for ca, want := range map[string]string{
		letsEncrypt: "acme-v02.api.letsencrypt.org-directory", zeroSSL: "acme.zerossl.com-v2-dv90",
		"https://127.0.0.1:14000/dir": "127.0.0.1-14000-dir", "": "", "https://ca.test": "ca.test", "http://%": "",
	} {
		if got := certmagicIssuer(ca); got != want {
			t.Errorf("the issuer of %q is %q, want %q", ca, got, want)
		}
	}
}

func TestAutocert(t *testing.T) {
	key, account := ecKey(t), ecKey(t)
	files := map[string]string{
		"example.com":         sec1(t, key) + chain(t, key, "example.com"),
		"example.com+rsa":     keyPEM(t, rsaKey()) + chain(t, rsaKey(), "example.com"),
		"acme_account+key":    sec1(t, account),
		"example.org+token":   sec1(t, key) + chain(t, key, "example.org"),
		"abcdefgh+http-01":    "x",
		"half.test":           sec1(t, key),
		"README":              "hello",
		"a name with spaces":  "hello",
		"sub.test/nested.com": "x",
	}
	result := read(t, tree(t, files), Autocert, Options{})
	wantReport(t, result,
		"certificate README (): it has no private key in PEM",
		"account acme_account+key (): which CA it is at is not known",
		"certificate example.com (example.com): taken, which CA it is from is not known",
		"certificate example.com+rsa (example.com): taken, which CA it is from is not known",
		"certificate half.test (): it has no certificate in PEM")
	result = read(t, tree(t, files), Autocert, Options{CA: letsEncrypt})
	if len(result.Certificates) != 2 || len(result.Accounts) != 1 {
		t.Fatalf("not everything is taken: %+v", result.Report)
	}
	wantOrigin(t, result.Certificates[0], []string{"example.com"}, "P-256", letsEncrypt, "", "")
	wantOrigin(t, result.Certificates[1], []string{"example.com"}, "RSA-2048", letsEncrypt, "", "")
	wantAccount(t, result.Accounts[0], account, letsEncrypt, "")
	sets := Sets(result.Certificates)
	if len(sets) != 1 || len(sets[0].Set.Credentials) != 2 || sets[0].Set.Credentials[0].KeyType != "P-256" {
		t.Errorf("the two certificates make %d Sets, want one with the ECDSA one first", len(sets))
	}
}

func TestLego(t *testing.T) {
	key, wild, account, other := ecKey(t), rsaKey(), ecKey(t), curveKey(t, elliptic.P384())
	ca, _ := issuer()
	resource := func(host string) string {
		return fmt.Sprintf(`{"domain": "example.com", "certUrl": "https://%s/acme/cert/1", "certStableUrl": "https://%[1]s/acme/cert/2"}`, host)
	}
	registered := func(url, contact string) string {
		return `{"email": "me@example.com", "registration": {"body": {"status": "valid"` + contact + `}, "uri": "` + url + `"}}`
	}
	files := map[string]string{
		"certificates/example.com.crt":                                                 chain(t, key, "example.com", "www.example.com"),
		"certificates/example.com.key":                                                 sec1(t, key),
		"certificates/example.com.json":                                                resource("acme-v02.api.letsencrypt.org"),
		"certificates/example.com.issuer.crt":                                          certPEM(ca),
		"certificates/_.example.org.crt":                                               certPEM(leaf(t, wild, []string{"*.example.org"})),
		"certificates/_.example.org.key":                                               keyPEM(t, wild),
		"certificates/_.example.org.json":                                              resource("localhost:14000"),
		"certificates/_.example.org.issuer.crt":                                        certPEM(ca),
		"certificates/lost.test.crt":                                                   chain(t, key, "lost.test"),
		"accounts/acme-v02.api.letsencrypt.org/me@example.com/account.json":            registered(accountURL, `, "contact": ["mailto:me@example.com"]`),
		"accounts/acme-v02.api.letsencrypt.org/me@example.com/keys/me@example.com.key": sec1(t, account),
		"accounts/localhost_14000/myid/EC384/account.json":                             registered("https://localhost:14000/my-account/1", ""),
		"accounts/localhost_14000/myid/EC384/myid.key":                                 keyPEM(t, other),
		"accounts/ca.test/nokey/account.json":                                          registered("https://ca.test/1", ""),
		"accounts/ca.test/noJSON/account.json":                                         `{`,
		"accounts/ca.test/closed/account.json":                                         `{"registration": {"body": {"status": "deactivated"}, "uri": "https://ca.test/2"}}`,
		"accounts/ca.test/closed/keys/x.key":                                           sec1(t, account),
	}
	result := read(t, tree(t, files), Lego, Options{CAs: []string{letsEncrypt, zeroSSL, "https://localhost:14000/dir"}})
	wantReport(t, result,
		"account accounts/acme-v02.api.letsencrypt.org/me@example.com/keys/me@example.com.key ("+accountURL+"): taken",
		`account accounts/ca.test/closed/keys/x.key (https://ca.test/2): the account is "deactivated"`,
		"account accounts/ca.test/noJSON/account.json (): it is not JSON as lego writes it",
		"account accounts/ca.test/nokey/account.json (https://ca.test/1): its private key is missing",
		"account accounts/localhost_14000/myid/EC384/myid.key (https://localhost:14000/my-account/1): taken",
		"certificate certificates/_.example.org.crt (*.example.org): taken",
		"certificate certificates/example.com.crt (example.com): taken",
		`certificate certificates/lost.test.crt (): "certificates/lost.test.key" is missing`)
	if len(result.Certificates) != 2 || len(result.Accounts) != 2 {
		t.Fatal("not everything is taken")
	}
	wantOrigin(t, result.Certificates[0], []string{"*.example.org"}, "RSA-2048", "https://localhost:14000/dir", "https://localhost:14000/my-account/1", "https://localhost:14000/acme/cert/2")
	wantOrigin(t, result.Certificates[1], []string{"example.com", "www.example.com"}, "P-256", letsEncrypt, accountURL, "https://acme-v02.api.letsencrypt.org/acme/cert/2")
	if got := len(result.Certificates[0].Credential.Chain); got != 2 {
		t.Errorf("a certificate whose issuer has a file of its own comes with %d certificates, want 2", got)
	}
	wantAccount(t, result.Accounts[0], account, letsEncrypt, accountURL, "mailto:me@example.com")
	wantAccount(t, result.Accounts[1], other, "https://localhost:14000/dir", "https://localhost:14000/my-account/1", "mailto:me@example.com")

	// Without knowing CAs, the certificates are as good.
	result = read(t, tree(t, files), Lego, Options{})
	if len(result.Certificates) != 2 || len(result.Accounts) != 0 {
		t.Errorf("%d certificates and %d accounts are taken, want 2 and none", len(result.Certificates), len(result.Accounts))
	}
}

func TestAcmeSh(t *testing.T) {
	key, account := ecKey(t), ecKey(t)
	conf := func(ca string) string {
		return "Le_Domain='example.com'\nLe_Alt='www.example.com'\nLe_Webroot='/var/www'\nLe_PreHook='__ACME_BASE64__START_c2xlZXAgMQ==__ACME_BASE64__END_'\n" +
			"Le_API='" + ca + "'\nLe_Keylength='ec-256'\nLe_OrderFinalize='https://acme.zerossl.com/v2/DV90/order/x/finalize'\n" +
			"Le_LinkOrder='https://acme.zerossl.com/v2/DV90/order/x'\nLe_LinkCert='https://acme.zerossl.com/v2/DV90/cert/y'\nLe_CertCreateTime='1777000000'\n"
	}
	files := map[string]string{
		"account.conf":                            "UPGRADE_HASH='x'\n",
		"acme.sh":                                 "#!/usr/bin/env sh\n",
		"dnsapi/dns_cf.sh":                        "#!/usr/bin/env sh\n",
		"example.com_ecc/example.com.key":         sec1(t, key),
		"example.com_ecc/example.com.cer":         certPEM(leaf(t, key, []string{"example.com"})),
		"example.com_ecc/fullchain.cer":           chain(t, key, "example.com", "www.example.com"),
		"example.com_ecc/example.com.conf":        conf(zeroSSL),
		"example.com/example.com.key":             keyPEM(t, rsaKey()),
		"example.com/fullchain.cer":               chain(t, rsaKey(), "example.com"),
		"example.com/example.com.conf":            conf("__ACME_BASE64__START_aHR0cHM6Ly9jYS50ZXN0L2Rpcg==__ACME_BASE64__END_"),
		"*.example.org/*.example.org.key":         keyPEM(t, rsaKey()),
		"*.example.org/fullchain.cer":             chain(t, rsaKey(), "*.example.org"),
		"ca/acme.zerossl.com/v2/DV90/account.key": sec1(t, account),
		"ca/acme.zerossl.com/v2/DV90/account.json": `{"status": "valid", "contact": ["mailto:me@example.com"],
			"orders": "https://acme.zerossl.com/v2/DV90/account/1/orders"}`,
		"ca/acme.zerossl.com/v2/DV90/ca.conf":          "ACCOUNT_URL='https://acme.zerossl.com/v2/DV90/account/1'\nCA_KEY_HASH='x'\n",
		"ca/acme-v02.api.letsencrypt.org/account.key":  keyPEM(t, rsaKey()),
		"ca/acme-v02.api.letsencrypt.org/account.json": `not JSON`,
		"ca/acme-v02.api.letsencrypt.org/ca.conf":      "ACCOUNT_URL=\"" + accountURL + "\"\nCA_EMAIL='you@example.com'\nbroken\n",
	}
	result := read(t, tree(t, files), AcmeSh, Options{CAs: []string{letsEncrypt}})
	wantReport(t, result,
		"account ca/acme-v02.api.letsencrypt.org/account.key ("+accountURL+"): taken",
		"account ca/acme.zerossl.com/v2/DV90/account.key (https://acme.zerossl.com/v2/DV90/account/1): taken",
		"certificate *.example.org/fullchain.cer (*.example.org): taken, which CA it is from is not known",
		"certificate example.com/fullchain.cer (example.com): taken",
		"certificate example.com_ecc/fullchain.cer (example.com): taken")
	if len(result.Certificates) != 3 || len(result.Accounts) != 2 {
		t.Fatal("not everything is taken")
	}
	wantOrigin(t, result.Certificates[1], []string{"example.com"}, "RSA-2048", "https://ca.test/dir", "", "https://acme.zerossl.com/v2/DV90/cert/y")
	wantOrigin(t, result.Certificates[2], []string{"example.com", "www.example.com"}, "P-256", zeroSSL, "https://acme.zerossl.com/v2/DV90/account/1", "https://acme.zerossl.com/v2/DV90/cert/y")
	if got, want := result.Certificates[2].Credential.Order, "https://acme.zerossl.com/v2/DV90/order/x"; got != want {
		t.Errorf("its order is %q, want %q", got, want)
	}
	wantAccount(t, result.Accounts[0], rsaKey(), letsEncrypt, accountURL, "mailto:you@example.com")
	wantAccount(t, result.Accounts[1], account, zeroSSL, "https://acme.zerossl.com/v2/DV90/account/1", "mailto:me@example.com")
}

func TestPEM(t *testing.T) {
	key, other := ecKey(t), ecKey(t)
	ca, _ := issuer()
	cert := leaf(t, key, []string{"example.com"})
	place := tree(t, map[string]string{
		"cert.pem":       certPEM(cert),
		"chain.pem":      certPEM(ca),
		"privkey.pem":    keyPEM(t, key),
		"combined.PEM":   keyPEM(t, rsaKey()) + chain(t, rsaKey(), "example.org"),
		"orphan.crt":     chain(t, other, "orphan.test"),
		"lonely.key":     keyPEM(t, curveKey(t, elliptic.P521())),
		"encrypted.key":  "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"linked.pem":     "-> cert.pem",
		"notes.txt":      "hello",
		"request.pem":    "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
		"sub/nested.pem": keyPEM(t, key),
	})
	result := read(t, place, PEM, Options{CA: zeroSSL})
	wantReport(t, result,
		"certificate linked.pem (): it is a symbolic link, and is not followed",
		"certificate encrypted.key (): the private key is encrypted: decrypt it first, with openssl pkey",
		"certificate cert.pem (example.com): taken",
		"certificate combined.PEM (example.org): taken",
		"certificate orphan.crt (orphan.test): its private key is missing",
		"certificate lonely.key (): it is a private key to which no certificate is found")
	if len(result.Certificates) != 2 {
		t.Fatal("not everything is taken")
	}
	wantOrigin(t, result.Certificates[0], []string{"example.com"}, "P-256", zeroSSL, "", "")
	if got := len(result.Certificates[0].Credential.Chain); got != 2 {
		t.Errorf("cert.pem comes with %d certificates, want that of chain.pem behind its own", got)
	}

	result = read(t, place+"/combined.PEM", PEM, Options{})
	if len(result.Certificates) != 1 || result.Certificates[0].Names[0] != "example.org" {
		t.Errorf("of one file is taken: %+v", result.Report)
	}
}

// The same certificate in several files is one; the one with most of the chain
// counts.
func TestPEMTakesACertificateOnce(t *testing.T) {
	key := ecKey(t)
	ca, _ := issuer()
	cert := leaf(t, key, []string{"example.com"})
	place := tree(t, map[string]string{
		"a.cer": certPEM(cert), "b.cer": certPEM(cert, ca), "c.cer": certPEM(cert, ca), "d.key": keyPEM(t, key), "e.key": keyPEM(t, key),
	})
	result := read(t, place, PEM, Options{})
	wantReport(t, result, "certificate b.cer (example.com): taken, which CA it is from is not known")
}

func TestShellValues(t *testing.T) {
	got := shellValues([]byte("A='1'\nB=\"2\"\nC=3\r\n D = 4\nnothing\nE='__ACME_BASE64__START_!__ACME_BASE64__END_'\nF='\nG=''\n"))
	want := map[string]string{"A": "1", "B": "2", "C": "3", "D ": " 4", "F": "'", "G": ""}
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %q, want %q", name, got[name], value)
		}
	}
}

func TestRenewalParams(t *testing.T) {
	got := renewalParams([]byte(strings.ReplaceAll(renewal, "\n", "\r\n")))
	if got["server"] != letsEncrypt || got["account"] != "c0abbb93a768f260fb3b1a8cc84b0c77" || got["version"] != "" {
		t.Errorf("the parameters are %q", got)
	}
}
