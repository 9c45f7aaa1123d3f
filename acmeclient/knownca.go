package acmeclient

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// KnownCA is what is known of a CA beforehand. Where a CA's directory says something else ([Directory]), that is right:
// what stands here is for choosing a CA, for checking a configuration before any network is asked, and for people to read.
type KnownCA struct {
	Name    string   // as CA.Name has it once resolved
	Aliases []string // other spellings of it; case does not matter
	Title   string   // for people
	URL     string   // of the directory

	// Rehearsal is the Name of the CA's test endpoint, which has limits of its own. Empty: there is none, or this is one.
	Rehearsal string

	NeedsEAB     bool   // accounts need an external account binding (RFC 8555 §7.3.4), even if the directory does not say so
	SingleUseEAB bool   // of which each makes one account
	EABHelp      string // where to get one; the rest of a sentence

	NeedsContact  bool // accounts need an e-mail address, although registering one without goes well
	NoRenewalInfo bool // renewal information (RFC 9773) does not work, even if the directory lists it
	NoKeyChange   bool // account keys cannot be changed (RFC 8555 §7.3.5)
	NoIPs         bool // IP identifiers (RFC 8738) are refused

	// Profiles are how long the certificates of its profiles last, by name, where it is known: the directory has only descriptions for
	// people (draft-ietf-acme-profiles). What is out of date leads to a certificate that lasts longer, and OrderRequest.Deviations tells.
	Profiles map[string]time.Duration

	// IPProfile is the profile (draft-ietf-acme-profiles) that orders with IP identifiers need. Empty: none is known of.
	IPProfile string

	// NotAfter: the order's notAfter (RFC 8555 §7.1.3) is honoured. If not, an order that has one may be refused.
	NotAfter bool

	Validity      time.Duration // of a certificate that nothing else is asked for. Zero: it is not the same for all
	CAAIdentities []string      // what a CAA record has to say to allow this CA (RFC 8659 §4.2)
	Limits        Limits        // where they are known to differ from the guess of CA.Allowed
}

