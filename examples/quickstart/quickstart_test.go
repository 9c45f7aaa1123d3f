package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// started is a quickstart that has announced what it serves.
type started struct {
	told  string // what it has printed so far
	lines *bufio.Scanner
	stop  context.CancelFunc
	ended chan error
}

var curlLine = regexp.MustCompile(`curl --cacert (\S+) --resolve ([^:]+):(\d+):127\.0\.0\.1 (https://\S+)`)

// start runs quickstart until it has printed what to paste.
func start(t *testing.T, args ...string) *started {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	out, in := io.Pipe()
	t.Cleanup(func() { out.Close() })
	s := &started{lines: bufio.NewScanner(out), stop: stop, ended: make(chan error, 1)}
	go func() {
		err := run(ctx, args, in)
		in.CloseWithError(err)
		s.ended <- err
	}()
	for s.lines.Scan() {
		s.told += s.lines.Text() + "\n"
		if strings.Contains(s.lines.Text(), "Ctrl-C") {
			return s
		}
	}
	t.Fatalf("quickstart ended early (%v); it told:\n%s", s.lines.Err(), s.told)
	return nil
}

// end stops quickstart and reads what it still tells.
func (s *started) end(t *testing.T) {
	t.Helper()
	s.stop()
	for s.lines.Scan() {
		s.told += s.lines.Text() + "\n"
	}
	if err := <-s.ended; err != nil {
		t.Errorf("quickstart ended with %v; it told:\n%s", err, s.told)
	}
	if !strings.HasSuffix(s.told, "Stopped.\n") {
		t.Errorf("the last words are not that it stopped:\n%s", s.told)
	}
}

// get does what the printed curl line would do, with path in the place of /.
func (s *started) get(t *testing.T, path string) string {
	t.Helper()
	found := curlLine.FindStringSubmatch(s.told)
	if found == nil {
		t.Fatalf("there is no curl line in:\n%s", s.told)
	}
	roots, err := os.ReadFile(found[1])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		t.Fatalf("%s holds no certificate", found[1])
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", found[3]))
		},
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(strings.TrimSuffix(found[4], "/") + path)
	if err != nil {
		t.Fatalf("the printed curl line would fail: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, response.Status, err)
	}
	return string(body)
}

func TestQuickstart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")

	first := start(t, "-dir", dir)
	if got, want := first.get(t, "/"), "Hello from app.localhost"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
	if got := first.get(t, "/md-status"); !strings.Contains(got, "www.app.localhost") {
		t.Errorf("the status does not tell the alias:\n%s", got)
	}
	if got := first.get(t, "/md-status.json"); !strings.Contains(got, `"state":"good"`) {
		t.Errorf("the status as JSON does not tell that all is good:\n%s", got)
	}
	first.end(t)
	for _, word := range []string{"account", "order", "challenge", "staged", "active"} {
		if !strings.Contains(first.told, " "+word+" ") {
			t.Errorf("no step tells of %q:\n%s", word, first.told)
		}
	}
	if strings.Contains(first.told, "Nothing was ordered") {
		t.Errorf("the first start claims to have ordered nothing:\n%s", first.told)
	}

	second := start(t, "-dir", dir)
	if !strings.Contains(second.told, "Nothing was ordered") {
		t.Errorf("the second start does not tell that it ordered nothing:\n%s", second.told)
	}
	second.get(t, "/")
	second.end(t)
	if got, want := curlLine.FindString(second.told), curlLine.FindString(first.told); got != want {
		t.Errorf("the second start's line is\n%s\nwant the first one's\n%s", got, want)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, args := range [][]string{
		{"example.com"},
		{"-http", "nonsense"},
		{"-dir", t.TempDir(), "-ca", "no such CA"},
	} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/home/me/roots.pem": "/home/me/roots.pem",
		"/my dir/roots.pem":  "'/my dir/roots.pem'",
		"/it's/roots.pem":    `'/it'\''s/roots.pem'`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) is %s, want %s", in, got, want)
		}
	}
}
