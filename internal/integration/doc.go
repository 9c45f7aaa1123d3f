// Package integration holds tests of the whole library against things that
// others wrote: Pebble and step-ca in process, certmagic and autocert, curl
// and openssl, the operating system's kill. It is a module of its own, so that
// the library's users never see what these need.
package integration
