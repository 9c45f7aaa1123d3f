// Quickstart gets a certificate and serves it, and tells each step.
//
//	go run ./examples/quickstart
//
// starts a CA on loopback in this process (see examples/localca), and a
// server with a Manager that gets its certificate there. What it gets is kept
// in a directory, so that a second start orders nothing. The same program
// runs against a real CA:
//
//	go run ./examples/quickstart -ca letsencrypt-staging -domain example.com \
//		-email you@example.com -http :80 -https :443
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/manageddomains/md"
	"github.com/manageddomains/md/examples/localca"
	"github.com/manageddomains/md/status"
	"github.com/manageddomains/md/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	names       []string
	ca          string
	email       string
	dir         string
	http, https string
}

func parse(args []string) (options, error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	domain := flags.String("domain", "app.localhost,www.app.localhost", "`names` to get a certificate for, separated by commas")
	ca := flags.String("ca", "", "the CA: letsencrypt, letsencrypt-staging or the `URL` of an ACME directory; empty starts one on loopback")
	email := flags.String("email", "", "`address` where the CA may reach you")
	dir := flags.String("dir", defaultDir(), "`directory` where everything is kept")
	plain := flags.String("http", "127.0.0.1:0", "`address` for plain HTTP; a real CA must reach it as port 80, or -https as port 443")
	secure := flags.String("https", "127.0.0.1:0", "`address` for HTTPS")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("what is %q? names go into -domain, separated by commas", flags.Arg(0))
	}
	path, err := filepath.Abs(*dir)
	return options{strings.Split(*domain, ","), *ca, *email, path, *plain, *secure}, err
}

// defaultDir is the same at each start, so that the second finds what the
// first has kept.
func defaultDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "md-quickstart")
}

// run does what args say until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Everything is kept in", o.dir)
	plain, err := listen(o.http, filepath.Join(o.dir, "http-address"))
	if err != nil {
		return err
	}
	defer plain.Close()
	secure, err := listen(o.https, filepath.Join(o.dir, "https-address"))
	if err != nil {
		return err
	}
	defer secure.Close()

	ca, roots, stop, err := chooseCA(o, port(plain), port(secure))
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintln(out, "The CA is", ca.Name, ca.URL)

	var ordered atomic.Bool
	m := &md.Manager{
		Domains:     []md.Domain{{Names: o.names, CAs: []md.CA{ca}}},
		AcceptTerms: true, // real CAs have terms of service: whoever runs this against one agrees to them
		Store:       store.NewDir(filepath.Join(o.dir, "store")),
		Logger:      slog.New(newSteps(out)),
		Notifier: md.NotifierFunc(func(_ context.Context, e md.Event) error {
			if e.Kind == status.Renewing {
				ordered.Store(true)
			}
			return nil
		}),
	}
	if o.email != "" {
		m.Default.Contacts = []string{"mailto:" + o.email}
	}

	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		served <- m.Serve(ctx, website(m), plain, secure)
		cancel() // Ready has nothing to wait for any more
	}()
	if err := m.Ready(ctx); err == nil {
		announce(out, m, o, secure, roots, ordered.Load())
	} else if ctx.Err() == nil {
		fmt.Fprintln(out, err)
	}
	err = <-served
	cancel()
	fmt.Fprintln(out, "Stopped.")
	return err
}

// chooseCA returns the CA that o wants, the file with its roots if it is not
// one that everybody trusts, and how to stop it.
func chooseCA(o options, httpPort, tlsPort int) (ca md.CA, roots string, stop func(), err error) {
	nothing := func() {}
	switch {
	case strings.Contains(o.ca, "://"):
		return md.CA{URL: o.ca}, "", nothing, nil
	case o.ca != "":
		return md.CA{Name: o.ca}, "", nothing, nil
	}
	dir := filepath.Join(o.dir, "ca")
	listener, err := listen("127.0.0.1:0", filepath.Join(dir, "address"))
	if err != nil {
		return md.CA{}, "", nil, err
	}
	local, err := localca.Start(localca.Config{Listener: listener, HTTPPort: httpPort, TLSPort: tlsPort, Dir: dir})
	if err != nil {
		return md.CA{}, "", nil, err
	}
	roots, err = local.WriteRoots()
	if err != nil {
		return md.CA{}, "", nil, errors.Join(err, local.Close())
	}
	ca = md.CA{Name: "local", URL: local.DirectoryURL(), Roots: local.TLSRoots()}
	return ca, roots, func() { local.Close() }, nil
}

// announce tells what is served, and how to look at it.
func announce(out io.Writer, m *md.Manager, o options, secure net.Listener, roots string, ordered bool) {
	fmt.Fprintln(out)
	for domain := range m.Status() {
		for _, c := range domain.Certificates {
			fmt.Fprintf(out, "%s: certificate %s from %s, valid until %s\n",
				domain.Name, c.Serial, c.Issuer, c.NotAfter.Format("2006-01-02 15:04"))
		}
	}
	if !ordered {
		fmt.Fprintln(out, "Nothing was ordered: it was in the store.")
	}
	name := o.names[0]
	address := fmt.Sprintf("%s:%d", name, port(secure))
	curl := "curl"
	if roots != "" {
		curl += " --cacert " + quote(roots)
	}
	fmt.Fprintf(out, "\nStatus: https://%s/md-status and https://%s/md-status.json\n", address, address)
	fmt.Fprintf(out, "Paste this:\n\n  %s --resolve %s:127.0.0.1 https://%s/\n\nCtrl-C stops.\n", curl, address, address)
}

// quote makes one word of s for a shell.
func quote(s string) string {
	if !strings.ContainsAny(s, " '\"\\$&;()<>*?[]#~`|!") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
