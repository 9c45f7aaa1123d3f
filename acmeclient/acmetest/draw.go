package acmetest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// maxHits bounds faults; see Faults.
const maxHits = 2

// rand returns the random numbers of one occasion.
func (ca *CA) rand(what string, op Op) *rand.Rand {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %q %q %d", ca.Seed, what, op.Kind, op.Object, op.Nth))
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])))
}

// chance draws whether something happens.
func (ca *CA) chance(share float64, what string, op Op) bool {
	return share > 0 && ca.rand(what, op).Float64() < share
}

// polls draws for how many looks something takes: none, or one to five.
func (ca *CA) polls(share float64, what string, op Op) int {
	if !ca.chance(share, what, op) {
		return 0
	}
	return 1 + ca.rand(what+" polls", op).IntN(5)
}

// shuffle draws another order of a list.
func shuffle[T any](ca *CA, op Op, what string, list []T) {
	if ca.chance(ca.Faults.Shuffle, "shuffle "+what, op) {
		ca.rand("order of "+what, op).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
}

// decide says what goes wrong with a request.
func (ca *CA) decide(op Op) Fault {
	if ca.Fault != nil {
		if f := ca.Fault(op); f != FaultNone {
			return f
		}
	}
	fault := ca.drawFault(op)
	s := ca.lock()
	defer ca.mu.Unlock()
	return s.bound(op, fault)
}

// drawFault draws the fault of a request.
func (ca *CA) drawFault(op Op) Fault {
	f := ca.Faults
	serverError := Fault500
	if ca.chance(0.5, "which server error", op) {
		serverError = Fault503
	}
	draws := []struct {
		share float64
		fault Fault
	}{
		{f.LostRequest, FaultBefore}, {f.LostReply, FaultAfter}, {f.Hang, FaultHang},
		{f.BadNonce, FaultBadNonce}, {f.ServerError, serverError}, {f.RateLimited, Fault429},
		{f.Garbage, FaultGarbage}, {f.Huge, FaultHuge},
	}
	// Which fault is tried first changes, lest the later ones starve.
	first := ca.rand("first fault", op).IntN(len(draws))
	for i := range draws {
		d := draws[(first+i)%len(draws)]
		signed := steps[op.Kind].signed != unsigned
		if (d.fault != FaultBadNonce || signed) && ca.chance(d.share, "fault "+d.fault.String(), op) {
			return d.fault
		}
	}
	return FaultNone
}

// bound takes a drawn fault back if there were enough. The state is locked.
func (s *state) bound(op Op, fault Fault) Fault {
	if fault != FaultNone && s.allow(op.Object, op.Kind) {
		return fault
	}
	switch op.Kind {
	case kindNewOrder, kindOrder, kindAuthz, kindChallenge, kindFinalize, kindCertificate:
		// Counted until a certificate is downloaded; see delivered.
	default:
		delete(s.hits[op.Object], op.Kind)
	}
	return FaultNone
}

// allow counts a fault, and reports false if there were enough. The state is
// locked.
func (s *state) allow(object, kind string) bool {
	if s.hits[object] == nil {
		s.hits[object] = map[string]int{}
	}
	if s.hits[object][kind] >= maxHits {
		return false
	}
	s.hits[object][kind]++
	return true
}

// delivered lets counting begin again for the names of a certificate that was
// downloaded, if it is a right one.
func (ca *CA) delivered(c *certificate) {
	if c.wrong != NotWrong {
		return
	}
	s := ca.lock()
	defer ca.mu.Unlock()
	delete(s.hits, c.order.object())
	for _, name := range c.order.names {
		delete(s.hits, name)
	}
}

// digestOf is base64url of the SHA-256 of a text.
func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// digest64 is base64url of a hash of some values.
func digest64(parts ...any) string { return digestOf(fmt.Sprintf("%q", parts)) }
