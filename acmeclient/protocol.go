package acmeclient

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"runtime"
	"strings"
)

// A Protocol is how a CA is spoken to.
type Protocol string

const (
	// ACME is RFC 8555, which all CAs speak that package acmeclient can ask.
	ACME Protocol = ""

	// Tailscale gets certificates for the machine's name in a tailnet from the Tailscale daemon of this machine: see
	// package tailscale. There is no account, and nothing is to be proved.
	Tailscale Protocol = "tailscale"
)

// parseProtocol returns the Protocol that ca means, in its one spelling.
func parseProtocol(ca CA) (Protocol, error) {
	switch said := strings.ToLower(strings.TrimSpace(string(ca.Protocol))); {
	case said == string(Tailscale), said == "" && ca.URL == "" && strings.EqualFold(strings.TrimSpace(ca.Name), string(Tailscale)):
		return Tailscale, nil
	case said == "" || said == "acme":
		return ACME, nil
	default:
		return "", fmt.Errorf("the CA protocol %q is not known; known are ACME and tailscale", clean(string(ca.Protocol), 32))
	}
}

// locateSocket fills in Name and URL of a Tailscale daemon.
func (ca CA) locateSocket() (CA, error) {
	switch {
	case !ca.EAB.IsZero() || !ca.RehearsalEAB.IsZero() || ca.AccountKey != nil:
		return CA{}, errors.New("the Tailscale daemon has no accounts: leave EAB and AccountKey out")
	case ca.Proxy != "" || ca.Roots != nil:
		return CA{}, errors.New("the Tailscale daemon is asked through a socket of this machine: leave Proxy and Roots out")
	}
	if known := knownByName(strings.TrimSpace(ca.Name)); known != nil {
		return CA{}, fmt.Errorf("the CA name %q means %s, but the protocol is tailscale: leave one of them out", known.Name, known.URL)
	}
	if ca.Name == "" || strings.EqualFold(strings.TrimSpace(ca.Name), string(Tailscale)) {
		ca.Name = string(Tailscale)
	}
	if ca.URL == "" {
		socket := defaultSocket(runtime.GOOS)
		if socket == "" {
			return CA{}, fmt.Errorf("on %s the Tailscale daemon has no socket in a known place: say where, as in file:///path/of/tailscaled.sock", runtime.GOOS)
		}
		ca.URL = "file://" + socket
		return ca, nil
	}
	socket, err := parseSocketURL(ca.URL)
	if err != nil {
		return CA{}, fmt.Errorf("the CA URL %q %w", clean(ca.URL, 256), err)
	}
	ca.URL = (&url.URL{Scheme: "file", Path: socket}).String()
	return ca, nil
}

// Socket returns the path of the Tailscale daemon's socket, "" if ca, once resolved, has another Protocol.
func (ca CA) Socket() string {
	if ca.Protocol != Tailscale {
		return ""
	}
	socket, err := parseSocketURL(ca.URL)
	if err != nil {
		return ""
	}
	return socket
}

// parseSocketURL returns the path in a file URL (RFC 8089), or what is wrong with it as the rest of a sentence.
func parseSocketURL(s string) (string, error) {
	if len(s) > maxDirectoryURL {
		return "", fmt.Errorf("is longer than %d bytes", maxDirectoryURL)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", errors.New("is not a URL")
	case u.Scheme != "file":
		return "", fmt.Errorf("has the scheme %q, but with the protocol tailscale it is the socket of the daemon, as in file:///path/of/tailscaled.sock", clean(u.Scheme, 32))
	case u.Host != "" && u.Host != "localhost" || u.User != nil:
		return "", errors.New("names another host, but sockets are on this one: write file:///path")
	case u.Opaque != "" || !path.IsAbs(u.Path) || path.Clean(u.Path) == "/" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsRune(u.Path, 0):
		return "", errors.New("is not the absolute path of a socket, as in file:///path/of/tailscaled.sock")
	}
	return path.Clean(u.Path), nil
}

// defaultSocket returns where tailscaled has its socket. On Windows it has a named pipe.
func defaultSocket(goos string) string {
	switch goos {
	case "windows", "plan9", "js", "wasip1":
		return ""
	case "darwin":
		return "/var/run/tailscaled.socket"
	}
	return "/var/run/tailscale/tailscaled.sock"
}
