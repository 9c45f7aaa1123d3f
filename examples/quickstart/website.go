package main

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/status"
)

// website is what is served over HTTPS: any http.Handler would do.
func website(m *md.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello from %s, over %s.\n", r.Host, r.Proto)
	})
	mux.Handle("/md-status", hereOnly(status.Text(m)))
	mux.Handle("/md-status.json", hereOnly(status.JSON(m)))
	return mux
}

// hereOnly hides h from other machines: the status tells all names and what
// goes wrong with them.
func hereOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
