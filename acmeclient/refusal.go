package acmeclient

import (
	"net/http"
	"time"
)

// Refusal returns what a server that is asked for certificates in another manner than ACME's said when it refused: status,
// words and Retry-After, bounded and cleaned as those of a CA. What was asked (Op, Name, URL) is for the caller to fill in.
// body is that of res, or as much of it as has been read.
func Refusal(res *http.Response, body []byte) *Problem {
	return parseProblem(&reply{status: res.StatusCode, header: res.Header, body: body, at: time.Now()})
}
