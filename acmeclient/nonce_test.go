package acmeclient

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNoncesTakesTheFreshestFirst(t *testing.T) {
	var n nonces
	n.put("a", testNow)
	n.put("b", testNow.Add(time.Second))
	n.put("", testNow)
	for _, want := range []string{"b", "a", ""} {
		if got := n.take(testNow); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNoncesForgetsTheOld(t *testing.T) {
	var n nonces
	n.put("a", testNow)
	n.put("b", testNow.Add(time.Minute))
	if got := n.take(testNow.Add(time.Minute + maxNonceAge)); got != "b" {
		t.Errorf("got %q, want b", got)
	}
	if got := n.take(testNow.Add(time.Minute + maxNonceAge)); got != "" {
		t.Errorf("got %q, want none: it is too old", got)
	}
	n.put("c", testNow)
	n.clear()
	if got := n.take(testNow); got != "" {
		t.Errorf("got %q after clear, want none", got)
	}
}

func TestNoncesIsBounded(t *testing.T) {
	var n nonces
	for i := range 3 * maxNonces {
		n.put(fmt.Sprint(i), testNow)
	}
	if got := len(n.kept); got != maxNonces {
		t.Errorf("got %d nonces, want %d", got, maxNonces)
	}
	if got, want := n.take(testNow), fmt.Sprint(3*maxNonces-1); got != want {
		t.Errorf("got %q, want the freshest, %q", got, want)
	}
}

func TestANonceThatIsNoBase64URLIsIgnored(t *testing.T) {
	for value, want := range map[string]string{
		"Abc-_9":                           "Abc-_9",
		"a+b":                              "",
		"a=":                               "",
		"a b":                              "",
		`a","x":"`:                         "",
		"":                                 "",
		strings.Repeat("a", maxNonceLen):   strings.Repeat("a", maxNonceLen),
		strings.Repeat("a", 1+maxNonceLen): "",
		"nonce\u202e":                      "",
	} {
		r := &reply{header: http.Header{"Replay-Nonce": {value}}}
		if got := r.nonce(); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}