const (
	letsEncryptURL        = "https://acme-v02.api.letsencrypt.org/directory"
	letsEncryptStagingURL = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// KnownCAs returns all CAs that are known by name, with their test endpoints.
func KnownCAs() []KnownCA {
	var all []KnownCA
	for i := range knownCAs() {
		all = append(all, knownCAs()[i].clone())
	}
	return all
}

// clone returns k for a caller who may change it.
func (k *KnownCA) clone() KnownCA {
	c := *k
	c.Aliases, c.CAAIdentities, c.Profiles = slices.Clone(k.Aliases), slices.Clone(k.CAAIdentities), maps.Clone(k.Profiles)
	return c
}

// knownCAs is the table, made once: every Domain of a Manager looks into it. Nobody writes to it.
var knownCAs = sync.OnceValue(makeKnownCAs)

func makeKnownCAs() []KnownCA {
	const day = 24 * time.Hour
	const (
		googleEAB  = "it is made with 'gcloud publicca external-account-keys create' (https://cloud.google.com/certificate-manager/docs/public-ca-tutorial) and lasts seven days"
		sslEAB     = "it is in the dashboard at https://secure.ssl.com under 'developers and integration', 'API credentials'"
		sectigoEAB = "it is in Sectigo Certificate Manager at the ACME account, or came with the order"
	)
	// https://letsencrypt.org/docs/profiles/ as of 2026-07-14; the test endpoint has the same.
	letsEncryptProfiles := map[string]time.Duration{"classic": 90 * day, "tlsserver": 45 * day, "shortlived": 160 * time.Hour}
	// Sectigo issues for ZeroSSL, too.
	sectigoCAA := []string{"sectigo.com", "trust-provider.com", "usertrust.com", "comodoca.com", "comodo.com"}
	// https://cloud.google.com/certificate-manager/docs/quotas as of 2026-04-08: per project; the test endpoint has the same.
	googleLimits := Limits{Orders: Rate{100, time.Hour}}
	return []KnownCA{
		{
			Name: "letsencrypt", Title: "Let's Encrypt", URL: letsEncryptURL, Rehearsal: "letsencrypt-staging",
			Profiles: letsEncryptProfiles, IPProfile: "shortlived",
			Validity: 90 * day, CAAIdentities: []string{"letsencrypt.org"}, Limits: letsEncryptLimits(),
		}, {
			Name: "letsencrypt-staging", Aliases: []string{"letsencrypt-test"}, Title: "Let's Encrypt (staging)", URL: letsEncryptStagingURL,
			Profiles: letsEncryptProfiles, IPProfile: "shortlived",
			Validity: 90 * day, CAAIdentities: []string{"letsencrypt.org"}, Limits: letsEncryptStagingLimits(),
		}, {
			Name: "google", Aliases: []string{"gts", "googletrust"}, Title: "Google Trust Services",
			URL: "https://dv.acme-v02.api.pki.goog/directory", Rehearsal: "google-staging",
			NeedsEAB: true, SingleUseEAB: true, EABHelp: googleEAB,
			NotAfter: true, Validity: 90 * day, CAAIdentities: []string{"pki.goog"}, Limits: googleLimits,
		}, {
			Name: "google-staging", Aliases: []string{"google-test", "gts-staging", "googletrust-staging"}, Title: "Google Trust Services (staging)",
			URL:      "https://dv.acme-v02.test-api.pki.goog/directory",
			NeedsEAB: true, SingleUseEAB: true, EABHelp: googleEAB + "; for staging, it is made at the staging endpoint of that API",
			NotAfter: true, Validity: 90 * day, CAAIdentities: []string{"pki.goog"}, Limits: googleLimits,
		}, {
			Name: "zerossl", Title: "ZeroSSL", URL: "https://acme.zerossl.com/v2/DV90",
			NeedsEAB: true, EABHelp: "it is made at https://app.zerossl.com/developer",
			NoKeyChange: true, NoIPs: true, Validity: 90 * day, CAAIdentities: sectigoCAA,
		}, {
			// The directories of SSL.com say that no binding is required, and list renewal information that answers with 403.
			// An account with funds is charged for a certificate of a year. Without an e-mail address finalizing ends in badCSR.
			Name: "sslcom-rsa", Aliases: []string{"sslcom", "ssl.com"}, Title: "SSL.com (RSA)",
			URL: "https://acme.ssl.com/sslcom-dv-rsa", Rehearsal: "sslcom-rsa-staging",
			NeedsEAB: true, EABHelp: sslEAB, NeedsContact: true,
			NoRenewalInfo: true, NoKeyChange: true, NoIPs: true, Validity: 90 * day, CAAIdentities: []string{"ssl.com"},
		}, {
			Name: "sslcom-ecc", Aliases: []string{"sslcom-ecdsa"}, Title: "SSL.com (ECC)",
			URL: "https://acme.ssl.com/sslcom-dv-ecc", Rehearsal: "sslcom-ecc-staging",
			NeedsEAB: true, EABHelp: sslEAB, NeedsContact: true,
			NoRenewalInfo: true, NoKeyChange: true, NoIPs: true, Validity: 90 * day, CAAIdentities: []string{"ssl.com"},
		}, {
			Name: "sslcom-rsa-staging", Aliases: []string{"sslcom-test", "sslcom-rsa-test"}, Title: "SSL.com (RSA, test)",
			URL:      "https://acme-try.ssl.com/sslcom-dv-rsa",
			NeedsEAB: true, EABHelp: sslEAB + ", of an account for tests", NeedsContact: true,
			NoRenewalInfo: true, NoKeyChange: true, NoIPs: true, Validity: 90 * day, CAAIdentities: []string{"ssl.com"},
		}, {
			Name: "sslcom-ecc-staging", Aliases: []string{"sslcom-ecc-test"}, Title: "SSL.com (ECC, test)",
			URL:      "https://acme-try.ssl.com/sslcom-dv-ecc",
			NeedsEAB: true, EABHelp: sslEAB + ", of an account for tests", NeedsContact: true,
			NoRenewalInfo: true, NoKeyChange: true, NoIPs: true, Validity: 90 * day, CAAIdentities: []string{"ssl.com"},
		}, {
			// A challenge that has failed stays processing and is not tried again: only another order helps.
			Name: "actalis", Title: "Actalis", URL: "https://acme-api.actalis.com/acme/directory",
			NeedsEAB: true, EABHelp: "it is in the customer area at https://www.actalis.com/manage-with-acme",
			NoIPs: true, Validity: 90 * day, CAAIdentities: []string{"actalis.it"},
		},
		{Name: "sectigo", Aliases: []string{"sectigo-dv"}, Title: "Sectigo (DV)", URL: "https://acme.sectigo.com/v2/DV",
			NeedsEAB: true, EABHelp: sectigoEAB, CAAIdentities: sectigoCAA},
		{Name: "sectigo-ov", Title: "Sectigo (OV)", URL: "https://acme.sectigo.com/v2/OV",
			NeedsEAB: true, EABHelp: sectigoEAB, CAAIdentities: sectigoCAA},
		{Name: "sectigo-ev", Title: "Sectigo (EV)", URL: "https://acme.sectigo.com/v2/EV",
			NeedsEAB: true, EABHelp: sectigoEAB, CAAIdentities: sectigoCAA},
	}
}

// Known returns what is known of ca beforehand: by its URL, or by its Name if it has none. Of others, nothing is known.
func (ca CA) Known() (KnownCA, bool) {
	if known := ca.known(); known != nil {
		return known.clone(), true
	}
	return KnownCA{}, false
}

// known returns a row of the table, or nil.
func (ca CA) known() *KnownCA {
	switch {
	case ca.Protocol != ACME:
		return nil
	case ca.URL == "":
		return knownByName(cmp.Or(ca.Name, "letsencrypt"))
	}
	if known := knownByURL(ca.URL); known != nil {
		return known
	}
	u, err := parseDirectoryURL(ca.URL, ca.PlainLoopback)
	if err != nil {
		return nil
	}
	return knownByURL(u.String())
}

// knownByURL finds a CA by its URL as parseDirectoryURL writes it.
func knownByURL(url string) *KnownCA {
	return findKnown(func(k *KnownCA) bool { return k.URL == url })
}

// knownByName finds a CA by name or alias, however they are spelled.
func knownByName(name string) *KnownCA {
	name = plainName(name)
	return findKnown(func(k *KnownCA) bool {
		return name == plainName(k.Name) || slices.ContainsFunc(k.Aliases, func(a string) bool { return name == plainName(a) })
	})
}

// plainName makes names equal that differ only in case and in how words are joined: LetsEncrypt-Test, letsencrypt_test.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

func findKnown(is func(*KnownCA) bool) *KnownCA {
	all := knownCAs()
	for i := range all {
		if is(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// knownNames lists the names for messages.
func knownNames() string {
	var names []string
	for _, k := range knownCAs() {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ") + " and tailscale"
}

// Rehearsal returns the CA's test endpoint, where an order spends none of the limits of ca, and false if it is not known to
// have one. Connections are made as those to ca. The account is another one: it has ca.RehearsalEAB, if the CA needs an EAB.
// What it lacks, Resolve tells.
func (ca CA) Rehearsal() (CA, bool) {
	known := ca.known()
	if known == nil || known.Rehearsal == "" {
		return CA{}, false
	}
	test := knownByName(known.Rehearsal)
	return CA{
		Name:          test.Name,
		URL:           test.URL,
		Roots:         ca.Roots,
		Proxy:         ca.Proxy,
		PlainLoopback: ca.PlainLoopback,
		EAB:           ca.RehearsalEAB,
		AccountKey:    ca.AccountKey,
	}, true
}
