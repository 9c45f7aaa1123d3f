package acmeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	directoryAge       = time.Hour // how long a directory is believed
	maxDirectoryValues = 100       // profiles, and CAA identities
	maxDirectoryText   = 4 << 10   // bytes of each
)

// Directory is what a CA says about itself (RFC 8555 §7.1.1). All text in it is bounded and free of control characters.
type Directory struct {
	TermsOfService, Website string            // URLs; empty: there are none
	CAAIdentities           []string          // names that a CAA record may give to allow this CA
	ExternalAccountRequired bool              // accounts are bound to one at the CA's web site (RFC 8555 §7.3.4)
	Profiles                map[string]string // name and description, or its URL (draft-ietf-acme-profiles); empty: there are none
	RenewalInfo             string            // URL (RFC 9773); empty: not offered
}

// directoryDoc is a directory as it is cached, and as x/crypto gets it: only what was checked.
type directoryDoc struct {
	NewNonce    string        `json:"newNonce"`
	NewAccount  string        `json:"newAccount"`
	NewOrder    string        `json:"newOrder"`
	RevokeCert  string        `json:"revokeCert,omitempty"`
	KeyChange   string        `json:"keyChange,omitempty"`
	RenewalInfo string        `json:"renewalInfo,omitempty"`
	Meta        directoryMeta `json:"meta"`
}

type directoryMeta struct {
	TermsOfService          string            `json:"termsOfService,omitempty"`
	Website                 string            `json:"website,omitempty"`
	CAAIdentities           []string          `json:"caaIdentities,omitempty"`
	ExternalAccountRequired bool              `json:"externalAccountRequired,omitempty"`
	Profiles                map[string]string `json:"profiles,omitempty"`
}

func (d *directoryDoc) directory() Directory {
	return Directory{
		TermsOfService:          d.Meta.TermsOfService,
		Website:                 d.Meta.Website,
		CAAIdentities:           slices.Clone(d.Meta.CAAIdentities), // the cached ones stay as they are
		ExternalAccountRequired: d.Meta.ExternalAccountRequired,
		Profiles:                maps.Clone(d.Meta.Profiles),
		RenewalInfo:             d.RenewalInfo,
	}
}

func (d *directoryDoc) reply() *reply {
	body, err := json.Marshal(d)
	if err != nil { // strings and a bool: it cannot happen
		body = nil
	}
	return &reply{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body}
}

// errNoDirectory: what came is something else, by accident or for good.
var errNoDirectory = errors.New("is the URL the one of an ACME directory?")

// parseDirectory reads a directory and checks every URL in it. What is optional and unusable is left out.
func parseDirectory(body []byte, plainLoopback bool) (*directoryDoc, error) {
	var doc directoryDoc
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &doc); err != nil && !errors.As(err, &wrongType) {
		return nil, fmt.Errorf("the CA's directory is not JSON (%s); %w", clean(err.Error(), maxShort), errNoDirectory)
	}
	if doc.NewNonce == "" || doc.NewAccount == "" || doc.NewOrder == "" {
		return nil, incompleteDirectory(body)
	}
	for _, v := range []struct {
		field    string
		url      *string
		required bool
	}{
		{"newNonce", &doc.NewNonce, true},
		{"newAccount", &doc.NewAccount, true},
		{"newOrder", &doc.NewOrder, true},
		{"revokeCert", &doc.RevokeCert, false},
		{"keyChange", &doc.KeyChange, false},
		{"renewalInfo", &doc.RenewalInfo, false},
	} {
		err := checkURLString(*v.url, plainLoopback)
		if err == nil {
			continue
		}
		if v.required {
			return nil, fmt.Errorf("the %s URL %q in the CA's directory %w", v.field, clean(*v.url, maxURL), err)
		}
		*v.url = ""
	}
	m := &doc.Meta
	m.TermsOfService, m.Website = clean(m.TermsOfService, maxURL), clean(m.Website, maxURL)
	m.CAAIdentities = m.CAAIdentities[:min(len(m.CAAIdentities), maxDirectoryValues)]
	for i, v := range m.CAAIdentities {
		m.CAAIdentities[i] = clean(v, maxShort)
	}
	m.Profiles = cleanProfiles(m.Profiles)
	return &doc, nil
}

// cleanProfiles keeps the first hundred profiles whose names can be printed as they are: a name that had to be changed could not be asked for.
func cleanProfiles(profiles map[string]string) map[string]string {
	kept := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if len(kept) < maxDirectoryValues && name != "" && clean(name, maxShort) == name {
			kept[name] = clean(profiles[name], maxDirectoryText)
		}
	}
	return kept
}

// incompleteDirectory says what it is that looks like a directory and is none.
func incompleteDirectory(body []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) == nil {
		for _, v1 := range []string{"new-reg", "new-authz", "new-cert"} {
			if fields[v1] != nil {
				return fmt.Errorf("the CA's directory has %q: %w", v1, errACMEv1)
			}
		}
	}
	return fmt.Errorf("the CA's directory lacks newNonce, newAccount or newOrder (RFC 8555 §7.1.1); %w", errNoDirectory)
}

func checkURLString(s string, plainLoopback bool) error {
	if len(s) > maxURL {
		return fmt.Errorf("is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("is not a URL")
	}
	return checkURL(u, plainLoopback)
}

// directoryCache keeps one directory for a while. Those who need it while it is being fetched wait for the one who fetches it.
type directoryCache struct {
	mu     sync.Mutex // guards all below; not held while fetching
	doc    *directoryDoc
	until  time.Time
	flight *directoryFlight // nil: nobody is fetching
}

// directoryFlight is one fetch. doc and err are written before done is closed, and read after.
type directoryFlight struct {
	done      chan struct{}
	doc       *directoryDoc
	err       error
	abandoned bool // it failed because the context of the one who fetched ended, which says nothing to the others
}

// distrust is told of a URL that did not work. If it came from the directory, the next one who needs that fetches it: the CA may have moved.
func (d *directoryCache) distrust(url string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doc != nil && (url == d.doc.NewNonce || url == d.doc.NewAccount || url == d.doc.NewOrder) {
		d.until = time.Time{}
	}
}

// join returns the cached directory if it is fresh, else the fetch under way, else a fetch that is the caller's to carry out.
func (d *directoryCache) join() (doc *directoryDoc, flight *directoryFlight, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doc != nil && time.Now().Before(d.until) {
		return d.doc, nil, false
	}
	if d.flight != nil {
		return nil, d.flight, false
	}
	d.flight = &directoryFlight{done: make(chan struct{}), err: errors.New("fetching the directory was interrupted")}
	return nil, d.flight, true
}

// land ends a fetch.
func (d *directoryCache) land(f *directoryFlight) {
	d.mu.Lock()
	if f.err == nil {
		d.doc, d.until = f.doc, time.Now().Add(directoryAge)
	}
	d.flight = nil
	d.mu.Unlock()
	close(f.done)
}

// directory returns the CA's directory. The caller that fetches it does so in its own context; if that ends, another takes over.
func (t *transport) directory(ctx context.Context) (*directoryDoc, error) {
	for {
		doc, flight, mine := t.dir.join()
		switch {
		case doc != nil:
			return doc, nil
		case mine:
			t.fly(ctx, flight)
			return flight.doc, flight.err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-flight.done:
		}
		if !flight.abandoned {
			return flight.doc, flight.err
		}
	}
}

// fly fetches the directory. It lands whatever happens, or all others would wait for ever.
func (t *transport) fly(ctx context.Context, f *directoryFlight) {
	defer t.dir.land(f)
	f.doc, f.err = t.fetchDirectory(ctx)
	f.abandoned = f.err != nil && ctx.Err() != nil
}

func (t *transport) fetchDirectory(ctx context.Context) (doc *directoryDoc, err error) {
	const op = "read the CA's directory"
	err = t.look(ctx, op, t.directoryURL, func() (bool, error) {
		doc, err = t.askDirectory(ctx, op)
		return isWorthRepeating(err), err
	})
	return doc, err
}

func (t *transport) askDirectory(ctx context.Context, op string) (*directoryDoc, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.directoryURL, nil)
	if err != nil {
		return nil, &Problem{Op: op, URL: t.directoryURL, Err: err}
	}
	req.Header.Set("Accept", "application/json")
	r, err := t.send(req, nil)
	if err != nil {
		return nil, &Problem{Op: op, URL: t.directoryURL, Err: err}
	}
	if r.status != http.StatusOK {
		p := parseProblem(r)
		p.Op = op
		return nil, p
	}
	doc, err := parseDirectory(r.body, t.plainLoopback)
	if err != nil {
		p := &Problem{Op: op, URL: t.directoryURL, Status: r.status, Err: err}
		p.garbled = errors.Is(err, errNoDirectory) && r.retryAfter() == 0
		return nil, p
	}
	t.nonces.put(r.nonce(), r.at)
	return doc, nil
}
