package tailscale

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manageddomains/md/acmeclient"
)

const machine = "host.tail1234.ts.net"

func wantProblem(t testing.TB, err error, want string) *acmeclient.Problem {
	t.Helper()
	var p *acmeclient.Problem
	if !errors.As(err, &p) {
		t.Fatalf("got error %v, want a *Problem", err)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want %q in it", err, want)
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
		t.Errorf("got error %q, which has control characters", err)
	}
	return p
}

func TestCertificateIsWhatTheDaemonHas(t *testing.T) {
	ec := issue(t, machine)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	withRSA := issued{rsaKey, selfSigned(t, rsaKey, machine), ec.mid}
	for _, test := range []struct {
		name   string
		answer string
		want   issued
	}{
		{"key first, as the daemon has it", ec.ecKey(t) + ec.chain(), ec},
		{"certificates first", ec.chain() + ec.ecKey(t), ec},
		{"the key in PKCS #8", pkcs8(t, ec.key) + ec.chain(), ec},
		{"an RSA key", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)) + withRSA.chain(), withRSA},
		{"white space at the end", ec.ecKey(t) + ec.chain() + " \n\n", ec},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &daemon{pair: says(200, test.answer, "Content-Type: text/plain")}
			chain, key, err := d.start(t).Certificate(t.Context(), machine, 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(chain) != 2 || !bytes.Equal(chain[0], test.want.leaf) || !bytes.Equal(chain[1], test.want.mid) {
				t.Errorf("got %d certificates, or others", len(chain))
			}
			if pub := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !pub.Equal(test.want.key.Public()) {
				t.Error("got another key")
			}
			if got := d.asked(); !slices.Equal(got, []string{"type=pair"}) {
				t.Errorf("got requests %q, want one for a pair", got)
			}
		})
	}
}

func TestAnUnchangedCertificateIsNoError(t *testing.T) {
	i := issue(t, machine)
	d := (&daemon{pair: says(200, i.ecKey(t)+i.chain())}).start(t)
	first, _, err := d.Certificate(t.Context(), machine, 0)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := d.Certificate(t.Context(), machine, 0)
	if err != nil || !bytes.Equal(first[0], second[0]) {
		t.Errorf("got another leaf, %v, want the same", err)
	}
}

func TestTheDaemonIsToldHowLongACertificateMustLast(t *testing.T) {
	before, after := issue(t, machine), issue(t, machine)
	f := &daemon{}
	f.pair = func(w http.ResponseWriter, r *http.Request) {
		i := before
		if r.URL.Query().Get("min_validity") != "" {
			i = after
		}
		says(200, i.ecKey(t)+i.chain())(w, r)
	}
	d := f.start(t)
	chain, _, err := d.Certificate(t.Context(), machine, 30*24*time.Hour+1)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(chain[0], after.leaf) {
		t.Error("got the former certificate, want the one that lasts")
	}
	if got := f.asked(); !slices.Equal(got, []string{"min_validity=2592001s&type=pair"}) {
		t.Errorf("got requests %q", got)
	}
}

func TestOldDaemonsGiveOutOneAtATime(t *testing.T) {
	i, next := issue(t, machine), issue(t, machine)
	for name, key := range map[string]issued{"": i, "is not for its private key": next} { // the latter: renewed in between
		f := &daemon{}
		f.pair = func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Query().Get("type") {
			case "crt":
				says(200, i.chain())(w, r)
			case "key":
				says(200, strings.TrimSpace(key.ecKey(t)))(w, r)
			default:
				says(400, `invalid type; want "cert" (default), or "key"`)(w, r)
			}
		}
		chain, _, err := f.start(t).Certificate(t.Context(), machine, 0)
		if name != "" {
			wantProblem(t, err, name)
			continue
		}
		if err != nil || !bytes.Equal(chain[0], i.leaf) {
			t.Errorf("got error %v, or another certificate", err)
		}
		if got := f.asked(); !slices.Equal(got, []string{"type=pair", "type=crt", "type=key"}) {
			t.Errorf("got requests %q", got)
		}
	}
}

