// Package md gets, renews and serves TLS certificates for Go servers.
package md
