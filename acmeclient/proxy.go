package acmeclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// noProxy is what CA.Proxy says if connections are to be made directly, whatever the environment says.
const noProxy = "none"

const maxProxy = 2048 // bytes

// parseProxy reads CA.Proxy. It returns nil for none and for what the environment says. Errors do not have its password.
func parseProxy(s string) (*url.URL, error) {
	if s == "" || s == noProxy {
		return nil, nil
	}
	if len(s) > maxProxy {
		return nil, fmt.Errorf("the Proxy is longer than %d bytes", maxProxy)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("the Proxy is not a URL; it must look like http://host:port, or be none")
	}
	shown := clean(u.Redacted(), 256)
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, fmt.Errorf("the Proxy %q has the scheme %q; it must be http, https or socks5, as in http://host:port", shown, clean(u.Scheme, 32))
	}
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return nil, fmt.Errorf("the Proxy %q has no host; it must look like http://host:port", shown)
	case u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("the Proxy %q has more than host and port; it must look like http://host:port", shown)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("the Proxy %q has an invalid port", shown)
		}
	}
	return u, nil
}

// canonicalProxy returns the one form of the words for no proxy, and everything else as it is.
func canonicalProxy(s string) string {
	s = strings.TrimSpace(s)
	if strings.EqualFold(s, noProxy) || strings.EqualFold(s, "direct") {
		return noProxy
	}
	return s
}

// useProxy makes t's connections as CA.Proxy says. Empty: as they are.
func useProxy(t *http.Transport, proxy string) error {
	u, err := parseProxy(proxy)
	if err != nil || proxy == "" {
		return err
	}
	t.Proxy = nil
	if u != nil {
		t.Proxy = http.ProxyURL(u)
	}
	return nil
}
