package front

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// inFlight runs s with a request in flight whose handler is h, ends the
// context, and reports how long Run then takes and what the client gets.
func inFlight(t *testing.T, grace time.Duration, h http.HandlerFunc) (took time.Duration, response string) {
	t.Helper()
	l := newPipeListener()
	entered := make(chan struct{})
	stop := run(t, &Servers{Plain: l, Grace: grace, PlainHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		h(w, r)
	})})
	conn := l.connect(t)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		b, _ := io.ReadAll(conn)
		response = string(b)
	})
	<-entered
	start := time.Now()
	stop()
	took = time.Since(start)
	reading.Wait()
	return took, response
}

func TestARequestInFlightMayEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, response := inFlight(t, 0, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(5 * time.Second):
				io.WriteString(w, "done")
			case <-r.Context().Done():
				t.Error("the request was ended within the time of grace")
			}
		})
		if !strings.HasSuffix(response, "\r\n\r\ndone") {
			t.Errorf("the client got %q, want done", response)
		}
		if took < 5*time.Second || took > 6*time.Second {
			t.Errorf("Run took %v to end, want the 5 s of the request", took)
		}
	})
}

func TestARequestIsEndedAfterTheGrace(t *testing.T) {
	for name, c := range map[string]struct{ grace, want time.Duration }{
		"zero is the default":  {0, defaultGrace},
		"it can be chosen":     {3 * time.Second, 3 * time.Second},
		"negative is at once":  {-1, 0},
		"it can be very short": {1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := false
				took, _ := inFlight(t, c.grace, func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					left = true
				})
				if !left {
					t.Error("Run returned before the handler")
				}
				if took != c.want {
					t.Errorf("Run took %v to end, want %v", took, c.want)
				}
			})
		})
	}
}

func TestAHandlerThatNeverEndsIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		took, _ := inFlight(t, time.Second, func(http.ResponseWriter, *http.Request) { <-release })
		close(release)
		if want := time.Second + leaveTime; took != want {
			t.Errorf("Run took %v to end, want %v", took, want)
		}
	})
}

// Shutdown does not know of connections that a handler has taken over.
func TestAHijackedConnectionMayEnd(t *testing.T) {
	for name, c := range map[string]struct{ needs, want time.Duration }{
		"within the grace":          {5 * time.Second, 5 * time.Second},
		"with its context after it": {time.Hour, defaultGrace},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, response := inFlight(t, 0, func(w http.ResponseWriter, r *http.Request) {
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					select {
					case <-time.After(c.needs):
					case <-r.Context().Done():
					}
					io.WriteString(conn, "done")
				})
				if response != "done" {
					t.Errorf("the client got %q, want done", response)
				}
				if took != c.want {
					t.Errorf("Run took %v to end, want %v", took, c.want)
				}
			})
		})
	}
}

func TestAnHTTP2RequestInFlightMayEnd(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := &Servers{Secure: listen(t), TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-release
			io.WriteString(w, r.Proto)
		})}
	stop := run(t, s)
	var requesting sync.WaitGroup
	requesting.Go(func() {
		r, err := client(t, s, true).Get("https://example.com/")
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Body.Close()
		checkAnswer(t, r, 200, "HTTP/2.0")
	})
	<-entered
	var stopping sync.WaitGroup
	stopping.Go(stop)
	// The listener is closed first, so the stop is under way by then.
	for {
		conn, err := net.Dial("tcp", s.Secure.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	close(release)
	requesting.Wait()
	stopping.Wait()
}

// failingListener fails at once.
type failingListener struct {
	net.Listener
	err error
}

func (l failingListener) Accept() (net.Conn, error) { return nil, l.err }

func TestRunReturnsTheFirstError(t *testing.T) {
	want := errors.New("the network is gone")
	s := &Servers{
		Plain:  failingListener{listen(t), want},
		Secure: listen(t),
		TLS:    &tls.Config{Certificates: []tls.Certificate{certificate(t)}},
		Logger: slog.New(slog.DiscardHandler),
	}
	if err := s.Run(t.Context()); !errors.Is(err, want) || !strings.Contains(err.Error(), "plain") {
		t.Errorf("Run: %v, want %v of the plain server", err, want)
	}
	if _, err := s.Secure.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the other listener: %v, want it closed", err)
	}
	if err := (&Servers{Secure: listen(t)}).Run(t.Context()); err == nil {
		t.Error("Run without a TLS configuration returned nil")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s := &Servers{Plain: listen(t), Secure: listen(t), TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}}
	if err := s.Run(ended); err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
	if err := new(Servers).Run(ended); err != nil {
		t.Errorf("Run of no server: %v, want nil", err)
	}
}
