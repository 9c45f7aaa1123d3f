package acmetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// network returns a CA that is served, and a client of it.
func network(t *testing.T, ca *CA) *wire {
	t.Helper()
	ca.Start(t)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.TLSRoots()}, ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	w := &wire{hc: &http.Client{Transport: transport}, key: ecdsaKey(t)}
	if err := w.discover(t.Context(), ca); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestFaultsOverTheNetwork(t *testing.T) {
	var next Fault
	var mu sync.Mutex // guards next
	arrived := make(chan Fault, 4)
	ca := &CA{Fault: func(op Op) Fault {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind != kindNewAccount {
			return FaultNone
		}
		arrived <- next
		return next
	}}
	w := network(t, ca)
	for _, fault := range []Fault{FaultBefore, FaultAfter, FaultHuge, FaultHang} {
		t.Run("fail by "+fault.String(), func(t *testing.T) {
			mu.Lock()
			next = fault
			mu.Unlock()
			var watch sync.WaitGroup
			defer watch.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			watch.Go(func() {
				select {
				case f := <-arrived:
					// Nothing but the client's end ends a hanging request.
					if f == FaultHang {
						cancel()
					}
				case <-ctx.Done():
				}
			})
			if a, err := w.try(ctx, w.url("newAccount"), map[string]any{}, alter{}); err == nil {
				t.Errorf("got %d, want no answer", a.status)
			}
			if got, want := len(ca.Accounts()) > 0, fault != FaultBefore; got != want {
				t.Errorf("an account was made: %v, want %v", got, want)
			}
		})
	}
	ca.SetDown(true)
	if err := w.discover(t.Context(), ca); err == nil {
		t.Error("a CA that is down answers")
	}
}

func TestCloseEndsHangingRequests(t *testing.T) {
	arrived := make(chan struct{})
	ca := &CA{Fault: func(op Op) Fault {
		if op.Kind == kindNewNonce {
			close(arrived)
			return FaultHang
		}
		return FaultNone
	}}
	w := network(t, ca)
	done := make(chan error, 1)
	go func() {
		_, err := w.do(context.Background(), http.MethodHead, w.url("newNonce"), nil)
		done <- err
	}()
	<-arrived
	ca.Close()
	if err := <-done; err == nil {
		t.Error("the hanging request was answered")
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	s := newSite()
	ca := &CA{Seed: 3, Faults: Faults{
		BadNonce: 0.3, ServerError: 0.1, LostReply: 0.1, Shuffle: 0.5, ReuseOrder: 0.5,
	}, AuthzReuse: 0.5, LookupTXT: s.lookupTXT}
	defer ca.Close()
	var all sync.WaitGroup
	for i := range 8 {
		h := newHonest(t, ca, s, "mailto:many@x.test")
		all.Go(func() {
			// No waiting: the real clock is not worth it.
			var err error
			for range 20 {
				if err = h.attempt(t.Context(), []string{string(rune('a'+i%3)) + ".test"}); err == nil {
					return
				}
			}
			t.Error(err)
		})
	}
	all.Wait()
	if got := len(ca.Accounts()); got != 8 {
		t.Errorf("%d accounts, want 8", got)
	}
}

func TestLoggerSeesNoSecrets(t *testing.T) {
	var log bytes.Buffer
	s := newSite()
	ca := &CA{
		LookupTXT: s.lookupTXT,
		Logger:    slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w := registered(t, ca)
	w.issue(t, s, ecdsaKey(t), "a.test")
	ca.Close()
	if !strings.Contains(log.String(), "acmetest validation") {
		t.Errorf("the log has no validation: %s", log.String())
	}
	for _, values := range s.txt {
		for _, v := range values {
			if strings.Contains(log.String(), v) {
				t.Error("the log has a challenge's answer")
			}
		}
	}
}

func TestUnreadableBodiesAreRefused(t *testing.T) {
	ca := &CA{}
	defer ca.Close()
	body := io.MultiReader(strings.NewReader("{"), errReader{})
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://acme.test/acme/new-order", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := ca.Client().Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d, want 400", res.StatusCode)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&wire{hc: ca.Client()}).do(ctx, http.MethodGet, ca.DirectoryURL(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled request ends with %v, want its cause", err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }
