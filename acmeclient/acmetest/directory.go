package acmetest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
)

const directoryPath = "/directory"

// endpoints are the fields of the directory (RFC 8555 §7.1.1) by the kind of
// operation that they lead to.
var endpoints = []struct{ kind, path string }{
	{"newNonce", "/acme/new-nonce"},
	{"newAccount", "/acme/new-account"},
	{"newOrder", "/acme/new-order"},
	{"revokeCert", "/acme/revoke-cert"},
	{"keyChange", "/acme/key-change"},
}

// makeDirectory gives the endpoints their paths. The state is locked.
func (ca *CA) makeDirectory(s *state) {
	s.resources[directoryPath] = &resource{kind: kindDirectory}
	s.directory = map[string]string{}
	for _, e := range endpoints {
		kind := e.kind
		if kind == "revokeCert" {
			kind = kindRevoke
		}
		path := ca.oddPath(s, e.path, kind, "")
		s.resources[path] = &resource{kind: kind}
		s.directory[e.kind] = path
	}
	if ca.RenewalInfo {
		s.directory["renewalInfo"] = renewalInfoPath
	}
}

func (ca *CA) serveDirectory(rq *request) (*reply, *problem) {
	s := ca.lock()
	defer ca.mu.Unlock()
	doc := map[string]any{}
	for name, path := range s.directory {
		doc[name] = s.base + path
	}
	meta := map[string]any{"website": "https://acme.test/about"}
	if s.terms != "" {
		meta["termsOfService"] = s.terms
	}
	if len(ca.ExternalAccounts) > 0 {
		meta["externalAccountRequired"] = true
	}
	if profiles := ca.offered(s); len(profiles) > 0 {
		described := map[string]string{}
		for _, p := range profiles {
			described[p.Name] = p.Description
		}
		meta["profiles"] = described
	}
	doc["meta"] = meta
	// RFC 8555 §7.1.1: clients must not stumble over fields they do not know.
	doc["x-acmetest-random"] = "https://acme.test/see-rfc8555-section-7.1.1"
	return inJSON(http.StatusOK, doc), nil
}

// newNonce answers as RFC 8555 §7.2 says: 200 to HEAD and 204 to GET. The
// nonce itself is in every answer.
func (ca *CA) newNonce(rq *request) (*reply, *problem) {
	r := newReply(http.StatusNoContent)
	if rq.Method == http.MethodHead {
		r.status = http.StatusOK
	}
	return r, nil
}

// maxNonces bounds the nonces that are remembered. Older ones are forgotten,
// and refused as if they were used.
const maxNonces = 10_000

// nonces are those given out and not used yet.
type nonces struct {
	count uint64
	valid map[string]bool
	queue []string
}

// freshNonce makes a nonce. The state is locked.
func (ca *CA) freshNonce(s *state) string {
	s.nonces.count++
	sum := sha256.Sum256(fmt.Appendf(nil, "nonce %d %d", ca.Seed, s.nonces.count))
	nonce := base64.RawURLEncoding.EncodeToString(sum[:16])
	s.nonces.valid[nonce] = true
	s.nonces.queue = append(s.nonces.queue, nonce)
	if len(s.nonces.queue) > maxNonces {
		for _, old := range s.nonces.queue[:maxNonces/2] {
			delete(s.nonces.valid, old)
		}
		s.nonces.queue = append([]string(nil), s.nonces.queue[maxNonces/2:]...)
	}
	return nonce
}

// useNonce takes a nonce out of use (RFC 8555 §6.5).
func (ca *CA) useNonce(nonce string) *problem {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(nonce); err != nil || len(raw) == 0 {
		return refuse(malformed, "the nonce is not base64url")
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	if !s.nonces.valid[nonce] {
		return refuse(badNonce, "the nonce is unknown or was used before")
	}
	delete(s.nonces.valid, nonce)
	return nil
}