func TestWhatTheDaemonSaysIsTold(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		want   string
		is     error
		retry  time.Duration
	}{
		{"denied", says(403, "cert access denied"), "tailscale set --operator", ErrDenied, 0},
		{"denied, in its words", says(403, "cert access denied"), "cert access denied", ErrDenied, 0},
		{"a build without certificates", says(404, "404 page not found"), "does not know them", nil, 0},
		{"a name that is not its own", says(500, `invalid domain "x"; must be one of ["`+machine+`"]`+"\n"), `must be one of ["` + machine + `"]`, nil, 0},
		{"certificates not enabled", says(500, "your Tailscale account does not support getting TLS certs"), "does not support getting TLS certs", nil, 0},
		{"a rate limit", says(429, "rate limited", "Retry-After: 3600"), "rate limited", nil, time.Hour},
		{"an absurd rate limit", says(429, "rate limited", "Retry-After: 999999999999"), "rate limited", nil, 48 * time.Hour},
		{"a redirect", says(302, "", "Location: http://ca.example/"), "Found", nil, 0},
		{"nothing", says(500, ""), "500", nil, 0},
		{"control characters", says(500, "\x1b[2Jgone\u202e"), "gone", nil, 0},
		{"very much", says(500, strings.Repeat("x", 2*maxBody)), "xxx", nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			_, key, err := (&daemon{pair: test.answer}).start(t).Certificate(t.Context(), machine, 0)
			p := wantProblem(t, err, test.want)
			if key != nil || p.Name != machine || !strings.Contains(p.Op, "Tailscale") || p.Permanent() || len(err.Error()) > 10<<10 {
				t.Errorf("got %+v", p)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want %v in it", err, test.is)
			}
			if test.retry != 0 && (p.RetryAt.Before(start.Add(test.retry)) || p.RetryAt.After(time.Now().Add(test.retry))) {
				t.Errorf("got %v, want %v from now", p.RetryAt, test.retry)
			}
			if test.retry == 0 && !p.RetryAt.IsZero() {
				t.Errorf("got %v, want no time", p.RetryAt)
			}
		})
	}
}

func TestAnswersThatCannotBeUsed(t *testing.T) {
	i, other := issue(t, machine), issue(t, machine)
	key, chain := i.ecKey(t), i.chain()
	foreign := issue(t, "other.tail1234.ts.net")
	for _, test := range []struct{ name, answer, want string }{
		{"the key of another certificate", other.ecKey(t) + chain, "is not for its private key"},
		{"a certificate for another name", foreign.ecKey(t) + foreign.chain(), "for something else"},
		{"no key", chain, "no private key"},
		{"no certificate", key, "no certificate"},
		{"nothing", "", "no private key"},
		{"two keys", key + other.ecKey(t) + chain, "more than one private key"},
		{"half of it, in a certificate", (key + chain)[:len(key)+len(chain)-40], "cut off"},
		{"half of it, in the key", key[:40], "cut off"},
		{"something behind it", key + chain + "<html>", "not all PEM"},
		{"something else", "<html><body>hello</body></html>", "not all PEM"},
		{"another kind of block", key + block("PARAMETERS", []byte{1}) + chain, "neither a key nor a certificate"},
		{"an unknown kind of key", block("SECRET PRIVATE KEY", []byte{1}) + chain, "unknown form"},
		{"an encrypted key", block("ENCRYPTED PRIVATE KEY", []byte{1}) + chain, "unknown form"},
		{"a key that is none", block("EC PRIVATE KEY", []byte{1, 2}) + chain, "cannot be read"},
		{"a huge key", block("RSA PRIVATE KEY", make([]byte, maxKey+1)) + chain, "8193 bytes"},
		{"a certificate that is none", key + block("CERTIFICATE", []byte{1, 2}), "cannot be read"},
		{"too many certificates", key + strings.Repeat(block("CERTIFICATE", i.leaf), maxChain+1), "more than 10 certificates"},
		{"very much", key + chain + strings.Repeat(" ", maxBody), "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			gotChain, gotKey, err := (&daemon{pair: says(200, test.answer)}).start(t).Certificate(t.Context(), machine, 0)
			wantProblem(t, err, test.want)
			if gotChain != nil || gotKey != nil {
				t.Error("got a certificate with the error")
			}
			if line := strings.Split(key, "\n")[1]; strings.Contains(err.Error(), line) {
				t.Error("the error shows the key")
			}
		})
	}
}

