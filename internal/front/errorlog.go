package front

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// errorLog makes of l what http.Server logs to. A nil l is slog.Default().
func errorLog(l *slog.Logger) *log.Logger {
	if l == nil {
		l = slog.Default()
	}
	return log.New(errorWriter{l}, "", 0)
}

// errorWriter takes one message of http.Server at a time.
type errorWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w errorWriter) Write(message []byte) (int, error) {
	text := string(bytes.TrimSpace(message))
	w.log.Log(context.Background(), level(message), "HTTP server", "message", text)
	return len(message), nil
}

// level tells what an operator can do something about from what any scanner
// on the Internet can cause at will. What net/http says about HTTP/1 is about
// handlers and listeners, but for handshakes; what it says about HTTP/2 is
// about peers, but for panics.
func level(message []byte) slog.Level {
	switch {
	case bytes.HasPrefix(message, []byte("http: panic serving")),
		bytes.HasPrefix(message, []byte("http2: panic serving")):
		return slog.LevelError
	case bytes.HasPrefix(message, []byte("http: TLS handshake error")):
		return slog.LevelDebug
	case bytes.HasPrefix(message, []byte("http: ")):
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
