package acmeclient

import (
	"strings"
	"sync"
	"time"
)

const (
	maxNonces   = 32              // kept; a session uses one at a time
	maxNonceAge = 5 * time.Minute // a refused nonce costs as much as asking for one, so a guess is good enough
	maxNonceLen = 512             // bytes
)

// nonces keeps the nonces that came with replies (RFC 8555 §6.5.1) for all sessions with one CA. Its zero value is empty.
type nonces struct {
	mu   sync.Mutex // guards kept
	kept []nonce    // the freshest is the last
}

type nonce struct {
	value string
	at    time.Time
}

// put keeps a nonce that arrived at that time. An empty one is ignored.
func (n *nonces) put(value string, at time.Time) {
	if value == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.kept) >= maxNonces {
		n.kept = append(n.kept[:0], n.kept[1:]...)
	}
	n.kept = append(n.kept, nonce{value, at})
}

// take returns the freshest nonce and forgets it, or returns "" if there is none that is fresh enough.
func (n *nonces) take(now time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.kept) == 0 {
		return ""
	}
	last := n.kept[len(n.kept)-1]
	n.kept = n.kept[:len(n.kept)-1]
	if now.Sub(last.at) > maxNonceAge {
		n.kept = nil // all others are older
		return ""
	}
	return last.value
}

func (n *nonces) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = nil
}

// nonce returns the reply's nonce, or "" if it has none. RFC 8555 §6.5.1: clients MUST ignore one that is not base64url.
func (r *reply) nonce() string {
	v := r.header.Get("Replay-Nonce")
	if len(v) > maxNonceLen || !isBase64URL(v) {
		return ""
	}
	return v
}

// isBase64URL reports whether s consists of the characters of base64url without padding (RFC 4648 §5). Empty does.
func isBase64URL(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
