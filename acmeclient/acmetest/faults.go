package acmetest

import "fmt"

// Faults says how unfair a CA is: for each kind of unfairness the share, from
// 0 to 1, of the occasions at which it happens. Whether it does is drawn from
// a hash of CA.Seed, the kind, and the operation, object and count that Op
// has: never from a shared stream of numbers. So the same operations meet the
// same faults, whatever happens in between.
//
// All faults that make an attempt fail are bounded, so that an honest client
// that tries again succeeds even with all shares 1: operations on an order
// and its authorizations are hit at most twice for each Op.Kind and Op.Object
// until a right certificate for those names is downloaded without a fault;
// then counting begins again. Other operations are hit at most twice in a
// row, whoever asks. The same bound holds for odd Retry-After headers, and for
// wrong certificates: two at most, then a right one.
type Faults struct {
	// Of all requests:
	LostRequest float64 // FaultBefore
	LostReply   float64 // FaultAfter
	Hang        float64 // FaultHang: for clients with timeouts
	BadNonce    float64 // FaultBadNonce, with a fresh nonce in the answer
	ServerError float64 // Fault500 or Fault503
	RateLimited float64 // Fault429
	Garbage     float64 // FaultGarbage
	Huge        float64 // FaultHuge

	// OddProblems are problem documents with control characters,
	// bidirectional marks and a hundred thousand characters.
	OddProblems float64

	// RetryAfter are Retry-After headers in any RetryForm instead of the
	// chosen one.
	RetryAfter float64

	// OddURLs are URLs with queries, escapes and depth: all valid.
	OddURLs float64

	// Shuffle is how often identifiers, authorizations and challenges are
	// listed in another order.
	Shuffle float64

	// NoLocation leaves out Location where RFC 8555 does not demand it: on
	// all answers that show an order but that of newOrder.
	NoLocation float64

	// OddChallenges adds challenges that the client may not know to an
	// authorization, one of them without a token. None of them can be
	// validated.
	OddChallenges float64

	// ReuseOrder answers newOrder with a pending or ready order for the same.
	ReuseOrder float64

	// SlowValidation shows decided authorizations as pending for one to five
	// more looks.
	SlowValidation float64

	// SlowFinalize shows finalized orders as processing for one to five more
	// looks; LateFinalize shows them as ready instead of processing.
	// InstantFinalize answers finalize with a valid order.
	SlowFinalize, LateFinalize, InstantFinalize float64

	// FinalizeAgain answers a second finalize of a valid order with the order
	// instead of orderNotReady.
	FinalizeAgain float64

	// Of all certificates, those wrong in one way; see Wrong.
	WrongKey, WrongName, MissingName, Expired, NotYetValid, Foreign float64

	// Extra is the share of right chains behind which another certificate
	// follows, which has nothing to do with them and may be expired.
	Extra float64
}

// Everything returns Faults with all shares the same.
func Everything(share float64) Faults {
	return Faults{
		LostRequest: share, LostReply: share, Hang: share, BadNonce: share, ServerError: share,
		RateLimited: share, Garbage: share, Huge: share, OddProblems: share, RetryAfter: share,
		OddURLs: share, Shuffle: share, NoLocation: share, OddChallenges: share, ReuseOrder: share,
		SlowValidation: share, SlowFinalize: share, LateFinalize: share, InstantFinalize: share,
		FinalizeAgain: share, WrongKey: share, WrongName: share, MissingName: share, Expired: share,
		NotYetValid: share, Foreign: share, Extra: share,
	}
}

// Wrong is in what way a certificate is not what was ordered.
type Wrong int

const (
	NotWrong    Wrong = iota
	WrongKey          // for another key
	WrongName         // for another name only
	MissingName       // the first name is missing
	Expired           // it ended before it was issued
	NotYetValid       // it starts after half its lifetime
	Foreign           // its issuer is not the next one in the chain
)

var wrongNames = [...]string{"right", "wrong key", "wrong name", "missing name", "expired", "not yet valid", "foreign"}

func (w Wrong) String() string {
	if w < 0 || int(w) >= len(wrongNames) {
		return fmt.Sprintf("Wrong(%d)", int(w))
	}
	return wrongNames[w]
}

// RetryForm is how a Retry-After header is written.
type RetryForm int

const (
	RetrySeconds  RetryForm = iota // a number of seconds
	RetryDate                      // an HTTP date
	RetryNone                      // no header
	RetryPast                      // a date one hour ago
	RetryFar                       // a date a hundred years ahead
	RetryOverflow                  // more seconds than fit into 64 bits
	RetryGarbage                   // neither a number nor a date
	retryForms
)
