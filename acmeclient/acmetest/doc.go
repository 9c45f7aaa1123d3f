// Package acmetest is a CA for tests.
//
// A [CA] speaks ACME (RFC 8555, with tls-alpn-01 of RFC 8737, IP addresses of
// RFC 8738, renewal information of RFC 9773, and profiles) as a public CA does: it checks signatures and
// nonces, validates names by looking at them, and issues certificates that
// verify against its roots. It is written from the RFCs and shares no code
// with any client, so that a client and this CA cannot be wrong together.
//
// # Reaching the CA
//
// Give clients [CA.Client] as their HTTP client and [CA.DirectoryURL] as their
// directory: requests are function calls, without a network and without
// goroutines of their own, which makes them work in a testing/synctest bubble.
// To serve the CA over HTTPS on loopback instead, call [CA.Start] and let the
// client trust [CA.TLSRoots].
//
// # Being reached by the CA
//
// The CA validates for real. It connects through CA.Dial; or, without it, to
// CA.HTTP and CA.TLS in memory, or to CA.HTTPPort and CA.TLSPort on loopback.
// For dns-01 it asks CA.LookupTXT. Only what it can look at is offered, and
// names for which nothing is left are refused with a word on what to set.
//
// # Seeing what happened
//
// [CA.Accounts], [CA.Orders], [CA.Certificates], [CA.Validations] and
// [CA.Requests] tell what the CA saw; [CA.Trace] has one line for each
// request.
//
// CA.Limits and CA.PauseAfter limit clients in the way and words of Let's
// Encrypt. [CA.Refused] tells whom: a client that minds its limits is never
// there.
//
// # What CAs differ in
//
// CA.Profiles, CA.IPAddresses, CA.RefuseDates, CA.MustStaple, CA.Alternates,
// CA.TermsOfService and CA.ExternalAccounts are what some CAs offer or ask for
// and others do not. [CA.RetireProfile], [CA.ChangeTerms] and
// [CA.ForgetAccounts] are how they change over the years.
//
// # Unfairness
//
// The zero CA is fair and fast. What real CAs and networks do to clients, and
// some things that only a broken one would do, comes in two ways. [Faults]
// draws it by [CA.Seed], bounded so that an honest client succeeds in the end.
// CA.Fault decides for each request: run a scenario once, take the number of
// requests, then run it again with each of them broken before and after its
// effect.
package acmetest