func TestAnAnswerThatBreaksOff(t *testing.T) {
	i := issue(t, machine)
	d := &daemon{pair: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, i.ecKey(t)+i.chain())
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}}
	_, _, err := d.start(t).Certificate(t.Context(), machine, 0)
	wantProblem(t, err, "broke off")
}

func TestASlowDaemonIsAskedAsLongAsTheContextLasts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &daemon{pair: func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}}
	_, _, err := d.start(t).Certificate(ctx, machine, 0)
	wantProblem(t, err, machine)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestASlowDaemonIsNotAskedForEver(t *testing.T) {
	fake := &daemon{pair: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	d := fake.start(t)
	d.limit = time.Millisecond
	_, _, err := d.Certificate(t.Context(), machine, 0)
	wantProblem(t, err, "no complete answer within 1ms")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v: it was not the caller's context that ended", err)
	}
}

func TestADaemonThatIsNotThere(t *testing.T) {
	l := listen(t)
	l.SetUnlinkOnClose(false)
	left := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, socket := range map[string]string{"no socket": left + ".none", "a socket that a daemon left behind": left} {
		_, _, err := (&Daemon{Socket: socket}).Certificate(t.Context(), machine, 0)
		p := wantProblem(t, err, "start it (systemctl start tailscaled)")
		if !errors.Is(err, ErrNotRunning) || p.Permanent() || !strings.Contains(err.Error(), socket) {
			t.Errorf("%s: got %v, want ErrNotRunning with the path", name, err)
		}
	}
	_, _, err := (&Daemon{Socket: t.TempDir()}).Certificate(t.Context(), machine, 0)
	wantProblem(t, err, "the Tailscale daemon")
}

func TestASocketThatIsNotForUs(t *testing.T) {
	c := &conversation{socket: "/s"}
	err := c.explain(&net.OpError{Op: "dial", Err: &os.PathError{Op: "connect", Path: "/s", Err: fs.ErrPermission}})
	if !errors.Is(err, ErrDenied) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want ErrDenied", err)
	}
}

func TestNamesThatWouldMakeAnotherRequest(t *testing.T) {
	f := &daemon{pair: says(200, "")}
	d := f.start(t)
	for _, name := range []string{"", ".", "..", "a/b", "a?b", "a#b", "a b", "a\r\nb", "bücher.example", "a%2fb", strings.Repeat("a", 300)} {
		_, _, err := d.Certificate(t.Context(), name, 0)
		wantProblem(t, err, "not a DNS name")
	}
	if got := f.asked(); len(got) != 0 {
		t.Errorf("got requests %q, want none", got)
	}
}

func TestTheZeroDaemonHasTheDefaultSocket(t *testing.T) {
	got, err := new(Daemon).socket()
	if runtime.GOOS == "windows" {
		if err == nil {
			t.Errorf("got %q, want an error", got)
		}
		return
	}
	if err != nil || !strings.HasPrefix(got, "/var/run/tailscale") {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzParsePair(f *testing.F) {
	i := issue(f, machine)
	f.Add([]byte(i.ecKey(f) + i.chain()))
	f.Add([]byte(i.chain()))
	f.Add([]byte(i.ecKey(f)))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nA: b\n\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		chain, key, err := parsePair(text)
		if err != nil {
			if chain != nil || key != nil {
				t.Error("got something with the error")
			}
			return
		}
		if key == nil || len(chain) == 0 || len(chain) > maxChain {
			t.Errorf("got %d certificates", len(chain))
		}
		_ = checkPair(chain[0], key, machine)
	})
}
