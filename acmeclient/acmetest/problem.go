package acmetest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The error types of RFC 8555 §6.7 that the CA uses, with those of RFC 9773 and
// draft-ietf-acme-profiles.
const (
	accountDoesNotExist     = "accountDoesNotExist"
	alreadyReplaced         = "alreadyReplaced"
	alreadyRevoked          = "alreadyRevoked"
	badCSR                  = "badCSR"
	badNonce                = "badNonce"
	badPublicKey            = "badPublicKey"
	badRevocationReason     = "badRevocationReason"
	badSignatureAlgorithm   = "badSignatureAlgorithm"
	connection              = "connection"
	dnsProblem              = "dns"
	externalAccountRequired = "externalAccountRequired"
	invalidContact          = "invalidContact"
	invalidProfile          = "invalidProfile"
	malformed               = "malformed"
	orderNotReady           = "orderNotReady"
	rateLimited             = "rateLimited"
	rejectedIdentifier      = "rejectedIdentifier"
	serverInternal          = "serverInternal"
	tlsProblem              = "tls"
	unauthorized            = "unauthorized"
	unsupportedContact      = "unsupportedContact"
	unsupportedIdentifier   = "unsupportedIdentifier"
	userActionRequired      = "userActionRequired"
)

const problemPrefix = "urn:ietf:params:acme:error:"

// problem is a problem document (RFC 7807) as RFC 8555 §6.7 has it.
type problem struct {
	typ         string
	status      int
	detail      string
	identifier  string
	instance    string
	algorithms  []string
	subproblems []*problem
	header      http.Header
}

// refuse makes a problem with the status that goes with its type.
func refuse(typ, format string, args ...any) *problem {
	status := http.StatusBadRequest
	switch typ {
	case unauthorized, orderNotReady, userActionRequired, rejectedIdentifier, externalAccountRequired:
		status = http.StatusForbidden
	case rateLimited:
		status = http.StatusTooManyRequests
	case serverInternal:
		status = http.StatusInternalServerError
	case alreadyReplaced:
		status = http.StatusConflict
	}
	return &problem{typ: typ, status: status, detail: fmt.Sprintf(format, args...)}
}

// with sets another status than the type's usual one.
func (p *problem) with(status int) *problem {
	p.status = status
	return p
}

// about says which name is the trouble.
func (p *problem) about(name string) *problem {
	p.identifier = name
	return p
}

func (p *problem) Error() string { return p.typ + ": " + p.detail }

func (p *problem) MarshalJSON() ([]byte, error) {
	doc := struct {
		Type        string      `json:"type"`
		Status      int         `json:"status,omitempty"`
		Detail      string      `json:"detail"`
		Instance    string      `json:"instance,omitempty"`
		Identifier  *identifier `json:"identifier,omitempty"`
		Algorithms  []string    `json:"algorithms,omitempty"`
		Subproblems []*problem  `json:"subproblems,omitempty"`
	}{
		Type: problemPrefix + p.typ, Status: p.status, Detail: p.detail, Instance: p.instance,
		Algorithms: p.algorithms, Subproblems: p.subproblems,
	}
	if p.identifier != "" {
		id := identify(p.identifier)
		doc.Identifier = &id
	}
	return json.Marshal(doc)
}

// reply is an answer of the CA before it is written.
type reply struct {
	status  int
	header  http.Header
	body    []byte
	padding int // bytes of white space that follow the body
}

func newReply(status int) *reply {
	return &reply{status: status, header: http.Header{}}
}

// inJSON makes a reply of a value that is known to encode.
func inJSON(status int, v any) *reply {
	r := newReply(status)
	r.header.Set("Content-Type", "application/json")
	r.body, _ = json.Marshal(v)
	return r
}

// reply makes the answer that tells of the problem.
func (p *problem) reply() *reply {
	r := inJSON(p.status, p)
	r.header.Set("Content-Type", "application/problem+json")
	for k, v := range p.header {
		r.header[k] = v
	}
	return r
}
