package acmeclient

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRefusalIsBoundedAndClean(t *testing.T) {
	before := time.Now()
	p := Refusal(&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"99999999"}}}, []byte("no\x1b more\n"+strings.Repeat("x", 2*maxDetail)))
	if p.Status != 429 || !strings.HasPrefix(p.Detail, "no? more xxx") || len(p.Detail) > maxDetail {
		t.Errorf("got status %d and %.40q… (%d bytes)", p.Status, p.Detail, len(p.Detail))
	}
	if p.RetryAt.Before(before.Add(maxRetryAfter)) || p.RetryAt.After(time.Now().Add(maxRetryAfter)) {
		t.Errorf("got %v, want %v from now", p.RetryAt, maxRetryAfter)
	}
}
