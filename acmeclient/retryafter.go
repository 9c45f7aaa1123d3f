package acmeclient

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a CA may ask for. The longest that is known to be meant is Let's Encrypt's refill for an exact set of
// names, 34 hours; without a bound, one wrong header would stop renewals for good.
const maxRetryAfter = 48 * time.Hour

// parseRetryAfter reads a Retry-After header (RFC 9110 §10.2.3): seconds, or a date, which is compared with now.
// It returns between 0 and 48 hours; 0 if there is none, it says at once, it lies in the past, or it is garbage.
func parseRetryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 64 {
		return 0
	}
	if strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > int64(maxRetryAfter/time.Second) { // all digits: the error is an overflow
			return maxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	date, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}
