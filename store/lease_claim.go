package store

import (
	"encoding/json"
	"fmt"
	"time"
)

// claim is the value of a lease. ID is drawn for each acquisition, and Count
// goes up with each renewal, so that no two writes of a lease have ever the
// same content, and no Version comes back.
type claim struct {
	Holder string `json:"holder"`
	ID     string `json:"id"`
	Count  uint64 `json:"count"`
	TTL    int64  `json:"ttl-ms"`
}

func (c claim) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	return append(b, '\n')
}

// decodeClaim reads what another wrote. What is not a claim at all is a
// claim by nobody: it is never renewed, and so taken over after a TTL.
func decodeClaim(value []byte) claim {
	var c claim
	if json.Unmarshal(value, &c) != nil || c.ID == "" {
		return claim{}
	}
	return c
}

// is reports whether c is the very same write as d.
func (c claim) is(d claim) bool { return c.ID == d.ID && c.Count == d.Count }

// who names the holder in an error. It may be anything, of any length.
func (c claim) who() string {
	switch {
	case c.ID == "":
		return "unknown: the value is not that of a lease"
	case c.Holder == "":
		return "unknown"
	}
	return fmt.Sprintf("%.100q", c.Holder)
}

// ttl is the holder's own TTL, or 0 if it says none that can be meant.
func (c claim) ttl() time.Duration {
	if c.TTL < 0 || c.TTL > maxTTL.Milliseconds() {
		return 0
	}
	return time.Duration(c.TTL) * time.Millisecond
}
