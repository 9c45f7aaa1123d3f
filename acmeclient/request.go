package acmeclient

import (
	"crypto/x509"
	"fmt"
	"time"
)

// An OrderRequest says what certificate is wanted. Only Names must be set.
//
// CAs differ in what they can do. What a CA does not offer or refuses, and is not required, is left out: Order.Warnings tells of that, and
// Deviations of what the certificate lacks in the end.
type OrderRequest struct {
	// Names are ASCII DNS names, with or without a leading "*.", and IP addresses. At least one; see Identifiers.
	Names []string

	// Profile is one of Directory.Profiles, in any case (draft-ietf-acme-profiles). It is asked for if the CA lists it.
	// Empty: the one that IP addresses among Names need or that comes close to Lifetime, if it is known, else the CA's default.
	Profile string

	// ProfileRequired: without Profile there is no order, but a *Problem of kind invalidProfile that lists what the CA offers.
	ProfileRequired bool

	// Lifetime is how long the certificate shall last: by its profile if it is known how long those of the CA last, else by notAfter
	// (RFC 8555 §7.4), unless it is known that the CA does not take that. Zero: as the CA likes.
	Lifetime time.Duration

	// MustStaple asks, in the CSR, for a certificate that clients take only with an OCSP response (RFC 7633).
	// CAs may refuse the CSR (badCSR), or ignore it.
	MustStaple bool

	// Replaces is the CertID of the certificate that this order renews (RFC 9773 §5). It must come from the same CA and account.
	// It is sent only if the CA has renewal information. Empty: none.
	Replaces string

	// Known is what is known of the CA beforehand. Zero: what CA.Known tells of the session's CA.
	Known KnownCA
}

// Deviations tells in what leaf is not what r asked for, without being of no use; CheckChain tells of that. None is a reason to order
// again: the CA would do the same.
func (r OrderRequest) Deviations(leaf *x509.Certificate) (warnings []string) {
	switch has := MustStaple(leaf); {
	case r.MustStaple && !has:
		warnings = append(warnings, "the CA has ignored that the certificate shall demand stapling (must-staple, RFC 7633): it does not")
	case has && !r.MustStaple:
		warnings = append(warnings, "the certificate demands stapling (must-staple, RFC 7633), which was not asked for: clients refuse it without an OCSP response")
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	// CAs let certificates begin an hour or so before they are issued, and round.
	if most := r.Lifetime + r.Lifetime/10 + 2*time.Hour; r.Lifetime > 0 && life > most {
		warnings = append(warnings, fmt.Sprintf("the certificate lasts %v, longer than the %v that were asked for", life, r.Lifetime))
	}
	return warnings
}
